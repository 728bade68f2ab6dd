"""One slot: a plan is carried out, checked, evaluated and, where it failed, repaired.

An editor may also evaluate drafts before it ends. Tools are described and called in text, one in
each answer, so that any model can use them and every turn is an ordinary request, which is recorded
and replayed as any other. A command finds files in its workspace; what they are at its end is its
draft.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from evolve.edits.apply import is_allowed
from evolve.edits.matching import UnappliedEditError, check_frozen
from evolve.errors import BudgetExhaustedError
from evolve.models.command_models import Desk, as_messages, offering
from evolve.models.model import ReplyError
from evolve.problem import Problem
from evolve.problem.folder import MAX_FILE_BYTES
from evolve.records import INJECT, Attempt, Plan, Program, Rejected, SourceFile, Status
from evolve.records.chat import Message, Request
from evolve.records.results import SlotResult
from evolve.settings.sections import WORKSPACE
from evolve.source.parsing import find_fault
from evolve.steps import prompt
from evolve.steps.execute import (
    NO_REPLY,
    UNNAMED,
    Draft,
    Editor,
    edit_messages,
    execute_operator,
    find_base,
    show_task,
)
from evolve.steps.jobs import GenerationJob, InjectedJob, ModelJob, OperatorJob, SlotJob, TuningJob
from evolve.steps.journal import SlotJournal
from evolve.steps.page import lessons_blocks, show_status, show_wishes, tried_block
from evolve.steps.parse import as_text, find_objects
from evolve.steps.plan import make_operator_plan, make_tuning_plan
from evolve.steps.prompt import fence
from evolve.steps.recorder import Recorder, check_program, reject

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


def run_slot(
    job: SlotJob,
    generation: GenerationJob,
    plan: Plan | None,
    *,
    rng: np.random.Generator,
    journal: SlotJournal,
    on_plan: Callable[[Plan | None], None] = lambda _: None,
) -> SlotResult:
    """Runs a slot to its end; a budget that runs out cuts it short and keeps what there is.

    Args:
        job: What the slot does.
        generation: The generation that it is part of.
        plan: What a model is to carry out; None where it plans for itself.
        rng: The slot's random stream.
        journal: The slot's way to models and evaluators.
        on_plan: Called once, as soon as the slot's plan is known, or that there is none.

    Raises:
        MachineError: A model, the sandbox, the evaluator or the store failed.
    """
    recorder = Recorder(job, generation, journal)
    cut_by = ""
    try:
        if isinstance(job, OperatorJob):
            operation = make_operator_plan(job.chances, rng, leap=job.leap)
            made = execute_operator(job.selection, operation, rng)
            recorder.attempt(job.selection.parent, operation, made)
        elif isinstance(job, TuningJob):
            _run_tuning(job, recorder)
        elif isinstance(job, InjectedJob):
            injection = Plan(change=job.origin, operator=INJECT)
            recorder.attempt(job.start, injection, job.program)
        elif not isinstance(job, ModelJob) or generation.digest is None:
            raise ValueError(f"slot: expected a job, of a model with a digest, got {job!r:.200}")
        else:
            editor = Editor(generation.digest, job.seat, plan, journal.ask)
            _ModelSlot(job, editor, recorder, rng).run(on_plan)
    except BudgetExhaustedError as error:
        cut_by = error.cap
    finally:
        on_plan(None)
    return SlotResult(job.slot, tuple(recorder.attempts), cut_by, journal.uses)


def _run_tuning(job: TuningJob, recorder: Recorder) -> None:
    """Continues a session of tuning, for as many evaluations as the slot has."""
    tuner = job.tuner
    first = len(tuner.objectives) + 1
    left = job.evaluations
    plan = make_tuning_plan(tuner.constants, first, first + left - 1)
    while left:
        programs = tuner.ask(left)
        attempts = recorder.attempt_all(job.start, plan, programs)
        tuner.add([recorder.objective_of(attempt) for attempt in attempts])
        left -= len(programs)


@dataclass(frozen=True, slots=True)
class _ModelSlot:
    """A slot in which a model works.

    Attributes:
        job: What the slot does.
        editor: Asks the model.
        recorder: Evaluates and keeps attempts.
        rng: The slot's random stream.
    """

    job: ModelJob
    editor: Editor
    recorder: Recorder
    rng: np.random.Generator

    def run(self, on_plan: Callable[[Plan | None], None]) -> None:
        """Makes attempts until one succeeds or the slot has used what it may."""
        if self.job.tools:
            self._use_tools()
        elif self.editor.digest.steps.executor == WORKSPACE:
            self._use_workspace()
        else:
            self._answer(on_plan)

    def _answer(self, on_plan: Callable[[Plan | None], None]) -> None:
        """Has the model answer once, and once more for each repair."""
        editor = self.editor
        messages = edit_messages(editor.digest, editor.seat, editor.plan)
        draft = editor.draft(messages, self._draw_seed())
        on_plan(draft.plan)
        attempt = self._attempt(draft)
        for _ in range(editor.digest.steps.repairs):
            # What was stopped for being weak has nothing to repair.
            is_done = attempt.evaluation.status in {Status.OK, Status.STOPPED}
            if is_done or self.recorder.evaluations >= self.job.evaluations:
                return
            draft = editor.repair(draft, attempt, self._draw_seed())
            attempt = self._attempt(draft)

    def _use_tools(self) -> None:
        """Lets the model read, and evaluate drafts, until one gains, it ends or reaches a cap."""
        editor, steps = self.editor, self.editor.digest.steps
        messages = edit_messages(editor.digest, editor.seat, editor.plan, tools=TOOLS)
        most = min(self.job.evaluations, steps.agent_evaluations)
        for _ in range(steps.agent_turns):
            tokens = sum(use.tokens for use in self.recorder.journal.uses)
            if tokens >= steps.agent_tokens or self.recorder.evaluations >= most:
                break
            draft = editor.draft(messages, self._draw_seed())
            answer = self._answer_turn(draft)
            if not answer:
                break
            messages = (*draft.messages, Message("user", answer))
        if not self.recorder.attempts:
            base = find_base(editor.digest, editor.plan)
            self._attempt(editor.refuse("the agent ended without a draft", base))

    def _answer_turn(self, draft: Draft) -> str:
        """Returns what a tool found or the verdict on a draft, empty when the work is done."""
        said = draft.messages[-1].text
        calls = find_objects(said, lambda found: bool(as_text(found.get("tool"))))
        if calls:
            return self._call(as_text(calls[-1]["tool"]), calls[-1])
        problem = self.editor.digest.problem
        attempt = self._attempt(draft)
        new, old = attempt.objective, draft.base.objective
        gains = new is not None and (old is None or problem.direction.is_better(new, old))
        if gains or said == NO_REPLY:
            return ""
        left = self.editor.digest.steps.agent_evaluations - self.recorder.evaluations
        verdict = prompt.show_evaluation(attempt, problem, detail_characters=1500)
        return f"{verdict}\n\nThis does not gain. Evaluations left: {left}."

    def _call(self, name: str, call: Mapping[str, object]) -> str:
        """Returns a tool's answer, empty when the work is done."""
        digest = self.editor.digest
        if name == "finish":
            return ""
        if name == "statement":
            return digest.problem.statement.strip()
        if name == "lessons":
            found = "\n".join(f"[{one.id}] {one.lesson.claim}" for one in digest.lessons)
        elif name in self.job.tools:
            found = self.job.tools[name](as_text(call.get("id") or call.get("words"), 200))
        else:
            return f"There is no tool of that name. The tools are:\n\n{TOOLS}"
        return fence(found[:_LONGEST_ANSWER]) if found else "Nothing was found."

    def _use_workspace(self) -> None:
        """Lets a command work on the slot, then keeps all of its drafts in order."""
        editor, base = self.editor, _choose_base(self.editor)
        problem, program = editor.digest.problem, base.program_or_fail
        workspace = _Workspace(self, base, max(0, self.job.evaluations - 1))
        files = workspace_files(editor, base, workspace.left)
        request = Request("editor", as_messages(files), seed=self._draw_seed())
        names = tuple(name for name, _ in program.files)
        try:
            with offering(Desk((*names, *problem.may_add), workspace.score)):
                reply = editor.ask(request)
        except ReplyError as error:
            reason = f"the command's work cannot be used: {error.reason}"
            self._attempt(editor.refuse(reason, base))
            return
        work = json.loads(reply.text)
        change = work["change"].strip()[:2000] or UNNAMED
        plan = editor.plan or Plan(change, base=str(base.key))
        for texts in work["drafts"]:
            self._attempt(Draft((), base, plan, read_draft(problem, program, texts)))

    def _attempt(self, draft: Draft) -> Attempt:
        made = draft.made
        if isinstance(made, Program) and (refusal := self.check(made)) is not None:
            return self.recorder.reject(draft.base, draft.plan, refusal, made)
        return self.recorder.attempt(draft.base, draft.plan, made)

    def check(self, program: Program) -> Rejected | None:
        """Returns why a program fails, or would fail; None where nothing is seen."""
        digest = self.editor.digest
        return check_program(program, digest.problem, digest.modules)

    def _draw_seed(self) -> int:
        return int(self.rng.integers(2**31))


@dataclass(eq=False)
class _Workspace:
    """Scores the files of a workspace while its command works.

    Attributes:
        slot: The command's slot.
        base: The attempt whose program it changes.
        left: Evaluations that are left; the slot's last one is that of what the command leaves.
    """

    slot: _ModelSlot
    base: Attempt
    left: int

    def score(self, texts: Mapping[str, str]) -> tuple[str, bool]:
        """Returns a verdict on the files as they are, in words, and whether they were evaluated."""
        slot, problem = self.slot, self.slot.editor.digest.problem
        made = read_draft(problem, self.base.program_or_fail, texts)
        if isinstance(made, Rejected):
            return f"rejected: {made.reason}", False
        refusal = slot.check(made) or slot.recorder.find_duplicate(self.base, made)
        if not self.left:
            return _NO_MORE, False
        try:
            evaluation = reject(refusal) if refusal else slot.recorder.journal.preview(made)
        except BudgetExhaustedError:
            self.left = 0
            return _NO_MORE, False
        is_evaluated = evaluation.status is not Status.REJECTED
        self.left -= is_evaluated
        scored = Attempt(self.base.key, 0, self.base.key, 0, None, made, evaluation)
        shown = prompt.show_evaluation(scored, problem, detail_characters=4000)
        word = "ok" if evaluation.objective is not None else str(evaluation.status)
        return f"{word}\n{shown}\nEvaluations left: {self.left}.", is_evaluated


def _choose_base(editor: Editor) -> Attempt:
    """Returns the program that a slot works on: the plan's, or one of those shown in turn."""
    if editor.plan is not None:
        return find_base(editor.digest, editor.plan)
    programs = editor.digest.programs
    return programs[editor.seat.number % len(programs)]


def workspace_files(editor: Editor, base: Attempt, evaluations: int) -> dict[str, str]:
    """Returns all that a command finds in its workspace, by path."""
    digest, program = editor.digest, base.program_or_fail
    problem = digest.problem
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
    digest = editor.digest
    seen = [
        "# What to do",
        show_task(editor.seat, editor.plan),
        "# Where the run stands",
        show_status(digest),
        *show_wishes(digest),
        f"The program in this folder is {base.key}.",
        prompt.show_evaluation(base, digest.problem, detail_characters=1500),
        tried_block(digest).text,
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
