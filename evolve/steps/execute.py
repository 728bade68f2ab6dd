"""The second step: new programs. A language model's form and a model-free one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from evolve.edits import NO_CODE, apply_reply
from evolve.models.model import ReplyError
from evolve.operators.changes import apply_operator
from evolve.problem import Problem
from evolve.records import OPERATOR_JOIN, Attempt, Plan, Program, Rejected, Selection
from evolve.records.chat import Message, Request
from evolve.source.analysis import share_in_common, sign_source
from evolve.steps import prompt
from evolve.steps.jobs import Ask, Digest, Seat
from evolve.steps.page import compose, page_blocks
from evolve.steps.parse import as_names, as_tags, as_text, as_words, find_objects
from evolve.steps.prompt import Block, fence

Apply = Callable[[Program, str], Program | Rejected]


@dataclass(frozen=True, slots=True)
class Draft:
    """What one reply brought.

    Attributes:
        messages: The chat so far, the reply included.
        base: The attempt whose program it changes.
        plan: What it sets out to do.
        made: The program in it, or why there is none.
    """

    messages: tuple[Message, ...]
    base: Attempt
    plan: Plan
    made: Program | Rejected


@dataclass(frozen=True, slots=True)
class Editor:
    """Asks a model to plan a change and to carry it out, or to carry out a plan.

    Attributes:
        digest: What the run has learnt, and the programs that a change may start from.
        seat: The slot's place among those of its generation.
        plan: What to do; None where the editor plans for itself.
        ask: Asks the model.
    """

    digest: Digest
    seat: Seat
    plan: Plan | None
    ask: Ask

    def draft(self, messages: tuple[Message, ...], seed: int, *, base: str = "") -> Draft:
        """Asks once; a reply that names no base changes the one of this key, if it is given.

        Raises:
            BudgetExhaustedError: The call might pass a cap.
            ModelError: The model cannot be used, or does not answer.
        """
        role = "leap" if self.seat.leap else "editor"
        try:
            reply = self.ask(Request(role, messages, seed=seed))
        except ReplyError as error:
            chat = (*messages, Message("assistant", NO_REPLY))
            unread = find_base(self.digest, self.plan)
            return self.refuse(f"the editor's reply cannot be used: {error.reason}", unread, chat)
        chat = (*messages, Message("assistant", reply.text))
        is_cut, may_add = reply.finish_reason == "length", self.digest.problem.may_add
        apply = partial(apply_reply, cut_off=is_cut, may_add=may_add)
        if self.plan is None:
            return Draft(chat, *read_reply(self.digest, reply.text, apply, base=base))
        planned = find_base(self.digest, self.plan)
        return Draft(chat, planned, self.plan, apply(planned.program_or_fail, reply.text))

    def refuse(self, reason: str, base: Attempt, chat: tuple[Message, ...] = ()) -> Draft:
        """Returns a draft without a program, of a base."""
        plan = self.plan or Plan(UNNAMED, base=str(base.key))
        return Draft(chat, base, plan, Rejected(reason))

    def repair(self, draft: Draft, failed: Attempt, seed: int) -> Draft:
        """Asks again, with what became of the last program of this chat; raises as `draft`.

        The plan stays that of the first reply: a repair carries it out.
        """
        messages = draft.messages + repair_messages(self.digest.problem, failed)
        repaired = self.draft(messages, seed, base=str(draft.base.key))
        if draft.plan.change == UNNAMED:
            return repaired
        return replace(repaired, plan=replace(draft.plan, base=str(repaired.base.key)))


def edit_messages(
    digest: Digest, seat: Seat, plan: Plan | None, *, tools: str = ""
) -> tuple[Message, ...]:
    """Returns what the editor is shown at first.

    Args:
        digest: What the run has learnt, and the programs that a change may start from.
        seat: The slot's place among those of its generation.
        plan: What to do; None where the editor plans for itself.
        tools: Those that an agent may call, in words; empty for an editor that answers once.
    """
    blocks = [*page_blocks(digest), *_answer_blocks(digest, seat, plan)]
    if tools:
        steps = digest.steps
        blocks += [
            Block("tools", (tools,), rank=0),
            Block("turns", (str(steps.agent_turns),), rank=0),
            Block("evaluations", (str(steps.agent_evaluations),), rank=0),
        ]
    return compose("agent" if tools else "edit", "editor", digest, blocks)


def _answer_blocks(digest: Digest, seat: Seat, plan: Plan | None) -> list[Block]:
    """Returns what is asked of an editor, and the form of its answer."""
    form, may_add = digest.steps.form, digest.problem.may_add
    program = find_base(digest, plan).program_or_fail
    is_rewrite = form == "rewrite" or (form == "auto" and digest.rewrites)
    plan_form = _PLAN_FORM + (_LESSONS_FORM if digest.lessons else "")
    return [
        Block("task", (show_task(seat, plan),), rank=0),
        Block("plan_form", (plan_form,) if plan is None else (), rank=0),
        Block("edit_form", (_REWRITE_FORM if is_rewrite else _EDIT_FORM,), rank=0),
        Block("editable", (prompt.show_editable(program),), rank=0),
        Block("files", (_name_files(program, may_add),), rank=0),
    ]


def _name_files(program: Program, may_add: Sequence[str]) -> str:
    text = _FILES if len(program.files) > 1 or may_add else ""
    if may_add:
        names = ", ".join(f"`{pattern}`" for pattern in may_add)
        text += f" New files may be added whose names match {names}: write each one whole."
    return text


def find_base(digest: Digest, plan: Plan | None) -> Attempt:
    """Returns the attempt that a plan starts from, the champion where it names none."""
    named = None if plan is None else digest.find(plan.base)
    return named or digest.programs[0]


_PLAN_FORM = """First state the change, then carry it out. Begin with these lines, in plain text:

Base: the key of the program that you start from
Change: what you change, in one or two sentences
Why: why it should improve the objective
Tags: one to four words that name the approach"""
_LESSONS_FORM = "\nLessons: ids of the lessons above that you follow, if any"

_EDIT = """<<<<<<< SEARCH
lines copied exactly from the program
=======
the lines that replace them
>>>>>>> REPLACE"""

_EDIT_FORM = f"""Write the code as one or more edits of the base in this form,

{_EDIT}

or, where more than half changes, the complete new program in one fenced code block. Copy the \
SEARCH lines as they stand, with their indentation, and enough of them to be unique."""

_REWRITE_FORM = "Write the code as the complete new program in one fenced code block."

_FILES = " Name the file of each edit or program in a line above it."


_SAME_FORM = "Answer in the same form as before."
_CODE_ALONE = f"""Write the code alone now, without a plan: the complete new program in one fenced \
code block, or edits in this form:

{_EDIT}"""


def show_task(seat: Seat, plan: Plan | None) -> str:
    """Returns what a slot is to do: a plan, or to choose one that differs from its neighbours'."""
    if plan is not None:
        return f"Carry out this plan:\n\n{fence(prompt.show_plan(plan))}"
    if seat.leap:
        return (
            "The search has stalled: changes like those listed above no longer gain. Name the "
            "assumption that all programs so far share, drop it, and propose a different "
            "representation, algorithm or decomposition. The program may be rewritten as a whole."
        )
    if seat.count == 1:
        return (
            "Make the one change that promises most: an improvement of one of the programs, a "
            "combination of several, or another approach. Do not repeat what was tried."
        )
    return (
        f"{seat.count} engineers answer this same page at the same time, without seeing each "
        f"other's answers. You are number {seat.number + 1}. So that the answers differ: think of "
        f"the {seat.count} most promising changes that were not tried yet and differ in kind from "
        "each other (improvements of one of the programs, combinations of several, other "
        "approaches), rank them from the most promising on, and carry out "
        f"number {seat.number + 1} of your list, as well as you can. Where that is not worth an "
        "evaluation, take instead a strong change that the others would hardly make."
    )


def repair_messages(problem: Problem, failed: Attempt) -> tuple[Message, ...]:
    """Returns what the editor is shown of a program that failed, or of a reply without one."""
    evaluation = failed.evaluation.for_models()
    texts = [
        f"It printed:\n{text}" if name == "output" else text
        for name, text in evaluation.texts.items()
    ]
    detail = prompt.cut_middle("\n".join(texts), 4000)
    took = f" after {evaluation.seconds:.2g} s" if evaluation.seconds else ""
    reason = fence(evaluation.reason[:1000])
    values = {
        "failure": f"That did not work ({evaluation.status}{took}):\n\n{reason}",
        "detail": fence(detail) if detail else "",
        "base": f"program {failed.parent}" if failed.parent else "the starting program",
        # Small models end their reply with the plan.
        "form": _CODE_ALONE if evaluation.reason == NO_CODE else _SAME_FORM,
    }
    return prompt.fill_template("repair", problem.folder, values)


def execute_operator(
    selection: Selection, plan: Plan, rng: np.random.Generator
) -> Program | Rejected:
    """Applies the plan's operators to the parent in turn; the inspirations are their mates.

    Of several, those that find no place are skipped.
    """
    mates = [attempt.program_or_fail for attempt in selection.inspirations]
    program = selection.parent.program_or_fail
    made: Program | Rejected = Rejected("no operator was chosen")
    changed = False
    for name in plan.operator.split(OPERATOR_JOIN):
        made = apply_operator(name, program, mates, rng)
        if not isinstance(made, Rejected):
            program, changed = made, True
    return program if changed else made


_FIELDS = {
    "base": "base",
    "start": "base",
    "change": "change",
    "plan": "change",
    "idea": "change",
    "why": "why",
    "hypothesis": "why",
    "tags": "tags",
    "tag": "tags",
    "lessons": "lessons",
    "lesson": "lessons",
}
_FIELD = re.compile(
    rf"^[\s#>*_-]*({'|'.join(sorted(_FIELDS, key=len, reverse=True))})[\s*_]*[:=][\s*_]*(.*)$",
    re.IGNORECASE,
)
_CODE = re.compile(r"^\s*(`{3,}|~{3,}|<{5,}|diff --git |--- \S|@@ )")
_KEY = re.compile(r"\d+\.\d+\.\d+")
# Of a reply of any length; no plan of sense is longer.
_LONGEST_CHANGE = 20_000
NO_REPLY = "(no reply)"
UNNAMED = "a change that the editor did not describe"


def read_reply(
    digest: Digest, text: str, apply: Apply = apply_reply, *, base: str = ""
) -> tuple[Attempt, Plan, Program | Rejected]:
    """Reads a reply that plans a change and carries it out.

    Args:
        digest: Shows the programs that the reply may start from.
        text: The reply.
        apply: Returns what the reply makes of a program.
        base: Key of the program that is changed where the reply names none; empty for the one
            that the reply fits.

    Returns:
        The attempt that it starts from, its plan, and the program or why there is none.
    """
    fields = read_fields(text)
    key = _KEY.search(fields.get("base", "")) or _KEY.search(base)
    changed, made = _apply(digest, key[0] if key else "", text, apply)
    return changed, make_plan(fields, changed), made


def read_fields(text: str) -> Mapping[str, str]:
    """Returns the fields above the code of a reply, by `base`, `change`, `why` and so on.

    A field may span several lines, until the next one or the code begins. Where no field is
    named, the words above the code are the change.
    """
    fields: dict[str, str] = {}
    words: list[str] = []
    name = ""
    for line in text.splitlines():
        if _CODE.match(line):
            break
        found = _FIELD.match(line)
        if found is not None:
            name = _FIELDS[found[1].lower()]
            fields[name] = "\n".join(filter(None, (fields.get(name, ""), found[2].strip())))
        elif name:
            fields[name] = f"{fields[name]}\n{line.rstrip()}"
        else:
            words.append(line)
    named = _read_object(text) if "change" not in fields else {}
    fields = {**named, **{key: value.strip(" *_\n") for key, value in fields.items()}}
    if not fields.get("change"):
        fields["change"] = as_text(" ".join(words), 300)
    return fields


def make_plan(fields: Mapping[str, str], base: Attempt) -> Plan:
    """Returns the plan that the fields of a reply describe."""
    lessons = re.findall(r"\d+\.\d+", fields.get("lessons", ""))
    return Plan(
        change=fields.get("change", "")[:_LONGEST_CHANGE] or UNNAMED,
        hypothesis=fields.get("why", "")[:_LONGEST_CHANGE],
        tags=as_tags(fields.get("tags", "").strip("[]")),
        lessons=as_names(lessons),
        base=str(base.key),
    )


def _read_object(text: str) -> Mapping[str, str]:
    """Returns the fields of the last plan in JSON, for models that answer with one."""
    found = find_objects(text, is_plan)
    return name_fields(found[-1]) if found else {}


def is_plan(found: Mapping[str, object]) -> bool:
    """Returns whether an object says what to change; one that holds plans is none itself."""
    holds_plans = any(
        isinstance(item, dict)
        for name, value in found.items()
        if name != "change" and name in _FIELDS
        for item in (value if isinstance(value, list) else [value])
    )
    return bool(name_fields(found).get("change", "").strip()) and not holds_plans


def name_fields(found: Mapping[str, object]) -> dict[str, str]:
    """Returns the fields of an object with keys in lower case, by the names of this module."""
    fields: dict[str, str] = {}
    # Of two keys for one field the one that has its name counts.
    for key in sorted(_FIELDS.keys() & found.keys(), key=lambda key: (_FIELDS[key] != key, key)):
        value = found[key]
        is_short = isinstance(value, list) and _FIELDS[key] in {"tags", "lessons"}
        words = as_words(value)
        fields.setdefault(_FIELDS[key], words.replace("\n", ", ") if is_short else words)
    return fields


def _apply(
    digest: Digest, named: str, text: str, apply: Apply
) -> tuple[Attempt, Program | Rejected]:
    """Applies a reply to the program that it names, else to the one that it fits.

    Edits fit the first program that they apply to, the champion before the others; a whole
    program fits the one that it resembles most.
    """
    base = digest.find(named)
    if base is not None:
        return base, apply(base.program_or_fail, text)
    outcomes = [(one, apply(one.program_or_fail, text)) for one in digest.programs]
    made = [(one, new) for one, new in outcomes if isinstance(new, Program)]
    if not made:
        return outcomes[0]
    if "<<<<<" in text:
        return made[0]
    # Of equals the first: the champion.
    return max(made, key=lambda pair: _share(pair[0].program_or_fail, pair[1]))


def _share(one: Program, other: Program) -> float:
    return share_in_common(sign_source(one), sign_source(other))
