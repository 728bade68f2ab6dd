"""What follows a run besides people: functions of the caller, and experiment trackers.

MLflow, Weights & Biases and TensorBoard are optional packages. Each writes into the run's folder
unless its own environment variables name a server, and gets numbers and settings, never a
program's source. A tracker that fails is switched off and named; the run continues.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from evolve.errors import MachineError, UsageError
from evolve.records import AttemptKey
from evolve.records.results import Generation
from evolve.report.history import RunHistory
from evolve.search.loop import Observer
from evolve.search.population import Population
from evolve.steps.journal import Journal
from evolve.store import Store

Callback = Callable[[dict[str, Any]], object]


class Caller(Observer):
    """Calls functions with plain data, each on the thread of the run.

    Args:
        calls: By event: `attempt` gets each committed attempt, `generation` each generation,
            `improvement` each new champion.
        store: The run's database.
        history: Of the run, from its start.
    """

    def __init__(
        self, calls: Mapping[str, Callback | None], store: Store, history: RunHistory
    ) -> None:
        self._calls = {event: call for event, call in calls.items() if call is not None}
        self._store, self._history = store, history
        self._best: AttemptKey | None = None

    def on_commit(self, population: Population, generation: Generation | None) -> None:
        """Calls what is to be called after a generation."""
        # A run that was found again is rebuilt first: nothing of that is new.
        self._call_attempts(is_new=generation is not None or population.generation == 0)
        champion = population.champion
        if champion is None:
            return
        is_new, self._best = champion.key != self._best, champion.key
        if generation is None:
            return
        self._call(
            "generation",
            generation=population.generation,
            evaluations=population.evaluations,
            objective=champion.objective,
        )
        if is_new:
            self._call(
                "improvement",
                attempt=str(champion.key),
                id=champion.program_id,
                generation=champion.key.generation,
                objective=champion.objective,
            )

    def _call_attempts(self, *, is_new: bool) -> None:
        if "attempt" not in self._calls:
            return
        known = len(self._history.rows)
        self._history.advance(self._store)
        for row in self._history.describe_attempts(known) if is_new else ():
            self._call("attempt", **row)

    def _call(self, event: str, **data: Any) -> None:
        if event in self._calls:
            self._calls[event](data)


class Tracker(Protocol):
    """Takes the numbers of a run."""

    def on_generation(self, numbers: Mapping[str, float], step: int) -> None:
        """Takes the numbers after a generation: objective, evaluations, calls, tokens, money."""

    def on_end(self, facts: Mapping[str, str]) -> None:
        """Takes what came of the run.

        These are `champion` (its attempt), `program`, and `stopped_because` where something
        stopped it before its last generation.
        """


class MlflowTracker:
    """Writes to MLflow: to `MLFLOW_TRACKING_URI`, else into `mlflow.db` in the run's folder."""

    def __init__(self, folder: Path, problem: str, settings: Mapping[str, Any]) -> None:
        import mlflow

        database = (folder / "mlflow.db").resolve()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}"
        self._client = mlflow.MlflowClient(uri)
        known = self._client.get_experiment_by_name(problem)
        experiment = known.experiment_id if known else self._client.create_experiment(problem)
        self._run = self._client.create_run(experiment, run_name=folder.name).info.run_id
        for name, value in settings.items():
            self._client.log_param(self._run, name, value)

    def on_generation(self, numbers: Mapping[str, float], step: int) -> None:
        """Logs the numbers as metrics."""
        for name, value in numbers.items():
            self._client.log_metric(self._run, name, value, step=step)

    def on_end(self, facts: Mapping[str, str]) -> None:
        """Logs the facts as tags, and ends the run."""
        for name, value in facts.items():
            self._client.set_tag(self._run, name, value)
        self._client.set_terminated(self._run)


class WandbTracker:
    """Writes to Weights & Biases: into `wandb` in the run's folder, unless `WANDB_MODE` is set."""

    def __init__(self, folder: Path, problem: str, settings: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=problem,
            name=folder.name,
            dir=folder,
            config=dict(settings),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True, save_code=False, console="off"),
        )

    def on_generation(self, numbers: Mapping[str, float], step: int) -> None:
        """Logs the numbers."""
        self._run.log(dict(numbers), step=step)

    def on_end(self, facts: Mapping[str, str]) -> None:
        """Keeps the facts in the summary, and ends the run."""
        self._run.summary.update(dict(facts))
        self._run.finish()


class TensorBoardTracker:
    """Writes event files for TensorBoard into `tensorboard` in the run's folder."""

    def __init__(self, folder: Path, problem: str, settings: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        shown = "\n".join(f"    {name} = {value!r}" for name, value in settings.items())
        self._writer.add_text("problem", problem)
        self._writer.add_text("settings", shown)

    def on_generation(self, numbers: Mapping[str, float], step: int) -> None:
        """Writes the numbers as scalars."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def on_end(self, facts: Mapping[str, str]) -> None:
        """Writes the facts as text, and closes the file."""
        self._writer.add_text("end", "\n".join(f"    {name}: {facts[name]}" for name in facts))
        self._writer.close()


# What makes each, and the package that it needs.
TRACKERS: dict[str, tuple[Callable[[Path, str, Mapping[str, Any]], Tracker], str]] = {
    "mlflow": (MlflowTracker, "mlflow"),
    "wandb": (WandbTracker, "wandb"),
    "tensorboard": (TensorBoardTracker, "tensorboardX"),
}


def expect_trackers(names: Sequence[str]) -> None:
    """Checks that there are trackers of these names, before a run begins.

    Raises:
        UsageError: There is none of a name, or its package is missing.
    """
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"--track: expected one of {', '.join(TRACKERS)}, got {name!r}")
        package = TRACKERS[name][1]
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"--track {name} needs the package {package}: pip install 'evolve[{name}]'"
            )


def open_trackers(
    names: Sequence[str], folder: Path, problem: str, settings: Mapping[str, Any]
) -> list[Tracker]:
    """Returns the trackers of these names.

    Args:
        names: Of `TRACKERS`.
        folder: The run's folder.
        problem: Name of its problem.
        settings: All settings by key.

    Raises:
        MachineError: One cannot start.
    """
    opened = []
    for name in names:
        try:
            opened.append(TRACKERS[name][0](folder, problem, settings))
        # Anything: these are foreign, and reach for servers.
        except Exception as error:
            raise MachineError(f"--track {name}: it cannot start: {error}") from error
    return opened


class TrackerObserver(Observer):
    """Reports what happens in a run to trackers.

    Args:
        trackers: By name of their class.
        journal: Knows what was used.
        tell: Prints a line.
    """

    def __init__(
        self, trackers: Sequence[Tracker], journal: Journal, tell: Callable[[str], None]
    ) -> None:
        self._trackers = list(trackers)
        self._journal = journal
        self._tell = tell
        self._facts: dict[str, str] = {}

    def on_commit(self, population: Population, generation: Generation | None) -> None:
        """Reports the numbers of a generation."""
        champion = population.champion
        if generation is None or champion is None:
            return
        self._facts |= {"champion": str(champion.key), "program": champion.program_id}
        used = self._journal.budget.total
        numbers = {
            "objective": champion.objective,
            "evaluations": float(population.evaluations),
            "calls": float(used.calls),
            "tokens": float(used.tokens),
            "cost_usd": used.cost_usd,
        }
        self.report(numbers, population.generation)

    def report(self, numbers: Mapping[str, float], step: int) -> None:
        """Passes the numbers after a generation on to all trackers."""
        self._each(lambda tracker: tracker.on_generation(numbers, step))

    def on_stop(self, reason: str, seconds: float | None) -> None:  # noqa: ARG002
        """Takes note of why the run stops."""
        self._facts["stopped_because"] = reason

    def end(self) -> None:
        """Reports how the run ended."""
        self._each(lambda tracker: tracker.on_end(self._facts))

    def _each(self, report: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                report(tracker)
            # Anything: a tracker whose server is gone must not end the run.
            except Exception as error:  # noqa: BLE001
                self._trackers.remove(tracker)
                name = type(tracker).__name__
                self._tell(f"{name}: switched off: {type(error).__name__}: {error}")
