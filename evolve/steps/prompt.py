"""Prompts: Markdown templates, filled with what a step may show."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from evolve.chat import Message
from evolve.errors import ProblemError
from evolve.records import Status
from evolve.source import find_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evolve.problem import Problem
    from evolve.records import Ancestor, Attempt, Plan, Program

TEMPLATES = ("plan", "edit", "rewrite", "repair", "summarize")
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def fill_template(name: str, folder: Path, values: Mapping[str, str]) -> tuple[Message, ...]:
    """Gives the messages of a template, the problem's own one where it has one.

    The text above a line of five dashes is the system message. Lines left empty by empty values
    are closed up.

    Args:
        name: One of `TEMPLATES`; a file `prompts/NAME.md` in the problem folder goes first.
        folder: The problem folder.
        values: Text for each `{{name}}` in the template.

    Raises:
        ProblemError: The problem's own template names a value that does not exist.
    """
    template, place = _load_template(name, folder)

    def look_up(match: re.Match[str]) -> str:
        try:
            return values[match[1]]
        except KeyError:
            known = ", ".join(sorted(values))
            raise ProblemError(
                f"{place}: unknown value `{{{{{match[1]}}}}}`; there are: {known}"
            ) from None

    system, separator, user = template.partition("\n-----\n")
    if not separator:
        system, user = "", template
    messages = [Message("system", system.strip())] if system.strip() else []
    # Values are put in once: a value that looks like a template is not filled again.
    text = re.sub(r"\n{3,}", "\n\n", _SLOT.sub(look_up, user).strip())
    return (*messages, Message("user", text))


@lru_cache(maxsize=64)
def _load_template(name: str, folder: Path) -> tuple[str, str]:
    own = folder / "prompts" / f"{name}.md"
    if own.is_file():
        return own.read_text(encoding="utf-8"), str(own)
    text = resources.files("evolve.steps").joinpath("prompts", f"{name}.md").read_text("utf-8")
    return text, f"prompts/{name}.md"


def fence(text: str, language: str = "") -> str:
    """Fences text as data: no line in it can close the fence, no control character is left."""
    clean = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text).rstrip()
    longest = max((len(run) for run in re.findall(r"`{3,}", clean)), default=2)
    marks = "`" * (longest + 1)
    return f"{marks}{language}\n{clean}\n{marks}"


def show_program(program: Program) -> str:
    """Gives the files of a program, fenced; the first is the entry file."""
    parts = []
    for path, text in program.files:
        language = path.rpartition(".")[2] if "." in path else ""
        title = f"File `{path}`:\n\n" if len(program.files) > 1 else ""
        parts.append(title + fence(text, {"py": "python"}.get(language, language)))
    return "\n\n".join(parts)


def show_evaluation(attempt: Attempt, *, detail_characters: int = 2000) -> str:
    """Gives what the evaluator said about an attempt."""
    evaluation = attempt.evaluation
    if evaluation.status is Status.OK:
        numbers = {"objective": evaluation.objective, **evaluation.metrics, **evaluation.measures}
        lines = ["Evaluation: " + ", ".join(f"{k} {v:.10g}" for k, v in numbers.items())]
    else:
        lines = [f"Evaluation: {evaluation.status}", fence(evaluation.reason[:500])]
    for name, text in evaluation.artifacts.items():
        lines += [f"{_plain(name)}:", fence(text[-detail_characters:])]
    return "\n\n".join(lines)


def show_plan(plan: Plan | None) -> str:
    """Gives a plan as a short list."""
    if plan is None:
        return "None: this is the starting program."
    lines = [f"- change: {_plain(plan.change)}"]
    if plan.hypothesis:
        lines.append(f"- hypothesis: {_plain(plan.hypothesis)}")
    if plan.predicted_gain is not None:
        lines.append(f"- predicted gain: {plan.predicted_gain:.6g}")
    if plan.risk:
        lines.append(f"- risk: {_plain(plan.risk)}")
    return "\n".join(lines)


def show_outcome(attempt: Attempt) -> str:
    """Gives one line on an attempt: what was changed and what came of it."""
    change = _plain(attempt.plan.change if attempt.plan else "the starting program")[:200]
    if attempt.objective is not None:
        return f"- {change}: objective {attempt.objective:.10g}"
    return f"- {change}: {attempt.evaluation.status}, {_plain(attempt.evaluation.reason)[:200]}"


def show_inspirations(inspirations: Sequence[Ancestor]) -> str:
    """Gives other elites with their source, empty when there are none."""
    if not inspirations:
        return ""
    parts = ["# Other good programs"]
    for elite in inspirations:
        parts += [show_evaluation(elite.attempt), show_program(elite.attempt.program_or_fail)]
    return "\n\n".join(parts)


def common_values(problem: Problem) -> dict[str, str]:
    """Gives the values that every template may use."""
    return {
        "statement": problem.statement.strip(),
        "direction": str(problem.direction),
        "objective_name": "objective",
        "limits": f"The program may run for {problem.limits.get('seconds', 10.0):g} seconds.",
    }


def show_editable(program: Program) -> str:
    """Says which part of a program may change."""
    text = program.entry.text
    whole = [(block.start, block.end) for block in find_blocks(text)] == [(0, len(text))]
    if whole:
        return "All of the program may change."
    return "Only the lines between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change."


def cut(text: str, tokens: int) -> str:
    """Cuts text to about a number of tokens, saying so."""
    limit = 3 * tokens
    return text if len(text) <= limit else text[:limit] + "\n[cut]"


def _plain(text: str) -> str:
    """Gives text on one line without control characters, for a place outside a fence."""
    return " ".join(_CONTROL.sub(" ", text).split())
