"""Editors that evaluate drafts before they end: one that calls tools, and a command in a workspace.

Tools are described and called in text, one in each answer, so that any model can use them and every
turn is an ordinary request, which is recorded and replayed as any other. A command finds files in
its workspace; what they are at its end is its draft.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from evolve.edits.apply import is_allowed
from evolve.edits.matching import UnappliedEditError, check_frozen
from evolve.errors import BudgetExhaustedError
from evolve.models.command_models import Desk, as_messages, offering
from evolve.models.model import ReplyError
from evolve.problem import Problem
from evolve.problem.folder import MAX_FILE_BYTES
from evolve.records import Attempt, Evaluation, Plan, Program, Rejected, SourceFile, Status
from evolve.records.chat import Message, Request
from evolve.source.parsing import find_fault
from evolve.steps import prompt
from evolve.steps.execute import UNNAMED, Draft, Editor, find_base, show_task
from evolve.steps.jobs import Library
from evolve.steps.page import lessons_blocks, show_status, show_wishes, tried_block
from evolve.steps.parse import as_text, find_objects
from evolve.steps.prompt import fence

TOOLS = """{"tool": "elites"} lists good programs of the run with their objectives
{"tool": "program", "id": "..."} shows one of them
{"tool": "lessons"} lists what the run has learnt
{"tool": "search", "words": "..."} finds earlier plans, outcomes and lessons
{"tool": "statement"} shows the problem's statement
{"tool": "finish"} ends your work"""

_LONGEST_ANSWER = 6000

_RULES = """# Your work

Change the program in this folder so that its objective gets better. What its files are when you
end is your draft.

- `STATEMENT.md`: the problem. `PLAN.md`: what to do, and where the run stands. `LESSONS.md`: what
  is known to work and not to.
- The program: {files}. {editable}{more}
- `./evaluate` scores the files as they are now, and prints the verdict: {evaluations}.
- Write into `CHANGE.md`, in one or two sentences, what you changed and why.
"""

_NO_MORE = "no evaluations are left; the files are scored once more when you end"


@dataclass(eq=False)
class Agent:
    """Works on one slot until it gains, gives up, or reaches a cap.

    Args:
        editor: Knows the problem, the plan and the model, and reads replies that hold a draft.
        attempt: Evaluates a draft and keeps it.
        library: What the run has so far.
    """

    editor: Editor
    attempt: Callable[[Draft], Attempt]
    library: Library

    def __post_init__(self) -> None:
        self._messages = self.editor.open(TOOLS)
        self._evaluations = 0
        self._tokens = 0

    def work(self, draw_seed: Callable[[], int], evaluations: int) -> None:
        """Takes turns until one gains, it finishes, or a cap is reached.

        Args:
            draw_seed: Returns the seed of each request.
            evaluations: Most evaluations, beside the cap of the settings.

        Raises:
            BudgetExhaustedError: A call or an evaluation might pass a cap of the run.
            ModelError: The model cannot be used, or does not answer.
        """
        steps = self.editor.steps
        most = min(evaluations, steps.agent_evaluations)
        for _ in range(steps.agent_turns):
            if self._tokens >= steps.agent_tokens or self._evaluations >= most:
                return
            if self._turn(draw_seed()):
                return

    def give_up(self) -> None:
        """Keeps that no draft was made."""
        self._reject("the agent ended without a draft")

    def _turn(self, seed: int) -> bool:
        """Takes one turn; returns whether the work is done."""
        request = Request("editor", self._messages, seed=seed)
        try:
            reply = self.editor.ask(request)
        except ReplyError as error:
            self._reject(f"the agent's reply cannot be used: {error.reason}")
            return True
        self._tokens += reply.prompt_tokens + reply.completion_tokens
        calls = find_objects(reply.text, lambda found: bool(as_text(found.get("tool"))))
        if calls:
            answer = self._call(as_text(calls[-1]["tool"]), calls[-1])
        else:
            answer = self._evaluate(reply.text, cut_off=reply.finish_reason == "length")
        self._messages += (Message("assistant", reply.text), Message("user", answer))
        return not answer

    def _reject(self, reason: str) -> None:
        base = find_base(self.editor.digest, self.editor.plan)
        plan = self.editor.plan or Plan(UNNAMED, base=str(base.key))
        self.attempt(Draft(self._messages, base, plan, Rejected(reason)))

    def _call(self, name: str, call: dict[str, object]) -> str:
        """Returns a tool's answer, empty when the work is done."""
        lessons = self.editor.digest.lessons
        tools: dict[str, Callable[[], str]] = {
            "elites": self.library.elites,
            "program": lambda: self.library.program(as_text(call.get("id"), 40)),
            "lessons": lambda: "\n".join(f"[{one.id}] {one.lesson.claim}" for one in lessons),
            "search": lambda: self.library.search(as_text(call.get("words"), 200)),
        }
        if name == "finish":
            return ""
        if name == "statement":
            return self.editor.problem.statement.strip()
        if name not in tools:
            return f"There is no tool of that name. The tools are:\n\n{TOOLS}"
        found = tools[name]()
        return fence(found[:_LONGEST_ANSWER]) if found else "Nothing was found."

    def _evaluate(self, text: str, *, cut_off: bool) -> str:
        """Evaluates the draft in a reply; returns its verdict, empty when it gained."""
        draft = self.editor.read(self._messages, text, cut_off=cut_off)
        attempt = self.attempt(draft)
        if attempt.evaluation.status is not Status.REJECTED:
            self._evaluations += 1
        new, old = attempt.objective, draft.base.objective
        if new is not None and (old is None or self.editor.problem.direction.is_better(new, old)):
            return ""
        left = self.editor.steps.agent_evaluations - self._evaluations
        verdict = prompt.show_evaluation(attempt, self.editor.problem, detail_characters=1500)
        return f"{verdict}\n\nThis does not gain. Evaluations left: {left}."


@dataclass(eq=False)
class WorkspaceEditor:
    """Lets a command work on one slot.

    Args:
        editor: Knows the problem, the plan and the model.
        attempt: Evaluates a draft and keeps it.
        preview: Returns the verdict on a program, which is not kept yet.
        evaluations: Most evaluations of the slot; the last is that of what the command leaves.
    """

    editor: Editor
    attempt: Callable[[Draft], Attempt]
    preview: Callable[[Attempt, Program], Evaluation]
    evaluations: int

    def __post_init__(self) -> None:
        self._left = max(0, self.evaluations - 1)
        self._base = _choose_base(self.editor)
        self._problem = self.editor.problem

    def work(self, seed: int) -> None:
        """Lets the command work, then keeps all of its drafts in order.

        Raises:
            BudgetExhaustedError: The call or an evaluation might pass a cap.
            ModelError: The command cannot be started.
        """
        editor, program = self.editor, self._base.program_or_fail
        files = workspace_files(editor, self._base, self._left)
        request = Request("editor", as_messages(files), seed=seed)
        names = tuple(name for name, _ in program.files)
        desk = Desk((*names, *self._problem.may_add), self._score)
        try:
            with offering(desk):
                reply = editor.ask(request)
        except ReplyError as error:
            self._keep("", Rejected(f"the command's work cannot be used: {error.reason}"))
            return
        work = json.loads(reply.text)
        for texts in work["drafts"]:
            self._keep(work["change"], read_draft(self._problem, program, texts))

    def _keep(self, change: str, made: Program | Rejected) -> None:
        base = str(self._base.key)
        plan = self.editor.plan or Plan(change.strip()[:2000] or UNNAMED, base=base)
        self.attempt(Draft((), self._base, plan, made))

    def _score(self, texts: Mapping[str, str]) -> tuple[str, bool]:
        """Returns a verdict on the files as they are, in words, and whether they were evaluated."""
        made = read_draft(self._problem, self._base.program_or_fail, texts)
        if isinstance(made, Rejected):
            return f"rejected: {made.reason}", False
        if not self._left:
            return _NO_MORE, False
        try:
            evaluation = self.preview(self._base, made)
        except BudgetExhaustedError:
            self._left = 0
            return _NO_MORE, False
        is_evaluated = evaluation.status is not Status.REJECTED
        self._left -= is_evaluated
        scored = Attempt(self._base.key, 0, self._base.key, 0, None, made, evaluation)
        shown = prompt.show_evaluation(scored, self._problem, detail_characters=4000)
        word = "ok" if evaluation.objective is not None else str(evaluation.status)
        return f"{word}\n{shown}\nEvaluations left: {self._left}.", is_evaluated


def _choose_base(editor: Editor) -> Attempt:
    """Returns the program that a slot works on: the plan's, or one of those shown in turn."""
    if editor.plan is not None:
        return find_base(editor.digest, editor.plan)
    programs = editor.digest.programs
    return programs[editor.seat.number % len(programs)]


def workspace_files(editor: Editor, base: Attempt, evaluations: int) -> dict[str, str]:
    """Returns all that a command finds in its workspace, by path."""
    problem, digest, program = editor.problem, editor.digest, base.program_or_fail
    names = ", ".join(f"`{name}`" for name, _ in program.files)
    lessons = [block.text for block in lessons_blocks(digest.lessons) if block.items]
    may_add = ", ".join(f"`{pattern}`" for pattern in problem.may_add)
    rules = _RULES.format(
        files=names,
        editable=prompt.show_editable(program),
        more=f" Files may be added whose names match {may_add}." if may_add else "",
        evaluations="1 evaluation" if evaluations == 1 else f"{evaluations} evaluations",
    )
    values = prompt.common_values(problem)
    objective = f"Objective: {values['direction']} the objective. {values['limits']}"
    return {
        "README.md": rules,
        "STATEMENT.md": _join([problem.statement.strip(), objective]),
        "PLAN.md": _describe_plan(editor, base),
        "LESSONS.md": _join(lessons or ["None yet."]),
        **dict(program.files),
    }


def _describe_plan(editor: Editor, base: Attempt) -> str:
    digest, problem = editor.digest, editor.problem
    seen = [
        "# What to do",
        show_task(editor.seat, editor.plan),
        "# Where the run stands",
        show_status(digest.status, problem),
        *show_wishes(digest),
        f"The program in this folder is {base.key}.",
        prompt.show_evaluation(base, problem, detail_characters=1500),
        tried_block(digest, problem.direction).text,
    ]
    return _join(seen)


def _join(parts: Iterable[str]) -> str:
    return "\n\n".join(filter(None, parts)) + "\n"


def read_draft(problem: Problem, base: Program, texts: Mapping[str, str]) -> Program | Rejected:
    """Returns the program that the files of a workspace are, or what is wrong with them."""
    old = dict(base.files)
    for name, text in texts.items():
        if len(text.encode()) > MAX_FILE_BYTES:
            return Rejected(f"{name}: expected at most {MAX_FILE_BYTES} bytes, got more")
    for name, text in old.items():
        if name not in texts:
            return Rejected(f"{name}: expected the file, found none that is text")
        try:
            check_frozen(text, texts[name], name)
        except UnappliedEditError as error:
            return Rejected(error.reason)
    for name, text in texts.items():
        fault = find_fault(name, text)
        if fault is not None:
            return Rejected(f"syntax error in {name}, {fault}")
    added = sorted(name for name in texts if name not in old and is_allowed(name, problem.may_add))
    return Program(tuple(SourceFile(name, texts[name]) for name in (*old, *added)))
