"""Writes a page for every problem of the gallery: `docs/reference/problems/NAME.md`.

    python scripts/write_problem_pages.py

What stands in a page comes from the problem's own files; a picture, where there is one, is made
by `evolve best RUN --plot docs/reference/problems/NAME.svg` from a run of that problem.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from evolve.problem import Purpose, load_problem

if TYPE_CHECKING:
    from evolve.problem import Problem, Reference

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference" / "problems"


def write_page(problem: Problem) -> str:
    """Returns the page of a problem."""
    name = problem.name
    docstring = ast.get_docstring(ast.parse(problem.evaluator.read_text("utf-8"))) or ""
    rows = [
        ("direction", str(problem.direction)),
        ("parameters", _list(problem.parameters)),
        ("measures", ", ".join(axis.name for axis in problem.measures)),
        ("limits of a program", _list(problem.limits)),
        *((name, _cite(known)) for name, known in problem.references.items()),
        ("hold-out", "reported when a run stops" if Purpose.HOLDOUT in problem.functions else ""),
    ]
    table = [f"| {key} | {value} |" for key, value in rows if value]
    picture = f"![{problem.summary}]({name}.svg)\n\nThe champion of a run without a model.\n"
    parts = [
        f"# {name}",
        f"{problem.summary[0].upper()}{problem.summary[1:]}: `evolve run {name}`.",
        "\n".join(["| | |", "| --- | --- |", *table]),
        picture.strip() if (PAGES / f"{name}.svg").is_file() else "",
        (
            f"**Judged by** `evaluators/{problem.evaluator.name}`: "
            f"{docstring.partition(chr(10) + chr(10))[0]}"
        ),
        f"What models read is `problems/{name}/statement.md`; the program is next to it.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_index(problems: list[Problem]) -> str:
    """Returns the list of all pages."""
    lines = [f"- [{problem.name}]({problem.name}.md): {problem.summary}" for problem in problems]
    return "\n".join(["# Problems", "", *lines]) + "\n"


def list_problems() -> list[Problem]:
    """Returns the problems of the repository, by name."""
    return [load_problem(path.parent) for path in sorted(ROOT.glob("problems/*/problem.toml"))]


def main() -> None:
    """Writes all pages."""
    PAGES.mkdir(parents=True, exist_ok=True)
    problems = list_problems()
    for problem in problems:
        (PAGES / f"{problem.name}.md").write_text(write_page(problem), encoding="utf-8")
    (PAGES / "README.md").write_text(write_index(problems), encoding="utf-8")


def _list(values: object) -> str:
    return ", ".join(f"{key} {value}" for key, value in dict(values).items())  # type: ignore[call-overload]


def _cite(reference: Reference | None) -> str:
    return "" if reference is None else f"{reference.value!r} ({reference.source})"


if __name__ == "__main__":
    main()
