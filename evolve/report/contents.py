"""The contents of a report, read from a run's database alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evolve.display import TextTable, show_number
from evolve.edits.diffs import unified_diff
from evolve.population import RunState
from evolve.population.curves import trace_curve
from evolve.problem import Problem
from evolve.records import INITIAL, Attempt
from evolve.report.plots import draw_steps
from evolve.report.state import describe_money, describe_run, describe_state
from evolve.search.digests import read_lessons
from evolve.settings import Settings
from evolve.store import Store

_LESSONS = 30


@dataclass(frozen=True, slots=True)
class Listing:
    """A text as it is, such as a program: never markup.

    Attributes:
        text: Whatever a program or model wrote.
        language: For the fence of Markdown.
        title: Stands above it.
    """

    text: str
    language: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, with a sentence for those who cannot see it.

    Attributes:
        svg: Made by us, from numbers alone.
        caption: What it shows.
    """

    svg: str
    caption: str


Block = TextTable | Listing | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report."""

    title: str
    sections: tuple[Section, ...]


def write_contents(
    store: Store, run_state: RunState, problem: Problem, settings: Settings
) -> Document:
    """Returns the report of a run as it is now, also of one in progress.

    Raises:
        StoreError: The database cannot be read.
    """
    state = describe_run(store.folder, store, run_state)
    curve = _draw_curve(store, problem, settings)
    sections = [
        Section("Result", (TextTable(("", ""), describe_state(state, ())), *curve)),
        Section("What it took", (_tabulate_spent(state, store),)),
    ]
    if run_state.champion is not None:
        champion = store.load_attempt(run_state.champion.key)
        sections += _describe_champion(store, champion)
    lessons = read_lessons(store)[:_LESSONS]
    if lessons:
        rows = tuple(
            ("works" if item.lesson.works else "does not", item.lesson.claim, item.lesson.evidence)
            for item in lessons
        )
        sections.append(Section("Lessons", (TextTable(("", "claim", "evidence"), rows),)))
    sections.append(Section("Problem", (Listing(problem.statement),)))
    return Document(f"{state['problem']}: {state['run']}", tuple(sections))


def trace_line(store: Store, attempt: Attempt) -> list[Attempt]:
    """Returns a program's ancestors from the starting program on, and itself."""
    line = [attempt]
    while line[-1].parent is not None:
        line.append(store.load_attempt(line[-1].parent))
    return line[::-1]


def _draw_curve(store: Store, problem: Problem, settings: Settings) -> Iterator[Picture]:
    curve = trace_curve(store, problem, settings.search)
    points = [
        (float(point.evaluations), point.champion.objective)
        for point in curve
        if point.champion is not None
    ]
    svg = draw_steps(points, across="evaluations", up="objective")
    if svg:
        yield Picture(svg, "The champion's objective against programs evaluated.")


def _tabulate_spent(state: dict[str, Any], store: Store) -> TextTable:
    rows = []
    for role, model, used in store.usage():
        money = describe_money(used)
        tokens = (str(used.prompt_tokens), str(used.completion_tokens))
        rows.append((role, model, str(used.calls), *tokens, money))
    total = f"{state['evaluations']} evaluations, {state['seconds']:.1f} s"
    rows.append(
        ("all", total, str(state["calls"]), "", str(state["tokens"]), f"${state['cost_usd']:.4f}")
    )
    return TextTable(("role", "model", "calls", "prompt tokens", "tokens", "money"), tuple(rows))


def _describe_champion(store: Store, champion: Attempt) -> Iterator[Section]:
    line = trace_line(store, champion)
    rows = [
        (
            str(attempt.key.generation),
            show_number(attempt.objective),
            attempt.plan.change if attempt.plan else "the starting program",
        )
        for attempt in line
    ]
    head = ("generation", "objective", "plan")
    yield Section("The champion's lineage", (TextTable(head, tuple(rows)),))
    initial = dict(store.load_attempt(INITIAL).program_or_fail.files)
    changes: list[Block] = []
    sources: list[Block] = []
    for path, text in champion.program_or_fail.files:
        changed = unified_diff(initial.get(path, ""), text, path)
        changes.append(Listing(changed or "no change", "diff"))
        sources.append(Listing(text, title=path))
    yield Section("What it changed in the starting program", tuple(changes))
    yield Section("The champion", tuple(sources))
