"""What a run shows while it runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from evolve.display import clean, one_line, say_error
from evolve.errors import UsageError
from evolve.models.budget import Budget
from evolve.population import RunState
from evolve.population.snapshot import load_state
from evolve.problem import Problem
from evolve.records import Status
from evolve.records.results import SlotResult
from evolve.report.state import describe_money, describe_spending
from evolve.run.outcome import Outcome, read_outcome
from evolve.run.wiring import restore_budget
from evolve.settings import Settings
from evolve.store import Store, is_locked

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_LINE_EVERY_SECONDS = 5.0
_POLL_SECONDS = 0.5


class StandardOutput:
    """Standard output of a run, until its reader has had enough, as in `evolve run | head`.

    The run is then asked to stop, as by a closed terminal; the rest goes to standard error.
    """

    def __init__(self) -> None:
        self._is_closed = False

    def isatty(self) -> bool:
        """Returns whether it is a terminal."""
        return sys.stdout.isatty()

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


class Progress:
    """Counts what happens; shared by both views.

    Args:
        title: Name of the run.
        generations: How many the run may have.
        budget: Totals of calls, tokens and money.
        initial: Objective of the starting program.
    """

    def __init__(self, title: str, generations: int, budget: Budget, initial: float) -> None:
        self.title = title
        self.generations = generations
        self.budget = budget
        self.initial = initial
        self.outcomes: Counter[str] = Counter()
        self.population: RunState | None = None
        self._started = time.monotonic()
        self._first_generation: int | None = None

    def count(self, result: SlotResult) -> None:
        """Counts the attempts of a slot; calls are counted by the budget."""
        self.outcomes.update(str(placed.attempt.evaluation.status) for placed in result.attempts)

    def commit(self, population: RunState) -> None:
        """Takes the population of a new checkpoint."""
        self.population = population
        if self._first_generation is None:
            self._first_generation = population.generation

    @property
    def evaluations(self) -> int:
        """Returns the attempts that were evaluated."""
        return self.outcomes.total() - self.outcomes[str(Status.REJECTED)]

    @property
    def elapsed(self) -> float:
        """Returns the seconds since the command began."""
        return time.monotonic() - self._started

    @property
    def generation(self) -> int:
        """Returns the last committed generation."""
        return self.population.generation if self.population else 0

    @property
    def seconds_left(self) -> float | None:
        """Returns the time that the remaining generations take at the rate so far."""
        done = self.generation - (self._first_generation or 0)
        if not done:
            return None
        return self.elapsed / done * (self.generations - self.generation)

    def describe_champion(self) -> str:
        """Returns the champion's objective and what it gained on the starting program."""
        champion = self.population.champion if self.population else None
        if champion is None:
            return "none yet"
        gain = champion.objective - self.initial
        return f"{champion.objective:.10g} ({gain:+.6g} on the start)"

    def describe_islands(self) -> str:
        """Returns the elites of each island and the share of cells they fill."""
        archives = self.population.islands.archives if self.population else ()
        return "  ".join(f"{len(archive)} ({archive.coverage:.0%})" for archive in archives)

    def describe_spending(self) -> str:
        """Returns calls, tokens and money; money says when a price is unknown."""
        total = self.budget.total
        return f"{total.calls} calls  {total.tokens} tokens  {describe_money(total)}"

    def describe_incoming(self) -> str:
        """Returns how many answers are coming in, and how much of all answers has."""
        answers = sum(incoming.answers for incoming in self.budget.incoming)
        characters = sum(incoming.characters for incoming in self.budget.incoming)
        return f"{answers} coming in, {characters} characters so far" if characters else ""

    def list_spending(self) -> list[str]:
        """Returns one line for each role and model."""
        used = sorted(self.budget.totals_by_call().items())
        return describe_spending([(role, model, totals) for (role, model), totals in used])


class PlainView:
    """One line after a generation, at most one every five seconds.

    Args:
        progress: What is shown.
        stream: Where lines go.
    """

    def __init__(self, progress: Progress, stream: StandardOutput) -> None:
        self._progress = progress
        self._stream = stream
        self._last = 0.0
        self._shown: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown != self._progress.generation:
            self._print()

    def on_slot(self, result: SlotResult) -> None:
        """Counts the attempts of a slot."""
        self._progress.count(result)

    def on_commit(self, population: RunState) -> None:
        """Prints a line if the last one is old enough."""
        self._progress.commit(population)
        if time.monotonic() - self._last >= _LINE_EVERY_SECONDS:
            self._print()

    def on_tick(self) -> None:
        """Prints nothing: lines come with generations."""

    def _print(self) -> None:
        progress = self._progress
        self._last, self._shown = time.monotonic(), progress.generation
        calls = f"  {progress.describe_spending()}" if progress.budget.total.calls else ""
        self._stream.write(
            f"generation {progress.generation}/{progress.generations}  "
            f"champion {progress.describe_champion()}  "
            f"evaluations {progress.evaluations}{calls}  {progress.elapsed:.0f} s\n"
        )


class LiveView:
    """A Rich panel that is drawn anew a few times a second.

    Args:
        progress: What is shown.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(self._draw(), refresh_per_second=4, get_renderable=self._draw)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def is_open(self) -> bool:
        """Returns whether the panel is on the terminal."""
        return self._live is not None

    def on_slot(self, result: SlotResult) -> None:
        """Counts the attempts of a slot."""
        self._progress.count(result)

    def on_commit(self, population: RunState) -> None:
        """Takes the new checkpoint; it is shown at the next refresh."""
        self._progress.commit(population)

    def on_tick(self) -> None:
        """Does nothing: the panel refreshes itself."""

    def tell(self, line: str) -> None:
        """Prints a line above the panel; may be called from any thread."""
        if self._live is not None:
            self._live.console.print(clean(line), markup=False, highlight=False)

    def _draw(self) -> RenderableType:
        from rich.markup import escape
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        progress = self._progress
        table = Table.grid(padding=(0, 2))
        for label, value in self._rows():
            table.add_row(f"[dim]{label}[/dim]", escape(one_line(value)))
        bar = ProgressBar(total=progress.generations, completed=progress.generation)
        # A bar does not end its line; a row of a table does.
        whole = Table.grid(expand=True)
        whole.add_row(bar)
        whole.add_row(table)
        return Panel(whole, title=escape(one_line(progress.title)), title_align="left")

    def _rows(self) -> list[tuple[str, str]]:
        progress = self._progress
        left = progress.seconds_left
        rate = progress.evaluations / max(progress.elapsed, 1e-9)
        outcomes = "  ".join(f"{name} {count}" for name, count in progress.outcomes.items())
        rows = [
            ("generation", f"{progress.generation} of {progress.generations}"),
            ("champion", progress.describe_champion()),
            ("islands", progress.describe_islands()),
            ("attempts", f"{progress.outcomes.total()}  {outcomes}"),
            ("rate", f"{rate:.1f} evaluations/s"),
            ("time", f"{progress.elapsed:.0f} s, left {'?' if left is None else f'{left:.0f} s'}"),
        ]
        if incoming := progress.describe_incoming():
            rows.insert(4, ("answers", incoming))
        if progress.budget.total.calls:
            rows.insert(4, ("models", progress.describe_spending()))
            rows[5:5] = [("", line) for line in progress.list_spending()]
        return rows


class TerminalView:
    """The view of the run in this process: live on a terminal, plain lines elsewhere.

    Args:
        stream: Standard output.
    """

    def __init__(self, stream: StandardOutput) -> None:
        self._stream = stream
        self._live: LiveView | None = None

    def tell(self, line: str) -> None:
        """Prints one line; may be called from any thread."""
        if self._live is not None and self._live.is_open:
            self._live.tell(line)
            return
        self._stream.write(line + "\n")

    def watch(
        self, *, title: str, generations: int, budget: Budget, initial: float
    ) -> LiveView | PlainView:
        """Returns the view to open while the run continues."""
        progress = Progress(title, generations, budget, initial)
        if self._stream.isatty():
            self._live = LiveView(progress)
            return self._live
        return PlainView(progress, self._stream)


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
        run_state = load_state(store, problem, settings.search)
        if run_state.champion is None or run_state.initial is None:
            raise UsageError(f"{folder}: the run has no checkpoint yet; try again in a moment")
        generations = settings.loop.generations or run_state.generation
        budget = restore_budget(store, settings)
        progress = Progress(folder.name, generations, budget, run_state.initial)
        before = Counter(store.outcomes())
        with LiveView(progress) if stream.isatty() else PlainView(progress, stream) as view:
            is_running = True
            while is_running:
                # Once the process has gone, its last commit is still to be read.
                is_running = is_locked(folder)
                _add_new(store, run_state)
                progress.budget = restore_budget(store, settings)
                progress.outcomes = Counter(store.outcomes()) - before
                view.on_commit(run_state)
                if is_running:
                    time.sleep(_POLL_SECONDS)
        return read_outcome(store, run_state, store.facts().get("stopped_because") or "")


def _add_new(store: Store, run_state: RunState) -> None:
    """Brings a state up to the last committed generation."""
    last = store.last_generation()
    if last is not None and last > run_state.generation:
        attempts = store.light_attempts(run_state.generation + 1)
        for _ in run_state.add_all(attempts, last):
            pass
