"""A run that pages are made of: read again only where its database has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from evolve.display import show_number
from evolve.errors import EvolveError, UsageError
from evolve.population.snapshot import load_state
from evolve.problem import Problem
from evolve.records import AttemptKey
from evolve.records.results import AttemptText
from evolve.report.attempt_details import find_attempt
from evolve.report.contents import describe_attempt, write_contents
from evolve.report.elements import Document
from evolve.report.overview import describe_run
from evolve.report.render import render_section
from evolve.report.timeline import AttemptRow, RunHistory
from evolve.runs.run_folder import SETTINGS_FILE, list_runs, load_run
from evolve.settings import Settings
from evolve.store import DATABASE, Store, is_locked

# Between two readings of what is written all the time, the rest of a page lasts longer.
_SECTIONS_EVERY_SECONDS = 2.0
_LONGEST_TEXT = 300
# A larger section is fetched by the page that shows it.
_SMALL = 4000
_FILES = (DATABASE, f"{DATABASE}-wal", SETTINGS_FILE)


# What the address of a page's events says that the page has.
_COUNTED = ("rows", "elites", "frames", "rendering")


class Received(NamedTuple):
    """What a browser has got so far.

    Attributes:
        rows: How many attempts.
        elites: How many elites.
        frames: How many frames of the archives.
        sections: The HTML of each section, by its anchor.
    """

    rows: int = 0
    elites: int = 0
    frames: int = 0
    sections: Mapping[str, str] = {}


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
        self._texts: dict[AttemptKey, AttemptText] = {}
        self._summary: Mapping[str, Any] = {}
        self._sections: dict[str, str] = {}
        self._rendering = 0
        self._rendered = 0.0
        self._rendered_of: tuple[Any, ...] = ()
        self._rendered_stamp: tuple[Any, ...] = ()

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
            if self._summary.get("stamp") != stamp:
                try:
                    problem, settings = load_run(self.folder)
                    with closing(Store.open_to_read(self.folder)) as store:
                        state = load_state(store, problem, settings.search)
                        found = describe_run(self.folder, store, state)
                except EvolveError as error:
                    # The others are still worth a look.
                    found = {"run": self.folder.name, "error": str(error)}
                self._summary = {**found, "stamp": stamp}
            return self._summary

    def write_page(self) -> tuple[Document, dict[str, Any], str]:
        """Returns the page of the run, the data of its figures, and where its events are.

        Raises:
            UsageError: The folder is no run.
            StoreError: The database cannot be read.
        """
        with self._lock:
            history = self._advance()
            document = self._write(history)
            self._keep(document, history)
            counts = (len(history.rows), len(history.elites), len(history.frames))
            query = urlencode(dict(zip(_COUNTED, (*counts, self._rendering), strict=True)))
            return document, history.as_data(), f"{self.address}/events?{query}"

    def begin_updates(self, counts: Mapping[str, str]) -> Received:
        """Returns what a browser has that asks for events at the address of `write_page`."""
        with self._lock:
            given = [counts.get(name, "") for name in _COUNTED]
            rows, elites, frames, rendering = (
                int(found) if found.isdecimal() else 0 for found in given
            )
            sections = self._sections if rendering == self._rendering else {}
            return Received(rows, elites, frames, sections)

    def find_update(self, seen: Received) -> tuple[dict[str, Any] | None, Received]:
        """Returns what a browser has not got yet, None where that is nothing, and what it has then.

        Raises:
            UsageError: The folder is no run.
            StoreError: The database cannot be read.
        """
        with self._lock:
            history = self._advance()
            sections = self._render(history)
            changed = {
                anchor: html
                for anchor, html in sections.items()
                if seen.sections.get(anchor) != html
            }
            counts = (len(history.rows), len(history.elites), len(history.frames))
            if not changed and counts == seen[:3]:
                return None, seen
            data = history.as_data(*seen[:3])
            small = {anchor: html for anchor, html in changed.items() if len(html) <= _SMALL}
            # Most of them are never looked at while they change.
            large = [anchor for anchor in changed if anchor not in small]
            update = {"data": data, "sections": small, "stale": large}
            return update, Received(*counts, sections)

    def find_section(self, anchor: str) -> str:
        """Returns the HTML of a section as it was rendered last.

        Raises:
            UsageError: The page has no such section.
        """
        with self._lock:
            if anchor not in self._sections:
                raise UsageError(f"no section {anchor!r} on the page of this run")
            return self._sections[anchor]

    def list_attempts(self) -> Sequence[tuple[AttemptRow, AttemptText]]:
        """Returns all committed attempts with their texts, in order.

        Raises:
            UsageError: The folder is no run.
            StoreError: The database cannot be read.
        """
        with self._lock:
            history = self._advance()
            if len(self._texts) < len(history.rows):
                last = max((key.generation for key in self._texts), default=-1)
                with closing(Store.open_to_read(self.folder)) as store:
                    self._texts |= {
                        text.key: text._replace(
                            change=text.change[:_LONGEST_TEXT], reason=text.reason[:_LONGEST_TEXT]
                        )
                        for text in store.attempt_texts(last + 1)
                    }
            return [(row, self._texts[row.key]) for row in history.rows]

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

    def _write(self, history: RunHistory) -> Document:
        with closing(Store.open_to_read(self.folder)) as store:
            return write_contents(store, history, *self._load(), self.link)

    def _render(self, history: RunHistory) -> dict[str, str]:
        """Returns the sections as HTML: anew for a new best, else not more often than they cost."""
        now, of = time.monotonic(), (history.best, self.is_running())
        is_due = now - self._rendered > _SECTIONS_EVERY_SECONDS
        if of != self._rendered_of or (is_due and self._stamp != self._rendered_stamp):
            self._keep(self._write(history), history)
        return self._sections

    def _keep(self, document: Document, history: RunHistory) -> None:
        """Keeps the sections of a page, which browsers have or are to get."""
        sections = {one.anchor: render_section(one) for one in document.sections}
        if sections != self._sections:
            self._rendering += 1
            self._sections = sections
        self._rendered = time.monotonic()
        self._rendered_of = (history.best, self.is_running())
        self._rendered_stamp = self._stamp


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


def describe_champion(summary: Mapping[str, Any]) -> str:
    """Returns the champion's objective of a run's summary, for a table."""
    champion = summary.get("champion")
    return show_number(champion["objective"] if champion else None)
