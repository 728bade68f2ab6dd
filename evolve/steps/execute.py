"""The second step: a plan to new programs. A language model's form and a model-free one."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evolve.edits import LineEdit, apply_line_edits, apply_reply
from evolve.models.protocol import ReplyError
from evolve.models.tokens import count_for
from evolve.operators import OPERATOR_JOIN, apply_operator
from evolve.records import Rejected
from evolve.records.chat import Message, Request
from evolve.source import find_blocks
from evolve.steps import prompt, shapes, told
from evolve.steps.blocks import Block, fence
from evolve.steps.parse import find_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from evolve.problem import Problem
    from evolve.records import Attempt, Plan, Program, Selection
    from evolve.settings import Settings
    from evolve.steps.memory import Digest
    from evolve.steps.tools import Ask

_LONGEST_DIFF = 3000
LONGEST_SHOWN = 60_000
"""Characters of a reply that a later turn of the same chat repeats."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What one reply gave.

    Attributes:
        messages: The chat so far, the reply included.
        made: The program in it, or why there is none.
    """

    messages: tuple[Message, ...]
    made: Program | Rejected


class Editor:
    """Asks for programs that carry out one plan.

    Args:
        problem: What is solved.
        selection: The parent and its inspirations.
        plan: What to do.
        digest: What the run has learnt.
        ask: Asks the model.
        settings: Limits, temperature and the form of the edits.
    """

    def __init__(
        self,
        problem: Problem,
        selection: Selection,
        plan: Plan,
        digest: Digest,
        *,
        ask: Ask,
        settings: Settings,
    ) -> None:
        self._problem = problem
        self._selection = selection
        self._parent = selection.parent.attempt.program_or_fail
        self._plan = plan
        self._digest = digest
        self._ask = ask
        self._settings = settings
        self.form = find_form(settings, self._parent, digest)

    def open(self, attempts: Sequence[Attempt]) -> tuple[Message, ...]:
        """Gives the prompt, with what came of earlier attempts at the plan."""
        return edit_messages(
            self._problem,
            self._selection,
            self._plan,
            self._digest,
            settings=self._settings,
            form=self.form,
            attempts=attempts,
        )

    def draft(self, messages: tuple[Message, ...], seed: int, *, samples: int = 1) -> list[Draft]:
        """Asks once, for one or several samples.

        Raises:
            BudgetExhaustedError: The call might pass a cap.
            ModelError: The model cannot be used, or does not answer.
        """
        models = self._settings.models
        schema = self._schema() if self.form == "lines" else ""
        request = Request(
            "editor",
            messages,
            models.max_tokens,
            models.temperature,
            seed,
            schema=schema,
            samples=samples,
        )
        try:
            reply = self._ask(request)
        except ReplyError as error:
            refusal = Rejected(f"the editor's reply cannot be used: {error.reason}")
            return [Draft((*messages, Message("assistant", "(no reply)")), refusal)]
        cut_off = reply.finish_reason == "length"
        return [self._read(messages, text, cut_off=cut_off) for text in (reply.text, *reply.others)]

    def repair(self, draft: Draft, failed: Attempt, seed: int) -> Draft:
        """Asks again, told why the last program of this chat failed; raises as `draft`."""
        messages = draft.messages + repair_messages(self._problem, failed)
        return self.draft(messages, seed)[0]

    def _read(self, messages: tuple[Message, ...], text: str, *, cut_off: bool) -> Draft:
        shown = text[:LONGEST_SHOWN]
        made: Program | Rejected | None = None
        if self.form == "lines":
            made = _apply_numbered(self._parent, text)
        if made is None:
            made = apply_reply(self._parent, text, cut_off=cut_off)
        return Draft((*messages, Message("assistant", shown)), made)

    def _schema(self) -> str:
        text = self._parent.entry.text
        blocks = find_blocks(text)
        first = text.count("\n", 0, blocks[0].start) + 1
        return shapes.line_edits(first, max(first, text.count("\n", 0, blocks[-1].end)))


def find_form(settings: Settings, parent: Program, digest: Digest) -> str:
    """Gives what an editor is asked for: `edit`, `rewrite` or `lines`."""
    form = settings.steps.form
    if form == "auto":
        return "rewrite" if digest.rewrites else "edit"
    # Line numbers name no file.
    return "edit" if form == "lines" and len(parent.files) > 1 else form


def edit_messages(
    problem: Problem,
    selection: Selection,
    plan: Plan,
    digest: Digest,
    *,
    settings: Settings,
    form: str,
    attempts: Sequence[Attempt] = (),
) -> tuple[Message, ...]:
    """Gives what the editor is told."""
    parent = selection.parent.attempt
    program = parent.program_or_fail
    evaluation, source = prompt.parent_blocks(parent)
    if form == "lines":
        source = Block("parent_source", (prompt.show_numbered(program),), rank=0)
    files = ""
    if len(program.files) > 1:
        files = " Name the file of each edit or program in a line above it."
    blocks = [
        evaluation,
        source,
        prompt.inspirations_block(selection.inspirations),
        told.lessons_block(digest),
        _attempts_block(program, attempts),
        prompt.machine_block(digest),
        Block("plan", (prompt.show_plan(plan),), rank=0),
        Block("editable", (prompt.show_editable(program),), rank=0),
        Block("files", (files,) if files else (), rank=0),
    ]
    return prompt.compose(
        form,
        problem,
        blocks,
        most=settings.models.digest_tokens,
        counter=count_for(settings.models, "editor"),
    )


def repair_messages(problem: Problem, failed: Attempt) -> tuple[Message, ...]:
    """Gives what the editor is told about a program that failed."""
    evaluation = failed.evaluation.as_told()
    detail = "\n".join(evaluation.artifacts.values())[-3000:]
    values = {
        "failure": f"That did not work ({evaluation.status}):\n\n{fence(evaluation.reason[:1000])}",
        "detail": fence(detail) if detail else "",
    }
    return prompt.fill_template("repair", problem.folder, values)


def _attempts_block(parent: Program, attempts: Sequence[Attempt]) -> Block:
    items = []
    for number, attempt in enumerate(attempts, 1):
        parts = [f"Attempt {number}:"]
        if attempt.program is not None:
            parts.append(fence(show_diff(parent, attempt.program)[:_LONGEST_DIFF], "diff"))
        parts.append(prompt.show_evaluation(attempt, detail_characters=800))
        items.append("\n\n".join(parts))
    heading = "# Attempts at this plan so far; none of them gained"
    return Block("attempts", tuple(reversed(items)), heading, share=0.35, rank=3)


def show_diff(old: Program, new: Program) -> str:
    """Gives the changes from one program to another as a unified diff."""
    before = dict(old.files)
    lines: list[str] = []
    for path, text in new.files:
        lines += difflib.unified_diff(
            before.get(path, "").splitlines(), text.splitlines(), path, path, lineterm=""
        )
    return "\n".join(lines)


def _apply_numbered(parent: Program, text: str) -> Program | Rejected | None:
    """Applies edits by line numbers; gives None when the reply holds none."""
    found = find_object(text)
    listed = found.get("edits") if found else None
    if not isinstance(listed, list):
        return None
    edits = []
    for item in listed:
        if not isinstance(item, dict):
            return None
        first, last, lines = item.get("first"), item.get("last"), item.get("lines")
        if isinstance(lines, str):
            lines = lines.split("\n")
        if type(first) is not int or type(last) is not int or not isinstance(lines, list):
            return Rejected("an edit lacks `first`, `last` or `lines`")
        edits.append(LineEdit(first, last, tuple(str(line) for line in lines)))
    return apply_line_edits(parent, edits)


def execute_operator(
    selection: Selection, plan: Plan, rng: np.random.Generator
) -> Program | Rejected:
    """Applies the plan's operators to the parent in turn; the inspirations are their mates.

    Of several, those that find no place are passed over.
    """
    mates = [elite.attempt.program_or_fail for elite in selection.inspirations]
    program = selection.parent.attempt.program_or_fail
    made: Program | Rejected = Rejected("no operator was chosen")
    changed = False
    for name in plan.operator.split(OPERATOR_JOIN):
        made = apply_operator(name, program, mates, rng)
        if not isinstance(made, Rejected):
            program, changed = made, True
    return program if changed else made
