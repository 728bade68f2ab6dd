"""What a run shows while it runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from evolve.display import clean, say_error
from evolve.errors import UsageError
from evolve.problem import Problem
from evolve.records import AttemptKey
from evolve.records.results import Call, Evaluated, Totals
from evolve.report.history import RunHistory
from evolve.report.observers import Callback, Caller, TrackerObserver, open_trackers
from evolve.report.phrases import describe_line, describe_stop, describe_time
from evolve.report.progress import Progress
from evolve.runs.outcome import Outcome, read_outcome
from evolve.search.loop import Observer
from evolve.search.population import load_population
from evolve.settings import Settings, flatten_settings
from evolve.steps.journal import Journal
from evolve.store import Store, is_locked

if TYPE_CHECKING:
    from rich.console import RenderableType

_LINE_EVERY_SECONDS = 5.0
_QUIET_SECONDS = 9.0
_POLL_SECONDS = 0.5
_PICTURES_PER_SECOND = 1.25
# What is done sooner is not worth a word.
_SOON_SECONDS = 0.4


class StandardOutput:
    """Standard output of a run, until its reader has had enough, as in `evolve run | head`.

    The run is then asked to stop, as by a closed terminal; the rest goes to standard error.

    Args:
        is_plain: Whether lines are wanted on a terminal, too.
    """

    def __init__(self, *, is_plain: bool = False) -> None:
        self._is_plain = is_plain
        self._is_closed = False

    @property
    def is_live(self) -> bool:
        """Returns whether it is a terminal on which a picture can be drawn again and again."""
        return (
            not self._is_plain
            and sys.stdout.isatty()
            and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
            and sys.stdout.encoding.lower().startswith("utf")
        )

    def write(self, text: str) -> None:
        """Writes a text at once; may be called from any thread."""
        try:
            if not self._is_closed:
                sys.stdout.write(clean(text))
                sys.stdout.flush()
        except BrokenPipeError:
            self._stop_run()

    def _stop_run(self) -> None:
        self._is_closed = True
        with open(os.devnull, "wb") as nowhere, suppress(OSError):  # noqa: PTH123
            # What could not be written is still in the buffer, and is dropped.
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
            sys.stdout.flush()
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        say_error("nobody reads standard output any more")
        signal.raise_signal(signal.SIGTERM)


class PlainView(Observer):
    """One line after a generation, at most one every five seconds; else one every ten.

    Args:
        progress: What is shown; it sees events first.
        stream: Where lines go.
        quiet_seconds: After so long without a line there is one, though nothing was committed.
    """

    def __init__(
        self, progress: Progress, stream: StandardOutput, *, quiet_seconds: float = _QUIET_SECONDS
    ) -> None:
        self._progress, self._stream = progress, stream
        self._quiet_seconds = quiet_seconds
        self._last = float("-inf")
        self._shown: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown != self._progress.reduce().generation:
            self._print()

    def tell(self, line: str) -> None:
        """Prints a line of its own."""
        self._stream.write(f"{line}\n")

    def on_tick(self) -> None:
        """Prints a line if the last one is old enough."""
        is_new = self._shown != self._progress.reduce().generation
        pause = _LINE_EVERY_SECONDS if is_new else self._quiet_seconds
        if time.monotonic() - self._last >= pause:
            self._print()

    def on_stop(self, reason: str, seconds: float | None) -> None:  # noqa: ARG002
        """Prints what is waited for."""
        shown = self._progress.reduce()
        if shown.traffic is not None and shown.traffic.waits:
            self._stream.write(f"{describe_stop(shown)}\n")

    def _print(self) -> None:
        shown = self._progress.reduce()
        self._last, self._shown = time.monotonic(), shown.generation
        self._stream.write(f"{describe_line(shown)}\n")


class LiveView(Observer):
    """A picture that fills the terminal, drawn by a thread of its own.

    It takes the terminal's other screen; lines for people are printed at the end.

    Args:
        progress: What is shown; it sees events first.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        # Standard error, where data for programs go to standard output.
        self._terminal = sys.stdout.fileno()
        self._console = Console()
        self._picture = Live(
            get_renderable=self._draw,
            console=self._console,
            screen=True,
            refresh_per_second=_PICTURES_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._picture.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._picture.stop()
        for line in self._progress.reduce().notes:
            self._console.print(clean(line), markup=False, highlight=False, soft_wrap=True)

    def tell(self, line: str) -> None:
        """Shows a line; may be called from any thread."""
        self._progress.note(line)
        self._picture.refresh()

    def on_stop(self, reason: str, seconds: float | None) -> None:  # noqa: ARG002
        """Shows at once what is waited for."""
        self._picture.refresh()

    def _draw(self) -> RenderableType:
        from rich.console import ConsoleDimensions

        from evolve.report.dashboard import arrange

        # A terminal that was closed has no size, and some do not know theirs.
        with suppress(OSError):
            width, height = os.get_terminal_size(self._terminal)
            # Rich believes COLUMNS and LINES, which say what was when a shell began.
            self._console.size = ConsoleDimensions(width or 80, height or 24)
        return arrange(self._progress.reduce(), *self._console.size)


class TerminalView:
    """The view of the run in this process: live on a terminal, plain lines elsewhere.

    Args:
        stream: Standard output; None shows nothing.
        calls: Functions of the caller, as `Caller` takes them.
        trackers: Names of the trackers that follow the run.
    """

    def __init__(
        self,
        stream: StandardOutput | None,
        calls: Mapping[str, Callback | None] = MappingProxyType({}),
        trackers: Sequence[str] = (),
    ) -> None:
        self._stream, self._calls, self._trackers = stream, calls, trackers
        self._view: LiveView | PlainView | None = None

    def tell(self, line: str) -> None:
        """Prints one line; may be called from any thread."""
        if self._view is not None:
            self._view.tell(line)
        elif self._stream is not None:
            self._stream.write(f"{line}\n")

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Says now and then that something is waited for."""
        if self._stream is None:
            yield
            return
        done = threading.Event()
        words = what, done, self._stream
        thread = threading.Thread(target=_keep_saying, args=words, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    @contextmanager
    def watch(
        self, store: Store, problem: Problem, settings: Settings, journal: Journal
    ) -> Iterator[Sequence[Observer]]:
        """Shows the run while it continues; yields what sees its events."""
        used, plain = journal.budget.totals_by_call, flatten_settings(settings)
        observers: list[Observer] = [Caller(self._calls, store, RunHistory(problem, settings))]
        with ExitStack() as stack:
            if self._stream is not None:
                progress = Progress(store, problem, settings, used, journal.traffic)
                view = open_view(progress, self._stream)
                observers += progress, stack.enter_context(view)
                self._view = view
            if self._trackers:
                trackers = open_trackers(self._trackers, store.folder, problem.name, plain)
                following = TrackerObserver(trackers, journal, self.tell)
                stack.callback(following.end)
                observers.append(following)
            try:
                yield observers
            finally:
                self._view = None


def _keep_saying(what: str, done: threading.Event, stream: StandardOutput) -> None:
    began = time.monotonic()
    if done.wait(_SOON_SECONDS):
        return
    if stream.is_live:
        from rich.console import Console

        with Console().status(what) as status:
            while not done.wait(1.0):
                status.update(f"{what}: {describe_time(time.monotonic() - began)}")
    else:
        while not done.wait(_QUIET_SECONDS):
            stream.write(f"{what}: {describe_time(time.monotonic() - began)} so far\n")


def open_view(progress: Progress, stream: StandardOutput) -> LiveView | PlainView:
    """Returns the view that fits where it goes; it is shown while it is entered."""
    return LiveView(progress) if stream.is_live else PlainView(progress, stream)


def follow_run(
    folder: Path, problem: Problem, settings: Settings, stream: StandardOutput
) -> Outcome:
    """Shows a run that another process writes until it ends, and returns how it ended.

    The outcome's reason is empty when the process left none because it was killed.

    Args:
        folder: The run's folder.
        problem: Its problem.
        settings: Its settings.
        stream: Shows a live view when it is a terminal, else plain lines.

    Raises:
        UsageError: The run has no checkpoint yet.
        StoreError: The database cannot be read.
    """
    with closing(Store.open_to_read(folder)) as store:
        follower = _Follower(store, problem, settings)
        with open_view(follower.progress, stream) as view:
            is_running = True
            while is_running:
                # Once the process has gone, its last commit is still to be read.
                is_running = is_locked(folder)
                follower.advance()
                view.on_tick()
                if is_running:
                    time.sleep(_POLL_SECONDS)
        return read_outcome(store, follower.state, store.facts().get("stopped_because") or "")


class _Follower:
    """Reads what another process records, each thing once.

    Args:
        store: The run's database.
        problem: Its problem.
        settings: Its settings.

    Raises:
        UsageError: The run has no checkpoint yet.
        StoreError: The database cannot be read.
    """

    def __init__(self, store: Store, problem: Problem, settings: Settings) -> None:
        self._store = store
        with store.frozen():
            self.state = load_population(store, problem, settings.search)
            if self.state.generation < 0:
                raise UsageError(
                    f"{store.folder}: the run has no checkpoint yet; try again in a moment"
                )
            self._spent = self._read_spent()
            self.progress = Progress(store, problem, settings, lambda: self._spent)
            self.progress.on_commit(self.state, None)
            self._seen = self._list_finished()

    def advance(self) -> None:
        """Takes in what is new.

        Raises:
            StoreError: The database cannot be read.
        """
        store, state, progress = self._store, self.state, self.progress
        with store.frozen():
            finished = self._list_finished()
            for key, item in finished.items():
                if key not in self._seen:
                    progress.on_record(item)
            self._seen, self._spent = finished, self._read_spent()
            last = store.last_generation() or 0
            for number in state.add_all(store.light_attempts(state.generation + 1), last):
                slots = tuple(store.load_slots(number))
                progress.on_commit(state, replace(store.load_generation(number), slots=slots))

    def _read_spent(self) -> dict[tuple[str, str], Totals]:
        return {(role, model): used for role, model, used in self._store.usage()}

    def _list_finished(self) -> dict[tuple[type, AttemptKey], Call | Evaluated]:
        """Returns what is recorded and not yet committed."""
        calls, evaluations = self._store.finished_after(self.state.generation)
        found: list[Call | Evaluated] = [*calls, *evaluations]
        return {(type(one), one.key): one for one in found}
