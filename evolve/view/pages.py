"""Pages that a report does not have: lists of runs and attempts, comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlencode

from evolve.display import Listing, TextTable, one_line, show_number
from evolve.errors import UsageError
from evolve.report.figures import draw_comparison
from evolve.report.phrases import RUN_COLUMNS, list_cells
from evolve.report.render import Document, LinkCell, Picture, Section
from evolve.report.timeline import AttemptRow
from evolve.runs.run_folder import load_run
from evolve.search.curves import compare, trace_run
from evolve.store import Store
from evolve.view.watched import WatchedRun

_PAGE = 100
_HEAD = ("attempt", "outcome", "objective", "gain", "island", "by", "parent", "seconds", "change")


class FormField(NamedTuple):
    """A field of the form above a list.

    Attributes:
        name: Its name and label.
        value: What it is set to.
        choices: What it may be set to; empty for any text.
    """

    name: str
    value: str
    choices: Sequence[str] = ()


# Characters of a text in a list.
_LONGEST_TEXT = 300

_SORTS: Mapping[str, Callable[[AttemptRow], Any]] = {
    "newest": lambda row: tuple(-part for part in row.attempt.key),
    "oldest": lambda row: row.attempt.key,
    "slowest": lambda row: -row.attempt.seconds,
    "largest gain": lambda row: -(row.gain if row.gain is not None else float("-inf")),
    "objective": lambda row: (row.attempt.objective is None, row.attempt.objective),
}


def list_runs(runs: Sequence[WatchedRun]) -> Document:
    """Returns the page with all runs."""
    rows: list[list[object]] = []
    problems: dict[str, list[str]] = {}
    for run in runs:
        state = run.summarize()
        rows.append([LinkCell(run.folder.name, run.address), *list_cells(state)[1:]])
        if "error" not in state:
            problems.setdefault(state["problem"], []).append(run.address.rpartition("/")[2])
    empty = Listing("no runs here yet; start one with `evolve run PROBLEM`", "text")
    sections = [Section("All runs", (TextTable(RUN_COLUMNS, rows) if rows else empty,))]
    compared = {name: names for name, names in problems.items() if len(names) > 1}
    if compared:
        links = [
            (LinkCell(f"compare {len(names)} runs of {problem}",
                      f"/compare?{urlencode({'run': names}, doseq=True)}"),)
            for problem, names in compared.items()
        ]  # fmt: skip
        sections.append(Section("Compare", (TextTable(("",), links),)))
    return Document("Runs", tuple(sections))


def list_attempts(
    run: WatchedRun, wanted: Mapping[str, str]
) -> tuple[Document, Sequence[FormField]]:
    """Returns a page of attempts, and the form that chooses them.

    Args:
        run: The run.
        wanted: Values of the form's fields by name, and `page`, from 1.

    Raises:
        UsageError: The folder is no run.
        StoreError: The database cannot be read.
    """
    rows = run.list_attempts()
    fields = [
        FormField("search", wanted.get("search", "")),
        *(
            FormField(name, wanted.get(name, ""), sorted({_show(name, row) for row in rows}))
            for name in ("outcome", "island", "by")
        ),
        FormField("sort", wanted.get("sort", ""), tuple(_SORTS)),
    ]
    found = [row for row in rows if _is_wanted(row, fields)]
    found.sort(key=_SORTS.get(fields[-1].value, _SORTS["newest"]))
    page = int(wanted["page"]) if wanted.get("page", "").isdecimal() else 1
    shown = found[(page - 1) * _PAGE : page * _PAGE]
    table = TextTable(_HEAD, tuple(_list_attempt(run, row) for row in shown))
    title = f"{len(found)} of {len(rows)} attempts"
    pages = -(-len(found) // _PAGE)
    if pages > 1:
        title += f", page {page} of {pages}"
    around = [("previous page", page - 1), ("next page", page + 1)]
    links = tuple(
        LinkCell(name, f"{run.address}/attempts?{urlencode({**wanted, 'page': at})}")
        for name, at in around
        if 1 <= at <= pages
    )
    blocks = (table, TextTable(("",) * len(links), (links,))) if links else (table,)
    return Document(f"Attempts of {run.folder.name}", (Section(title, blocks),)), fields


def write_comparison(runs: Sequence[WatchedRun]) -> Document:
    """Returns the page that compares runs of a problem.

    Raises:
        UsageError: There are none, or they are runs of several problems.
        StoreError: A database cannot be read.
    """
    if not runs:
        raise UsageError("expected runs to compare: /compare?run=NAME&run=NAME")
    traces = []
    for run in runs:
        problem, settings = load_run(run.folder)
        with closing(Store.open_to_read(run.folder)) as store:
            traces.append(trace_run(store, problem, settings))
    groups = compare(traces)
    caption = "Medians and intervals over the runs of each group."
    rows = tuple(
        (
            group.name,
            len(group.traces),
            ", ".join(trace.run for trace in group.traces),
            ", ".join(show_number(float(trace.best[-1])) for trace in group.traces),
        )
        for group in groups
    )
    table = TextTable(("group", "runs", "names", "champions"), rows)
    picture = Picture(draw_comparison(groups), caption)
    title = f"Runs of {traces[0].problem} compared"
    return Document(title, (Section("Groups", (table,)), Section("Curves", (picture,))))


def _show(name: str, row: AttemptRow) -> str:
    return str(
        {"outcome": row.attempt.status, "island": row.attempt.island, "by": row.source}[name]
    )


def _is_wanted(row: AttemptRow, fields: Sequence[FormField]) -> bool:
    words = fields[0].value.lower().split()
    attempt = row.attempt
    change = attempt.plan.change if attempt.plan else ""
    searched = f"{attempt.key} {attempt.program_id} {change} {attempt.reason}".lower()
    return all(word in searched for word in words) and all(
        field.value in {"", _show(field.name, row)} for field in fields[1:-1]
    )


def _list_attempt(run: WatchedRun, row: AttemptRow) -> tuple[object, ...]:
    attempt, links = row.attempt, f"{run.address}/attempts"
    change = attempt.plan.change if attempt.plan else "the starting program"
    return (
        LinkCell(str(attempt.key), f"{links}/{attempt.key}"),
        attempt.status,
        show_number(attempt.objective),
        None if row.gain is None else f"{row.gain:+.6g}",
        attempt.island,
        row.source,
        attempt.parent and LinkCell(str(attempt.parent), f"{links}/{attempt.parent}"),
        f"{attempt.seconds:.3f}",
        one_line((attempt.reason or change)[:_LONGEST_TEXT]),
    )
