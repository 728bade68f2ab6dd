"""Evolution from Python, as the command line does it.

    import evolve

    run = evolve.run("circle_packing", max_evaluations=200, on_improvement=print)
    run.champion.objective, run.champion.source

Settings are keyword arguments with the names of the options, such as `max_cost` and `max_time`,
or the last part of their key, such as `slots`; `settings={"search.islands": 4}` takes any. Errors
are those of `evolve.errors`; each has the `exit_code` that the command line would return.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.toml import expect

if TYPE_CHECKING:
    from evolve.records import Attempt, Evaluation
    from evolve.report.history import RunHistory
    from evolve.runs.opening import Run
    from evolve.search.population import Population
    from evolve.settings import Settings
    from evolve.store import Store

RUNS = Path("runs")
_Callback = Callable[[dict[str, Any]], object] | None
_Program = str | Path | Callable[..., Any]
_PATH = str | Path


@dataclass(frozen=True, slots=True)
class Champion:
    """The best program of a run.

    Attributes:
        id: The first 16 hexadecimal digits of the SHA-256 of its files.
        attempt: The attempt that found it: generation, slot and number, as `3.0.1`.
        objective: In the problem's own units.
        source: Text of its first file.
        files: Texts of all files by path.
        metrics: Further numbers of its evaluation.
        measures: Its coordinates in measure space.
        run: The run that found it.
    """

    id: str
    attempt: str
    objective: float
    source: str
    files: Mapping[str, str]
    metrics: Mapping[str, float]
    measures: Mapping[str, float]
    run: SavedRun

    def lineage(self) -> list[dict[str, Any]]:
        """Returns its ancestors and itself, as `SavedRun.lineage` does."""
        return self.run.lineage(self.attempt)


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A run on disk: running, stopped or killed. Every look reads what is there by then.

    Attributes:
        folder: The run's folder.
    """

    folder: Path

    @property
    def champion(self) -> Champion | None:
        """Returns the best program, None before the first is evaluated."""
        with self._opened() as (store, state, _):
            best = state.champion
            return None if best is None else _make_champion(self, store.load_attempt(best.key))

    @property
    def status(self) -> str:
        """Returns `running`, `finished` or `stopped`."""
        return str(self.state()["status"])

    @property
    def stopped_because(self) -> str | None:
        """Returns what ended it, None while it runs.

        That is `generations`, `target`, `patience`, `fruitless`, `recording` or `interrupted`, the
        name of a cap such as `max_evaluations`, `killed`, or an error and its message.
        """
        because = self.state()["stopped_because"]
        return None if because is None else str(because)

    def state(self) -> dict[str, Any]:
        """Returns what `evolve show --json` prints."""
        from evolve.report.overview import describe_run

        with self._opened() as (store, state, _):
            return describe_run(self.folder, store, state)

    def attempts(self) -> list[dict[str, Any]]:
        """Returns the committed attempts, in order, as rows for pandas, polars or DuckDB.

        Columns: `attempt` (generation, slot and number, as `3.0.1`), `generation`, `island`,
        `parent`, `id` (of the program), `status`, `objective`, `gain` (on the parent, positive is
        better), `operator`, `model`, `evaluations` (of the run up to it), `seconds` (in the
        sandbox), `plan`, and `reason` (why there is no objective). What is missing is None.
        """
        with self._opened() as (_, _, read_history):
            return list(read_history().describe_attempts())

    def curve(self) -> list[dict[str, Any]]:
        """Returns the champion's objective against what was spent: a row for each new champion.

        Columns: `generation`, `evaluations`, `calls`, `tokens`, `cost_usd`, `seconds`,
        `objective`. The last row says where the run stands.
        """
        names = ("generation", "evaluations", "calls", "tokens", "cost_usd", "seconds")
        with self._opened() as (_, _, read_history):
            return [
                {name: getattr(point, name) for name in names}
                | {"objective": point.champion.objective}
                for point in read_history().points
                if point.champion is not None
            ]

    def lineage(self, attempt: str | None = None) -> list[dict[str, Any]]:
        """Returns what `evolve lineage --json` prints of an attempt, by default the champion."""
        from evolve.report.history import find_attempt, lineage_as_data

        with self._opened() as (store, state, _):
            return lineage_as_data(store, find_attempt(store, state, attempt), state.direction)

    def lessons(self) -> list[dict[str, Any]]:
        """Returns what `evolve lessons --json` prints."""
        from evolve.search.knowledge import read_lessons

        with self._opened() as (store, _, _):
            return [lesson.as_dict() for lesson in read_lessons(store)]

    def hint(self, text: str) -> dict[str, Any]:
        """Says something to its models, as `evolve hint` does; returns what was recorded."""
        from evolve.runs.given import hint_run

        return dataclasses.asdict(hint_run(self.folder, text))

    def inject(self, path: str | Path) -> dict[str, Any]:
        """Lets its next generation evaluate a program, as `evolve inject` does."""
        from evolve.runs.given import inject_program

        return dataclasses.asdict(inject_program(self.folder, Path(path)))

    def pin(self, program: str) -> dict[str, Any]:
        """Lets every further generation work on a program, as `evolve pin` does."""
        from evolve.report.history import find_attempt
        from evolve.runs.given import pin_attempt

        with self._opened() as (store, state, _):
            attempt = find_attempt(store, state, program)
        return dataclasses.asdict(pin_attempt(self.folder, attempt))

    def report(self) -> Path:
        """Writes the report, and returns its path."""
        from evolve.report.contents import write_report

        return write_report(self.folder)

    def _repr_html_(self) -> str:
        import html

        from evolve.report.figures import draw_curve, standalone

        with self._opened() as (store, _, read_history):
            history = read_history()
            best, points = history.best, history.points
            name = html.escape(f"{store.facts().get('problem', '')}: {self.folder.name}")
        svg = draw_curve(points, "evaluations", {})
        found = "no champion yet" if best is None else f"champion {best[1]:.10g}, attempt {best[0]}"
        picture = f'<div style="max-width: 40em">{standalone(svg)}</div>' if svg else ""
        report = self.folder / "report.html"
        link = f'<a href="{html.escape(str(report))}">report</a>' if report.is_file() else ""
        return f"<p><b>{name}</b><br>{found} {link}</p>{picture}"

    @contextmanager
    def _opened(self) -> Iterator[tuple[Store, Population, Callable[[], RunHistory]]]:
        """Yields the database, what the run has reached, and a function that reads all of it."""
        from evolve.report.history import RunHistory
        from evolve.runs.run_folder import load_run
        from evolve.search.population import load_population
        from evolve.store import Store

        problem, settings = load_run(self.folder)

        def read_history() -> RunHistory:
            history = RunHistory(problem, settings)
            history.advance(store)
            return history

        with closing(Store.open_to_read(self.folder)) as store:
            yield store, load_population(store, problem, settings.search), read_history


def run(
    problem: str | Path,
    *,
    run_dir: str | Path | None = None,
    start: str | Path | Sequence[str | Path] = (),
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: bool | None = None,
    on_attempt: _Callback = None,
    on_generation: _Callback = None,
    on_improvement: _Callback = None,
    **options: Any,
) -> SavedRun:
    """Improves the program of a problem folder, as `evolve run` does, until something ends it.

    Ctrl-C, or a notebook's stop button, ends the run in an orderly way, and the run is returned;
    a second one raises `KeyboardInterrupt` at once.

    Args:
        problem: Problem folder, or a name in the gallery.
        run_dir: Run folder; by default a new one in `./runs`.
        start: Further starting programs, one or several: files, folders, or folders of runs.
        settings: Settings by key, such as `{"search.islands": 4}`.
        force: Whether it runs although the budget buys fewer than two generations.
        progress: Whether progress is printed; by default on a terminal and in a notebook.
        on_attempt: Called with each committed attempt, the row that `SavedRun.attempts` has of it.
        on_generation: Called after each generation with `generation`, `evaluations` and
            `objective`.
        on_improvement: Called with `attempt`, `id`, `generation` and `objective` of each new
            champion.
        options: Settings by short name, such as `model="openai/gpt-5"`, `max_cost=2`.

    Raises:
        UsageError: A setting or the problem cannot be used, or the starting program fails.
        MachineError: A model, the sandbox, the evaluator or the disk failed.
    """
    from evolve.problem import load_problem
    from evolve.problem.gallery import find_problem
    from evolve.runs.opening import make_run
    from evolve.runs.run_folder import find_addresses
    from evolve.runs.wiring import complete_settings

    expect(isinstance(problem, _PATH), "a path", problem, "problem")
    starts = start if isinstance(start, list | tuple) else [start]
    expect(all(isinstance(one, _PATH) for one in starts), "paths", start, "start")
    calls = _name_calls(on_attempt, on_generation, on_improvement)
    wanted = _read_settings(settings, options)
    complete = complete_settings(wanted)
    made = make_run(
        load_problem(find_problem(Path(problem)), complete.parameters),
        complete,
        folder=_as_path(run_dir, "run_dir"),
        parent=RUNS,
        named=find_addresses(wanted),
        starts=list(map(Path, starts)),
    )
    return _run_to_end(replace(made, is_forced=force), calls, progress=progress)


def resume(
    run: str | Path | SavedRun,
    *,
    settings: Mapping[str, Any] | None = None,
    trust: bool = False,
    force: bool = False,
    evaluator: str | Path | None = None,
    rescore: bool = False,
    progress: bool | None = None,
    on_attempt: _Callback = None,
    on_generation: _Callback = None,
    on_improvement: _Callback = None,
    **options: Any,
) -> SavedRun:
    """Continues a run from its last checkpoint, as `evolve resume` does.

    Args:
        run: Run folder, its name in `./runs`, `latest`, or a run.
        settings: See `run`.
        trust: Whether a run made elsewhere may use its evaluator, commands and addresses.
        force: Whether it continues although the budget buys fewer than two generations.
        evaluator: One that is taken in the place of the run's own, with what lies beside it.
        rescore: Whether the elites are evaluated again first.
        progress: See `run`.
        on_attempt: See `run`.
        on_generation: See `run`.
        on_improvement: See `run`.
        options: See `run`.

    Raises:
        UsageError: There is no such run, it is in use, or a setting cannot be changed.
        MachineError: A model, the sandbox, the evaluator or the disk failed.
    """
    from evolve.runs.opening import open_run as open_to_run

    calls = _name_calls(on_attempt, on_generation, on_improvement)
    found = open_to_run(
        open_run(run).folder,
        _changing(settings, options),
        trusts=trust,
        resumes=True,
        evaluator=_as_path(evaluator, "evaluator"),
        rescores=rescore,
    )
    return _run_to_end(replace(found, is_forced=force), calls, progress=progress)


def fork(
    run: str | Path | SavedRun,
    *,
    generation: int | None = None,
    run_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> SavedRun:
    """Makes a new run from a generation of another, as `evolve fork` does; `resume` runs it.

    Args:
        run: Run folder, its name in `./runs`, `latest`, or a run.
        generation: The last one to take; by default all.
        run_dir: Folder of the new run; by default a new one in `./runs`.
        settings: See `run`.
        options: See `run`.

    Raises:
        UsageError: There is no such run or generation, or a setting cannot be used.
        StoreError: A database cannot be read or written.
    """
    from evolve.runs.derived import fork_run

    folder, _ = fork_run(
        open_run(run).folder,
        _changing(settings, options),
        generation=generation,
        folder=_as_path(run_dir, "run_dir"),
        parent=RUNS,
    )
    return SavedRun(folder)


def open_run(run: str | Path | SavedRun) -> SavedRun:
    """Returns a run to look at: running, stopped or killed.

    Args:
        run: Run folder, its name in `./runs`, or `latest`.

    Raises:
        UsageError: There is no such run.
    """
    from evolve.runs.run_folder import find_run

    fits = isinstance(run, _PATH | SavedRun)
    expect(fits, "a run, its folder or its name", run, "run")
    return run if isinstance(run, SavedRun) else SavedRun(find_run(str(run), RUNS))


def check(
    problem: str | Path, *, settings: Mapping[str, Any] | None = None, **options: Any
) -> Evaluation:
    """Validates a problem folder, and returns the evaluation of its starting program.

    Args:
        problem: Problem folder, or a name in the gallery.
        settings: See `run`.
        options: See `run`.

    Raises:
        ProblemError: The problem cannot be used, or its starting program fails.
        MachineError: The sandbox or the evaluator failed.
    """
    from evolve.problem import load_problem
    from evolve.problem.gallery import find_problem
    from evolve.runs.starting import evaluate_initial
    from evolve.runs.wiring import complete_settings, evaluating

    expect(isinstance(problem, _PATH), "a path", problem, "problem")
    complete = complete_settings(_read_settings(settings, options))
    found = load_problem(find_problem(Path(problem)), complete.parameters)
    with evaluating(found, complete) as evaluators:
        return evaluate_initial(found, evaluators)


def optimize(
    program: _Program,
    evaluate: str | Path | Callable[..., Any],
    *,
    statement: str = "",
    direction: str = "maximize",
    folder: str | Path | None = None,
    **arguments: Any,
) -> Champion:
    """Improves a program that an evaluator scores, and returns the best one.

    Both become a problem folder, which the command line can run, too. The evaluator runs in a
    process of its own: it can use the modules, functions and plain values at the top of its file,
    but no live object.

    Args:
        program: Source, path of a file or folder, or a function, whose source is taken.
        evaluate: A function of one argument, the program, that returns a number or a `Score`; or
            the path of a file that defines `evaluate`.
        statement: What the program is to do, for models.
        direction: `maximize` or `minimize`.
        folder: Where the problem folder is kept; by default it is a temporary one. The run keeps
            a copy of its own.
        arguments: Those of `run`.

    Raises:
        UsageError: The program or the evaluator cannot be taken; the message says why.
        MachineError: A model, the sandbox, the evaluator or the disk failed.
    """
    import tempfile

    from evolve.problem.from_python import naming_given, write_problem

    kept = _as_path(folder, "folder")
    with tempfile.TemporaryDirectory(prefix="evolve-problem-") as temporary:
        target = kept or Path(temporary, "problem")
        names = write_problem(target, program, evaluate, statement=statement, direction=direction)
        with nullcontext() if kept is not None else naming_given(names):
            champion = run(target, **arguments).champion
    if champion is None:
        raise AssertionError("a run ended without a champion and without an error")
    return champion


def _as_path(value: str | Path | None, name: str) -> Path | None:
    expect(isinstance(value, str | Path | None), "a path", value, name)
    return None if value is None else Path(value)


def _read_settings(settings: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Settings:
    import os

    from evolve.settings import Settings, change_settings, read_environment

    found = change_settings(Settings(), read_environment(os.environ), where="environment")
    return _changing(settings, options)(found)


def _changing(
    settings: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Callable[[Settings], Settings]:
    from evolve.cli.options import name_settings
    from evolve.settings import change_settings

    given = {} if settings is None else settings
    fits = isinstance(given, Mapping) and all(isinstance(key, str) for key in given)
    expect(fits, "a dict of settings by key, such as `search.islands`", settings, "settings")
    changes = {**(settings or {}), **name_settings(options)}
    return partial(change_settings, changes=changes, where="arguments")


def _name_calls(*callbacks: _Callback) -> dict[str, _Callback]:
    calls = dict(zip(("attempt", "generation", "improvement"), callbacks, strict=True))
    for event, call in calls.items():
        expect(call is None or callable(call), "a function of one argument", call, f"on_{event}")
    return calls


def _run_to_end(run: Run, calls: Mapping[str, _Callback], *, progress: bool | None) -> SavedRun:
    from evolve.report.contents import write_report
    from evolve.report.live import StandardOutput, TerminalView
    from evolve.report.phrases import describe_end
    from evolve.runs.opening import interruptible, run_to_end

    is_watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    shows = is_watched if progress is None else progress
    view = TerminalView(StandardOutput() if shows else None, calls)
    view.tell(f"run: {run.folder}")
    with interruptible():
        outcome = run_to_end(run, lambda: view)
    write_report(run.folder)
    for line in describe_end(outcome, run.folder):
        view.tell(line)
    return SavedRun(run.folder)


def _make_champion(run: SavedRun, attempt: Attempt) -> Champion:
    if attempt.objective is None:
        raise AssertionError(f"attempt {attempt.key}: a champion without an objective")
    program = attempt.program_or_fail
    return Champion(
        id=program.id,
        attempt=str(attempt.key),
        objective=attempt.objective,
        source=program.entry.text,
        files=dict(program.files),
        metrics=dict(attempt.evaluation.metrics),
        measures=dict(attempt.evaluation.measures),
        run=run,
    )
