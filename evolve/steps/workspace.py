"""The editor as a command in a workspace: what it finds there, and what its draft is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from evolve.edits.apply import is_allowed
from evolve.edits.matching import UnappliedEditError, check_frozen
from evolve.errors import BudgetExhaustedError
from evolve.models.command_models import Desk, as_messages, offering
from evolve.models.model import ReplyError
from evolve.problem import Problem
from evolve.records import Attempt, Evaluation, Plan, Program, Rejected, SourceFile, Status
from evolve.records.chat import Request
from evolve.source.parsing import syntax_error
from evolve.steps import prompt
from evolve.steps.execute import UNNAMED, Draft, Editor, find_base, show_task
from evolve.steps.page import lessons_blocks, show_status, show_wishes, tried_block

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


class WorkspaceEditor:
    """Lets a command work on one slot.

    Args:
        editor: Knows the problem, the plan and the model.
        attempt: Evaluates a draft and keeps it.
        preview: Returns the verdict on a program, which is not kept yet.
        evaluations: Most evaluations of the slot; the last is that of what the command leaves.
    """

    def __init__(
        self,
        editor: Editor,
        *,
        attempt: Callable[[Draft], Attempt],
        preview: Callable[[Attempt, Program], Evaluation],
        evaluations: int,
    ) -> None:
        self._editor = editor
        self._attempt = attempt
        self._preview = preview
        self._left = max(0, evaluations - 1)
        self._base = _choose_base(editor)
        self._problem = editor.problem

    def work(self, seed: int) -> None:
        """Lets the command work, then keeps all of its drafts in order.

        Raises:
            BudgetExhaustedError: The call or an evaluation might pass a cap.
            ModelError: The command cannot be started.
        """
        editor, program = self._editor, self._base.program_or_fail
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
        plan = self._editor.plan or Plan(change.strip()[:2000] or UNNAMED, base=base)
        self._attempt(Draft((), self._base, plan, made))

    def _score(self, texts: Mapping[str, str]) -> tuple[str, bool]:
        """Returns a verdict on the files as they are, in words, and whether they were evaluated."""
        made = read_draft(self._problem, self._base.program_or_fail, texts)
        if isinstance(made, Rejected):
            return f"rejected: {made.reason}", False
        if not self._left:
            return _NO_MORE, False
        try:
            evaluation = self._preview(self._base, made)
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
    return {
        "README.md": rules,
        "STATEMENT.md": _describe_problem(problem),
        "PLAN.md": _describe_plan(editor, base),
        "LESSONS.md": _join(lessons or ["None yet."]),
        **dict(program.files),
    }


def _describe_problem(problem: Problem) -> str:
    values = prompt.common_values(problem)
    objective = f"Objective: {values['direction']} the objective. {values['limits']}"
    return _join([problem.statement.strip(), objective])


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
    for name, text in old.items():
        if name not in texts:
            return Rejected(f"{name}: expected the file, found none that is text")
        try:
            check_frozen(text, texts[name], name)
        except UnappliedEditError as error:
            return Rejected(error.reason)
    for name, text in texts.items():
        wrong = syntax_error(text) if name.endswith(".py") else None
        if wrong is not None:
            return Rejected(f"syntax error in {name}, {wrong}")
    added = sorted(name for name in texts if name not in old and is_allowed(name, problem.may_add))
    return Program(tuple(SourceFile(name, texts[name]) for name in (*old, *added)))
