"""Prompts: Markdown templates, filled with what a step may show."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from evolve.errors import ProblemError
from evolve.records import Status
from evolve.records.chat import Message
from evolve.source import find_blocks
from evolve.steps.blocks import Block, fence, fit_blocks, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evolve.models.tokens import TokenCounter
    from evolve.problem import Problem
    from evolve.records import Ancestor, Attempt, Plan, Program
    from evolve.steps.memory import Digest

_SLOT = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")


def compose(
    name: str, problem: Problem, blocks: Sequence[Block], *, most: int, counter: TokenCounter
) -> tuple[Message, ...]:
    """Gives the messages of a template, all of them together within a cap of tokens.

    Args:
        name: One of `evolve.problem.files.PROMPTS`.
        problem: What is solved; its statement is cut at the very last.
        blocks: Values of the template that give way where there is no room.
        most: Cap on the tokens of all messages together.
        counter: Counts for the model that is asked.

    Raises:
        ProblemError: The problem's own template names a value that does not exist.
    """
    values = common_values(problem)
    statement = Block("statement", (problem.statement.strip(),), rank=0)
    fixed = _load_template(name, problem.folder)[0] + " ".join(values.values())
    texts = fit_blocks([*blocks, statement], fixed, most, counter)
    return fill_template(name, problem.folder, values | texts)


def fill_template(name: str, folder: Path, values: Mapping[str, str]) -> tuple[Message, ...]:
    """Gives the messages of a template, the problem's own one where it has one.

    The text above a line of five dashes is the system message. Lines left empty by empty values
    are closed up.

    Args:
        name: One of `evolve.problem.files.PROMPTS`; a file `prompts/NAME.md` in the problem
            folder goes first.
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


def show_program(program: Program) -> str:
    """Gives the files of a program, fenced; the first is the entry file."""
    parts = []
    for path, text in program.files:
        language = path.rpartition(".")[2] if "." in path else ""
        title = f"File `{path}`:\n\n" if len(program.files) > 1 else ""
        parts.append(title + fence(text, {"py": "python"}.get(language, language)))
    return "\n\n".join(parts)


def show_numbered(program: Program) -> str:
    """Gives a program's first file, fenced, with the number of each line before it."""
    lines = program.entry.text.splitlines()
    return fence("\n".join(f"{number:4}| {line}" for number, line in enumerate(lines, 1)))


def show_evaluation(attempt: Attempt, *, detail_characters: int = 2000) -> str:
    """Gives what the evaluator said about an attempt."""
    return "\n\n".join(list_evaluation(attempt, detail_characters=detail_characters))


def list_evaluation(attempt: Attempt, *, detail_characters: int = 2000) -> tuple[str, ...]:
    """Gives what the evaluator said about an attempt, the verdict first, then each artifact."""
    evaluation = attempt.evaluation.as_told()
    if evaluation.status is Status.OK:
        numbers = {"objective": evaluation.objective, **evaluation.metrics, **evaluation.measures}
        verdict = "Evaluation: " + ", ".join(f"{plain(k)} {v:.10g}" for k, v in numbers.items())
    else:
        verdict = f"Evaluation: {evaluation.status}\n\n{fence(evaluation.reason[:500])}"
    artifacts = (
        f"{plain(name)}:\n\n{fence(text[-detail_characters:])}"
        for name, text in evaluation.artifacts.items()
    )
    return (verdict, *artifacts)


def show_plan(plan: Plan | None) -> str:
    """Gives a plan as a short list."""
    if plan is None:
        return "None: this is the starting program."
    lines = [f"- change: {plain(plan.change)}"]
    if plan.hypothesis:
        lines.append(f"- hypothesis: {plain(plan.hypothesis)}")
    if plan.predicted_gain is not None:
        lines.append(f"- predicted gain: {plan.predicted_gain:.6g}")
    if plan.risk:
        lines.append(f"- risk: {plain(plan.risk)}")
    return "\n".join(lines)


def inspirations_block(inspirations: Sequence[Ancestor]) -> Block:
    """Gives other elites with their source."""
    items = [
        show_evaluation(elite.attempt, detail_characters=300)
        + "\n\n"
        + show_program(elite.attempt.program_or_fail)
        for elite in inspirations
    ]
    return Block("inspirations", tuple(items), "# Other good programs", share=0.4, rank=6)


def parent_blocks(attempt: Attempt) -> list[Block]:
    """Gives a parent's source and what the evaluator said about it."""
    source = show_program(attempt.program_or_fail)
    return [
        Block("parent_evaluation", list_evaluation(attempt), share=0.25, rank=2),
        Block("parent_source", (source,), rank=0),
    ]


def machine_block(digest: Digest) -> Block:
    """Gives what programs find in the sandbox, to follow on their limits."""
    return Block("machine", (f" {digest.machine}",) if digest.machine else (), rank=1)


def show_messages(messages: Sequence[Message]) -> str:
    """Gives messages as text for people."""
    return "\n".join(f"[{message.role}]\n{message.text}\n" for message in messages)


def common_values(problem: Problem) -> dict[str, str]:
    """Gives the values that every template may use."""
    return {
        "direction": str(problem.direction),
        "objective_name": "objective",
        "limits": f"The program may run for {problem.limits.get('seconds', 10.0):g} seconds.",
    }


def show_editable(program: Program) -> str:
    """Says which parts of a program's files may change."""
    bounded = [
        f"`{path}`"
        for path, text in program.files
        if [(block.start, block.end) for block in find_blocks(text)] != [(0, len(text))]
    ]
    if not bounded:
        return "All of the program may change."
    lines = "the lines between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change"
    if len(bounded) == len(program.files):
        return f"Only {lines}."
    return f"Of {', '.join(bounded)} only {lines}, of the other files everything."
