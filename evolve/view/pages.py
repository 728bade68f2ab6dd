"""Runs as pages show them: each is read again only where its database has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from evolve.display import Listing, TextTable, one_line, show_number
from evolve.errors import EvolveError, UsageError
from evolve.problem import Problem
from evolve.report.contents import describe_attempt, write_contents
from evolve.report.figures import draw_comparison
from evolve.report.history import AttemptRow, RunHistory, find_attempt
from evolve.report.overview import describe_run
from evolve.report.phrases import RUN_COLUMNS, list_cells
from evolve.report.render import Document, LinkCell, Picture, Section, render_section
from evolve.runs.run_folder import SETTINGS_FILE, list_runs, load_run
from evolve.search.curves import compare, trace_run
from evolve.search.population import load_population
from evolve.settings import Settings
from evolve.store import DATABASE, Store, is_locked

# Between two readings of what is written all the time, the rest of a page lasts longer.
_SECTIONS_EVERY_SECONDS = 2.0
# A larger section is fetched by the page that shows it.
_SMALL = 4000
_FILES = (DATABASE, f"{DATABASE}-wal", SETTINGS_FILE)


class Received(NamedTuple):
    """What a browser has got so far; the address of its events says it.

    Attributes:
        rows: How many attempts.
        elites: How many elites.
        frames: How many frames of the archives.
        version: That of the newest section.
    """

    rows: int = 0
    elites: int = 0
    frames: int = 0
    version: int = 0

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Received:
        """Returns what the query of an address says."""
        given = (query.get(name, "") for name in cls._fields)
        return cls(*(int(found) if found.isdecimal() else 0 for found in given))


class WatchedRun:
    """One run; may be used from any thread.

    Args:
        folder: The run's folder.
        address: Where its pages are, without a slash at the end.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self._lock = threading.Lock()
        self._stamp: tuple[Any, ...] = ()
        self._history: RunHistory | None = None
        self._made: tuple[Problem, Settings] | None = None
        self._summary: tuple[tuple[Any, ...], Mapping[str, Any]] = ((), {})
        # By anchor: since which version a section is as it is, and its HTML.
        self._sections: dict[str, tuple[int, str]] = {}
        self._version = 0
        self._rendered = 0.0
        self._rendered_of: tuple[Any, ...] = ()

    @property
    def link(self) -> str:
        """Returns where its attempts are shown: a pattern with `{key}`."""
        return f"{self.address}/attempts/{{key}}"

    def is_running(self) -> bool:
        """Returns whether a process holds the run."""
        return is_locked(self.folder)

    def summarize(self) -> Mapping[str, Any]:
        """Returns what `evolve show --json` prints, or the `error` that stands in the way."""
        with self._lock:
            stamp = (*self._read_stamp(), self.is_running())
            if self._summary[0] != stamp:
                self._summary = stamp, self._read_summary()
            return self._summary[1]

    def _read_summary(self) -> Mapping[str, Any]:
        try:
            problem, settings = load_run(self.folder)
            with closing(Store.open_to_read(self.folder)) as store:
                state = load_population(store, problem, settings.search)
                return describe_run(self.folder, store, state)
        except EvolveError as error:
            # The others are still worth a look.
            return {"run": self.folder.name, "error": str(error)}

    def write_page(self) -> tuple[Document, dict[str, Any], str]:
        """Returns the page of the run, the data of its figures, and where its events are.

        Raises:
            UsageError: The folder is no run.
            StoreError: The database cannot be read.
        """
        with self._lock:
            history = self._advance()
            document = self._render(history)
            query = urlencode(self._count(history)._asdict())
            return document, history.as_data(), f"{self.address}/events?{query}"

    def find_update(self, seen: Received) -> tuple[dict[str, Any] | None, Received]:
        """Returns what a browser has not got yet, None where that is nothing, and what it has then.

        Raises:
            UsageError: The folder is no run.
            StoreError: The database cannot be read.
        """
        with self._lock:
            history = self._advance()
            # Anew for a new best, else now and then.
            is_due = time.monotonic() - self._rendered > _SECTIONS_EVERY_SECONDS
            of = self._describe_rendering(history)
            if of[:2] != self._rendered_of[:2] or (is_due and of != self._rendered_of):
                self._render(history)
            now = self._count(history)
            if now == seen:
                return None, seen
            changed = {
                anchor: html
                for anchor, (version, html) in self._sections.items()
                if version > seen.version
            }
            small = {anchor: html for anchor, html in changed.items() if len(html) <= _SMALL}
            # Most of them are never looked at while they change.
            large = [anchor for anchor in changed if anchor not in small]
            return {"data": history.as_data(*seen[:3]), "sections": small, "stale": large}, now

    def find_section(self, anchor: str) -> str:
        """Returns the HTML of a section as it was rendered last.

        Raises:
            UsageError: The page has no such section.
        """
        with self._lock:
            if anchor not in self._sections:
                raise UsageError(f"no section {anchor!r} on the page of this run")
            return self._sections[anchor][1]

    def list_attempts(self) -> Sequence[AttemptRow]:
        """Returns all committed attempts, in order.

        Raises:
            UsageError: The folder is no run.
            StoreError: The database cannot be read.
        """
        with self._lock:
            return [*self._advance().rows]

    def describe_attempt(self, name: str) -> Document:
        """Returns the page of one attempt, named as for `evolve show`.

        Raises:
            UsageError: The folder is no run, or it has no such attempt.
            StoreError: The database cannot be read.
        """
        with self._lock:
            history = self._advance()
        problem, _ = self._load()
        with closing(Store.open_to_read(self.folder)) as store:
            attempt = find_attempt(store, history.state, name)
            return describe_attempt(store, problem, attempt, self.link)

    def _load(self) -> tuple[Problem, Settings]:
        if self._made is None:
            self._made = load_run(self.folder)
        return self._made

    def _advance(self) -> RunHistory:
        stamp = self._read_stamp()
        if stamp != self._stamp:
            # A resume may have changed the settings.
            self._made = None
        if self._history is None:
            self._history = RunHistory(*self._load())
        if stamp != self._stamp:
            with closing(Store.open_to_read(self.folder)) as store:
                self._history.advance(store)
            self._stamp = stamp
        return self._history

    def _read_stamp(self) -> tuple[Any, ...]:
        found: list[Any] = []
        for name in _FILES:
            path = self.folder / name
            if path.exists():
                facts = path.stat()
                found.append((facts.st_ino, facts.st_mtime_ns, facts.st_size))
        return tuple(found)

    def _render(self, history: RunHistory) -> Document:
        """Returns the page, and keeps its sections, which browsers have or are to get."""
        with closing(Store.open_to_read(self.folder)) as store:
            document = write_contents(store, history, *self._load(), self.link)
        for section in document.sections:
            html = render_section(section)
            if html != self._sections.get(section.anchor, (0, ""))[1]:
                self._version += 1
                self._sections[section.anchor] = self._version, html
        self._rendered = time.monotonic()
        self._rendered_of = self._describe_rendering(history)
        return document

    def _describe_rendering(self, history: RunHistory) -> tuple[Any, ...]:
        return history.best, self.is_running(), self._stamp

    def _count(self, history: RunHistory) -> Received:
        rows, elites, frames = history.rows, history.elites, history.frames
        return Received(len(rows), len(elites), len(frames), self._version)


class WatchedRuns:
    """The runs that a server shows.

    Args:
        named: Folders of runs; without any all runs in `parent`, also those that begin later.
        parent: A folder of runs.
    """

    def __init__(self, named: Sequence[Path], parent: Path) -> None:
        self._named = named
        self._parent = parent
        self._runs: dict[Path, WatchedRun] = {}

    def list_all(self) -> list[WatchedRun]:
        """Returns the runs, the newest first."""
        folders = self._named or list_runs(self._parent)[::-1]
        names: dict[str, int] = {}
        for folder in folders:
            number = names[folder.name] = names.get(folder.name, 0) + 1
            name = folder.name if number == 1 else f"{folder.name}~{number}"
            self._runs.setdefault(folder, WatchedRun(folder, f"/runs/{name}"))
        return [self._runs[folder] for folder in folders]

    def find(self, name: str) -> WatchedRun:
        """Returns a run by the name in its address.

        Raises:
            UsageError: There is none.
        """
        for run in self.list_all():
            if run.address == f"/runs/{name}":
                return run
        raise UsageError(f"no run {name!r} here")


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


def show_runs(runs: Sequence[WatchedRun]) -> Document:
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
