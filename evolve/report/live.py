"""What a run shows while it runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Self

from evolve.display import clean, say_error
from evolve.errors import UsageError
from evolve.population import RunState
from evolve.population.snapshot import load_state
from evolve.problem import Problem
from evolve.records import AttemptKey
from evolve.records.results import Call, Evaluated, Expense, Generation, SlotResult, Totals
from evolve.report.phrases import describe_line, describe_stop, describe_time
from evolve.report.progress import Progress
from evolve.runs.outcome import Outcome, read_outcome
from evolve.search.loop import Observer
from evolve.settings import Settings
from evolve.steps.journal import Journal
from evolve.store import Store, is_locked

_LINE_EVERY_SECONDS = 5.0
_QUIET_SECONDS = 9.0
_POLL_SECONDS = 0.5
# The first lines are drawn every half second, the whole picture so seldom that it takes no more
# than this share of the time, and at once when the terminal has another size.
_TOP_SECONDS, _DRAWING_SHARE, _LONGEST_SECONDS = 0.5, 0.005, 2.0
_RESIZED_SECONDS = 0.1
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


class ProgressView(Observer):
    """Passes what happens on to what is shown; views differ in how they show it.

    Args:
        progress: What is shown.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_record(self, item: Call | Evaluated | Expense) -> None:
        """Counts what was recorded."""
        self.progress.record(item)

    def on_slot(self, result: SlotResult) -> None:
        """Counts the attempts of a slot."""
        self.progress.end_slot(result)

    def on_commit(self, population: RunState, generation: Generation | None) -> None:
        """Takes in a new checkpoint."""
        if generation is None:
            self.progress.commit(population)
        else:
            self.progress.commit(population, generation.slots, generation.summary)

    def on_stop(self, reason: str, seconds: float | None) -> None:
        """Takes note of what is waited for at the end."""
        self.progress.stop(reason, seconds)


class PlainView(ProgressView):
    """One line after a generation, at most one every five seconds; else one every ten.

    Args:
        progress: What is shown.
        stream: Where lines go.
        quiet_seconds: After so long without a line there is one, though nothing was committed.
    """

    def __init__(
        self, progress: Progress, stream: StandardOutput, *, quiet_seconds: float = _QUIET_SECONDS
    ) -> None:
        super().__init__(progress)
        self._stream = stream
        self._quiet_seconds = quiet_seconds
        self._last = float("-inf")
        self._shown: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown != self.progress.reduce().generation:
            self._print()

    def tell(self, line: str) -> None:
        """Prints a line of its own."""
        self._stream.write(f"{line}\n")

    def on_commit(self, population: RunState, generation: Generation | None) -> None:
        """Prints a line if the last one is old enough."""
        super().on_commit(population, generation)
        if time.monotonic() - self._last >= _LINE_EVERY_SECONDS:
            self._print()

    def on_tick(self) -> None:
        """Prints a line if there was none for long."""
        if time.monotonic() - self._last >= self._quiet_seconds:
            self._print()

    def on_stop(self, reason: str, seconds: float | None) -> None:
        """Prints what is waited for."""
        super().on_stop(reason, seconds)
        shown = self.progress.reduce()
        if shown.traffic is not None and shown.traffic.waits:
            self._stream.write(f"{describe_stop(shown)}\n")

    def _print(self) -> None:
        shown = self.progress.reduce()
        self._last, self._shown = time.monotonic(), shown.generation
        self._stream.write(f"{describe_line(shown)}\n")


class LiveView(ProgressView):
    """A picture that fills the terminal, drawn by a thread of its own.

    It takes the terminal's other screen; lines for people are printed at the end.

    Args:
        progress: What is shown.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self._news = threading.Event()
        self._has_ended = False
        self._thread = threading.Thread(target=self._keep_drawing, daemon=True)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        from rich.console import Console

        # Standard error, where data for programs go to standard output.
        self._terminal = sys.stdout.fileno()
        self._console = Console()
        self._open.enter_context(self._console.screen())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended = True
        self._news.set()
        self._thread.join()
        self._open.close()
        for line in self.progress.reduce().notes:
            self._console.print(clean(line), markup=False, highlight=False, soft_wrap=True)

    def tell(self, line: str) -> None:
        """Shows a line; may be called from any thread."""
        self.progress.note(line)
        self._news.set()

    def on_stop(self, reason: str, seconds: float | None) -> None:
        """Shows at once what is waited for."""
        super().on_stop(reason, seconds)
        self._news.set()

    def _keep_drawing(self) -> None:
        whole_at, size = float("-inf"), None
        # A terminal that was closed has no size.
        with suppress(OSError):
            while not self._has_ended:
                began, now = time.thread_time(), self._measure()
                is_whole = size != now or time.monotonic() >= whole_at
                size = now
                self._draw(size, is_whole=is_whole)
                if is_whole:
                    pause = (time.thread_time() - began) / _DRAWING_SHARE
                    whole_at = time.monotonic() + min(max(pause, _TOP_SECONDS), _LONGEST_SECONDS)
                if self._wait_for_news(size):
                    whole_at = float("-inf")

    def _measure(self) -> tuple[int, int]:
        """Returns the columns and lines of the terminal; some do not know theirs."""
        width, height = os.get_terminal_size(self._terminal)
        return width or 80, height or 24

    def _wait_for_news(self, size: tuple[int, int]) -> bool:
        """Waits for the next picture; returns whether all of it is due because of news."""
        until = time.monotonic() + _TOP_SECONDS
        while time.monotonic() < until and self._measure() == size:
            if self._news.wait(_RESIZED_SECONDS):
                self._news.clear()
                return True
        return False

    def _draw(self, size: tuple[int, int], *, is_whole: bool) -> None:
        from rich.console import ConsoleDimensions
        from rich.control import Control
        from rich.screen import Screen

        from evolve.report.dashboard import arrange, arrange_top, count_top

        console, shown = self._console, self.progress.reduce()
        width, height = size
        # Rich believes COLUMNS and LINES, which say what was when a shell began.
        console.size = ConsoleDimensions(width, height)
        console.control(Control.home())
        if is_whole:
            # Without a line break at the end, at which the terminal would scroll.
            console.print(Screen(arrange(shown, width, height)), end="")
        else:
            console.print(arrange_top(shown, height), height=count_top(height), end="")


class TerminalView:
    """The view of the run in this process: live on a terminal, plain lines elsewhere.

    Args:
        stream: Standard output.
    """

    def __init__(self, stream: StandardOutput) -> None:
        self._stream = stream
        self._view: LiveView | PlainView | None = None

    def tell(self, line: str) -> None:
        """Prints one line; may be called from any thread."""
        if self._view is None:
            self._stream.write(f"{line}\n")
        else:
            self._view.tell(line)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Says now and then that something is waited for."""
        done = threading.Event()
        thread = threading.Thread(target=self._keep_saying, args=(what, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _keep_saying(self, what: str, done: threading.Event) -> None:
        began = time.monotonic()
        if done.wait(_SOON_SECONDS):
            return
        if self._stream.is_live:
            from rich.console import Console

            with Console().status(what) as status:
                while not done.wait(1.0):
                    status.update(f"{what}: {describe_time(time.monotonic() - began)}")
        else:
            while not done.wait(_QUIET_SECONDS):
                self._stream.write(f"{what}: {describe_time(time.monotonic() - began)} so far\n")

    @contextmanager
    def watch(
        self, store: Store, problem: Problem, settings: Settings, journal: Journal
    ) -> Iterator[Sequence[Observer]]:
        """Shows the run while it continues."""
        progress = Progress(
            store, problem, settings, journal.budget.totals_by_call, journal.traffic
        )
        with open_view(progress, self._stream) as view:
            self._view = view
            try:
                yield (view,)
            finally:
                self._view = None


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
                view.on_commit(follower.state, None)
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
            self.state = load_state(store, problem, settings.search)
            if self.state.generation < 0:
                raise UsageError(
                    f"{store.folder}: the run has no checkpoint yet; try again in a moment"
                )
            self._spent = self._read_spent()
            self.progress = Progress(store, problem, settings, lambda: self._spent)
            self._seen = set(map(_identify, self._list_finished()))

    def advance(self) -> None:
        """Takes in what is new.

        Raises:
            StoreError: The database cannot be read.
        """
        store, state, progress = self._store, self.state, self.progress
        with store.frozen():
            finished = self._list_finished()
            new = [item for item in finished if _identify(item) not in self._seen]
            for item in new:
                progress.record(item)
            if any(isinstance(item, Call) for item in new):
                self._spent = self._read_spent()
            last = store.last_generation() or 0
            for number in state.add_all(store.light_attempts(state.generation + 1), last):
                summary = store.load_generation(number).summary
                progress.commit(state, store.load_slots(number), summary)
        recent = [item for item in finished if item.key.generation > state.generation]
        self._seen = set(map(_identify, recent))

    def _read_spent(self) -> dict[tuple[str, str], Totals]:
        return {(role, model): used for role, model, used in self._store.usage()}

    def _list_finished(self) -> list[Call | Evaluated]:
        calls, evaluations = self._store.finished_after(self.state.generation)
        return [*calls, *evaluations]


def _identify(item: Call | Evaluated) -> tuple[type, AttemptKey]:
    return type(item), item.key
