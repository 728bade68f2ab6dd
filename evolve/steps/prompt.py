"""Prompts: Markdown templates, filled with what a step may show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path

from evolve.edits.matching import unified_diff
from evolve.files import decode_text
from evolve.models.budget import estimate_tokens
from evolve.problem import Problem
from evolve.problem.folder import PLACEHOLDER, fill_placeholders
from evolve.records import Attempt, Evaluation, Plan, Program, Status
from evolve.records.chat import Message
from evolve.source.parsing import cut_frozen, find_blocks


def fill_template(name: str, folder: Path, values: Mapping[str, str]) -> tuple[Message, ...]:
    """Returns the messages of a template, the problem's own one where it has one.

    The text above a line of five dashes is the system message. Lines left empty by empty values
    are closed up.

    Args:
        name: One of `evolve.problem.folder.PROMPTS`; a file `prompts/NAME.md` in the problem
            folder goes first.
        folder: The problem folder.
        values: Text for each `{{name}}` in the template.

    Raises:
        ProblemError: The problem's own template names a value that does not exist.
    """
    template, place = load_template(name, folder)

    system, separator, user = template.partition("\n-----\n")
    if not separator:
        system, user = "", template
    messages = [Message("system", system.strip())] if system.strip() else []
    # Empty values go first, so that only lines of the template are closed up: blank lines of a
    # program stay. Values are filled in once: one that looks like a template is not filled again.
    kept = PLACEHOLDER.sub(
        lambda match: match[0] if values.get(match[1], "?").strip() else "", user
    )
    kept = re.sub(r"\n{3,}", "\n\n", kept).strip()
    text = fill_placeholders(kept, values, f"{place}: unknown value")
    return (*messages, Message("user", text))


@lru_cache(maxsize=64)
def load_template(name: str, folder: Path) -> tuple[str, str]:
    """Returns the text of a template and where it stands, the problem's own one first."""
    own = folder / "prompts" / f"{name}.md"
    if own.is_file():
        return decode_text(own.read_bytes()), str(own)
    text = resources.files("evolve.steps").joinpath("prompts", f"{name}.md").read_text("utf-8")
    return text, f"prompts/{name}.md"


# Instances that are named of a program.
_WORST = 3
_LONGEST_DIFFERENCE = 8000


def show_program(program: Program, *, is_short: bool = False) -> str:
    """Returns the files of a program, fenced; the first is the entry file.

    Args:
        program: The program.
        is_short: Whether most of what may not change is left out.
    """
    parts = []
    for path, whole in program.files:
        text = cut_frozen(whole) if is_short else whole
        language = path.rpartition(".")[2] if "." in path else ""
        title = f"File `{path}`:\n\n" if len(program.files) > 1 else ""
        parts.append(title + fence(text, {"py": "python"}.get(language, language)))
    return "\n\n".join(parts)


def show_evaluation(attempt: Attempt, problem: Problem, *, detail_characters: int = 2000) -> str:
    """Returns what is known of an attempt's evaluation: numbers, time, then each artifact."""
    evaluation = attempt.evaluation.for_models()
    seconds = f"{evaluation.seconds:.2g} s of {_limit_of(problem):g} s"
    if evaluation.status is Status.OK:
        numbers = {"objective": evaluation.objective, **evaluation.metrics, **evaluation.measures}
        listed = ", ".join(f"{plain(name)} {value:.10g}" for name, value in numbers.items())
        verdict = f"Evaluation: {listed}; took {seconds}."
    elif evaluation.status is Status.REJECTED:
        verdict = f"Rejected before an evaluation:\n\n{fence(evaluation.reason[:800])}"
    else:
        verdict = (
            f"Evaluation: {evaluation.status} after {seconds}:\n\n{fence(evaluation.reason[:800])}"
        )
    if worst := _name_worst(evaluation, problem):
        verdict = f"{verdict}\n\n{worst}"
    artifacts = (
        f"{plain(name)}:\n\n{fence(cut_middle(text, detail_characters))}"
        for name, text in evaluation.texts.items()
    )
    return "\n\n".join([verdict, *artifacts])


def _name_worst(evaluation: Evaluation, problem: Problem) -> str:
    """Returns the instances on which a program does worst; validation is never shown."""
    sign, fitted = problem.direction.sign, evaluation.shown_instances
    # Where all are alike, none is the worst.
    if len(set(fitted.values())) < 2:
        return ""
    worst = sorted(fitted, key=lambda name: (sign * fitted[name], name))[:_WORST]
    listed = ", ".join(f"{plain(name)}: {fitted[name]:.4g}" for name in worst)
    return f"Worst of {len(fitted)} instances: {listed}."


def cut_middle(text: str, most: int) -> str:
    """Returns the beginning and the end of a text that is longer than a number of characters."""
    if len(text) <= most + most // 5:
        return text
    # Without a count: of an artifact whose file was lost only both ends are known.
    half = most // 2
    return f"{text[:half]}\n[cut]\n{text[-half:]}"


def show_plan(plan: Plan) -> str:
    """Returns a plan with the program that it starts from."""
    lines = [f"Start from program {plan.base}." if plan.base else "", plan.change.strip()]
    if plan.hypothesis:
        lines.append(f"Why: {plan.hypothesis.strip()}")
    return "\n\n".join(line for line in lines if line)


def show_difference(old: Program, new: Program) -> str:
    """Returns the changes from one program to another as a unified diff, cut where it is long.

    A file that is shorter than its diff is shown as it is: it was written anew.
    """
    before = dict(old.files)
    parts = []
    for path, text in new.files:
        diff = unified_diff(before.get(path, ""), text, path)
        parts.append(diff if len(diff) <= len(text) else f"{path}, written anew:\n{text.rstrip()}")
    return cut_middle("\n".join(filter(None, parts)), _LONGEST_DIFFERENCE)


def show_messages(messages: Sequence[Message]) -> str:
    """Returns messages as text for people."""
    return "\n".join(f"[{message.role}]\n{message.text}\n" for message in messages)


def common_values(problem: Problem) -> dict[str, str]:
    """Returns the values that every template may use."""
    limits = f"The program may run for {_limit_of(problem):g} seconds."
    if problem.is_text:
        limits = ""
    elif not problem.recipe.run and problem.initial.entry.path.endswith(".py"):
        limits += " Where a function is a generator, its last value before the deadline counts."
    rules = problem.asks.get("program")
    if rules is not None and not problem.is_text:
        limits += (
            " It may ask a language model: `from evolve import ask, ask_all`; `ask(prompt)` "
            "returns its answer, `ask_all(prompts)` those to several, asked at the same time. An "
            f"evaluation has {rules.calls} questions in all, and their time does not count."
        )
    return {"direction": str(problem.direction), "objective_name": "objective", "limits": limits}


def _limit_of(problem: Problem) -> float:
    return float(problem.limits.get("seconds", 10.0))


def show_editable(program: Program) -> str:
    """Returns which parts of a program's files may change."""
    bounded = [
        f"`{path}`"
        for path, text in program.files
        if [(block.start, block.end) for block in find_blocks(text)] != [(0, len(text))]
    ]
    if not bounded:
        return "All of the program may change."
    lines = "the lines between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change"
    if len(bounded) == len(program.files):
        return f"Only {lines}: what the code imports must be imported there or above."
    return f"Of {', '.join(bounded)} only {lines}, of the other files everything."


CUT = "[cut]"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_MARKS = re.compile(r"^(`{3,})", re.MULTILINE)
# What a provider adds around each of two messages; what a fence and line ends take.
_AROUND_MESSAGES = 16
_AROUND_ITEM, _AROUND_BLOCK = 2, 8


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a prompt that gives way where there is no room.

    Attributes:
        name: The value of the template that it fills.
        items: Its items, the most important first; the last ones are left out first.
        heading: Stands above them where there are any.
        share: Cap, as a share of the whole.
        rank: Blocks with a higher rank give way first; those of rank 0 are cut at the very last.
        is_data: Whether the items are lines that are put in one fence together.
        shorter: The same items in fewer words, which stand in for them where there is no room.
    """

    name: str
    items: tuple[str, ...]
    heading: str = ""
    share: float = 1.0
    rank: int = 1
    is_data: bool = False
    shorter: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Returns the text that goes into the prompt, empty without items."""
        if not self.items:
            return ""
        body = fence("\n".join(self.items)) if self.is_data else "\n\n".join(self.items)
        return f"{self.heading}\n\n{body}" if self.heading else body


def fence(text: str, language: str = "") -> str:
    """Fences text as data: no line in it can close the fence, no control character is left."""
    clean = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text).rstrip()
    longest = max((len(run) for run in re.findall(r"`{3,}", clean)), default=2)
    marks = "`" * (longest + 1)
    return f"{marks}{language}\n{clean}\n{marks}"


def plain(text: str) -> str:
    """Returns text on one line without control characters."""
    return " ".join(_CONTROL.sub(" ", text).split())


def fit_blocks(blocks: Sequence[Block], fixed: str, most: int) -> dict[str, str]:
    """Returns the text of each block by name, all of them together within a cap.

    Args:
        blocks: Those to fit.
        fixed: All other text of the prompt.
        most: Cap on the tokens of the whole prompt.
    """
    fitted = {block.name: _shrink(block, int(block.share * most)) for block in blocks}
    room = most - estimate_tokens(fixed) - _AROUND_MESSAGES
    for block in sorted(fitted.values(), key=lambda block: -block.rank):
        over = sum(map(_size, fitted.values())) - room
        if over > 0:
            fitted[block.name] = _shrink(block, max(0, _size(block) - over))
    return {name: block.text for name, block in fitted.items()}


def _size(block: Block) -> int:
    if not block.items:
        return 0
    items = sum(estimate_tokens(item) + _AROUND_ITEM for item in block.items)
    return items + estimate_tokens(block.heading) + _AROUND_BLOCK


def _shrink(block: Block, target: int) -> Block:
    """Returns a block of at most a size.

    The last items are put in fewer words, then left out; at the very last the first one is cut.
    """
    for index in reversed(range(len(block.shorter))):
        if _size(block) > target and index < len(block.items):
            items = list(block.items)
            items[index] = block.shorter[index]
            block = replace(block, items=tuple(items))
    while len(block.items) > 1 and _size(block) > target:
        block = replace(block, items=block.items[:-1])
    while block.items and _size(block) > target:
        over = _size(block) - target
        item = block.items[0]
        share = 1.0 - (over + _AROUND_BLOCK) / max(1, estimate_tokens(item))
        kept = item.removesuffix(CUT)[: int(0.98 * share * len(item))] if share > 0 else ""
        text = _end(kept)
        # Marks that are added at each cut must not keep it from ending.
        is_shorter = bool(kept.strip()) and len(text) < len(item)
        block = replace(block, items=(text,) if is_shorter else ())
    return block


def _end(text: str) -> str:
    """Ends a text that was cut, and the fence that may be open in it."""
    opened = ""
    for marks in _MARKS.findall(text):
        opened = "" if marks == opened else opened or marks
    return f"{text.rstrip()}\n{CUT}" + (f"\n{opened}" if opened else "")
