"""`evolve run` and `evolve resume`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from evolve.cli.app import Result, command
from evolve.cli.options import (
    RUNS,
    Changes,
    Plain,
    Run,
    RunDir,
    Trust,
    argument,
    option,
    read_settings,
    switch,
)
from evolve.display import one_line, say, say_json
from evolve.errors import DamagedStoreError, EvaluatorError, ExitCode, MachineError, UsageError
from evolve.keys import split_password

if TYPE_CHECKING:
    from evolve.evaluation.evaluator import IdleProcess
    from evolve.problem import Problem
    from evolve.runs.opening import Run as OpenedRun
    from evolve.runs.opening import RunView
    from evolve.settings import Settings
    from evolve.steps.memory import KnownLesson

_MODELS = ("model", "planner", "editor", "summarizer", "api_base")
_SANDBOX = ("sandbox", "sandbox_fresh", "allow_weak_sandbox", "cluster")
_CAPS = ("max_cost", "max_evaluations", "max_time", "target", "patience")


class RunOptions(NamedTuple):
    """Options of `run` and `resume`: how the run begins, and is shown while it continues."""

    trust: Trust = False
    force: Annotated[
        bool, switch("Run although the budget buys fewer than two generations.", "--force")
    ] = False
    detach: Annotated[
        bool, switch("Run in the background; `evolve attach` shows the run.", "--detach")
    ] = False
    plain: Plain = False
    json_lines: Annotated[
        bool, switch("Print each event as a JSON object on its own line.", "--json-lines")
    ] = False
    track: Annotated[
        list[str] | None, option("Report to mlflow, wandb or tensorboard, too.", "NAME")
    ] = None

    def check(self) -> None:
        """Checks that it can be shown so, before anything slow.

        Raises:
            UsageError: There is no such tracker, its package is missing, or nobody would see it.
        """
        if self.detach and (self.json_lines or self.track):
            raise UsageError("--detach: expected neither --json-lines nor --track with it")
        if self.track:
            from evolve.report.observers import expect_trackers

            expect_trackers(self.track)

    def open_view(self, run: OpenedRun, introduction: str) -> RunView:
        """Returns what shows a run, once it has shown its first lines."""
        from evolve.report.live import StandardOutput, TerminalView

        if not self.json_lines:
            view = TerminalView(StandardOutput(is_plain=self.plain), trackers=self.track or ())
            view.tell(introduction)
            return view
        started = {"run": str(run.folder), "problem": run.problem.name}
        _say_event("start", {**started, "folder": str(run.folder.resolve())})
        events = ("attempt", "generation", "improvement")
        return TerminalView(
            None, {name: partial(_say_event, name) for name in events}, self.track or ()
        )


@command(
    "Run",
    "evolve run circle_packing",
    "evolve run mine --model openai/gpt-5-mini --max-cost 2",
    "evolve run mine --model openai/NAME --api-base http://127.0.0.1:8080/v1 --detach",
    settings=(
        "generations",
        "seed",
        "strategy",
        "workers",
        "allow_broken_start",
        *_MODELS,
        *_SANDBOX,
        *_CAPS,
        "set",
    ),
)
def run(
    problem: Annotated[
        Path | None, argument("Problem folder; that of the run with --replay.", "PROBLEM")
    ] = None,
    *,
    run_dir: RunDir = None,
    settings_file: Annotated[
        Path | None, option("TOML file of settings.", "FILE", "--settings")
    ] = None,
    lessons: Annotated[
        str | None, option("Start with these lessons: a run's, or a file's.", "RUN|FILE")
    ] = None,
    memory: Annotated[
        Path | None, option("File that keeps lessons: read first, added to last.", "FILE")
    ] = None,
    start: Annotated[
        list[Path] | None, option("A further starting program: file, folder or run.", "PATH")
    ] = None,
    replay: Annotated[
        str | None, option("Answer from this run's record, with its settings.", "RUN")
    ] = None,
    options: RunOptions,
    changes: Changes,
) -> Result:
    """Improve the program of a problem folder."""
    options.check()
    # It gets ready while this side imports what it needs to know the problem.
    with _getting_ready(detach=options.detach) as idle:
        from evolve.runs.opening import make_run
        from evolve.runs.run_folder import find_addresses
        from evolve.runs.wiring import complete_settings

        recorded = None if replay is None else _open_recorded(replay, trust=options.trust)
        base = None if recorded is None else recorded.settings
        settings = complete_settings(read_settings(changes, settings_file, base))
        if recorded is not None and (start or memory or lessons):
            raise UsageError(
                "--replay: expected no --start, --lessons or --memory with it: the recorded ones "
                "are taken"
            )
        if memory is not None and not settings.models.is_configured:
            raise UsageError("--memory: a run without a model learns no lessons; --model NAME")
        loaded = _load_problem(problem, settings, None if recorded is None else recorded.problem)
        known = _gather_lessons(lessons, memory, loaded)
        # The addresses that the user named, now or for the run whose record answers.
        named = find_addresses(read_settings(changes, settings_file))
        made = make_run(
            loaded,
            settings,
            folder=run_dir,
            parent=RUNS,
            named=[*named, *(() if recorded is None else recorded.named)],
            starts=None if recorded is not None else start or [],
        )
        if known is not None:
            from evolve.search.knowledge import write_lessons

            write_lessons(made.folder, known, memory)
        introduction = _introduce(made.settings, made.folder, made.original)
        if idle is not None:
            return _run_and_report(made, introduction, idle, options)
    arguments = ["resume", str(made.folder), *_repeat_permissions(made.settings)]
    return _detach(made.folder, introduction, [*arguments, *["--force"] * options.force])


@command(
    "Run",
    "evolve resume latest",
    "evolve resume latest --generations 60 --max-cost 5",
    settings=("generations", "workers", *_MODELS, *_SANDBOX, *_CAPS, "set"),
)
def resume(
    run: Run,
    *,
    evaluator: Annotated[
        Path | None, option("Take this evaluator, and what lies beside it.", "PATH")
    ] = None,
    rescore: Annotated[bool, switch("Evaluate the elites again first.", "--rescore")] = False,
    options: RunOptions,
    changes: Changes,
) -> Result:
    """Continue a run from its last checkpoint."""
    options.check()
    with _getting_ready(detach=options.detach) as idle:
        from evolve.runs.opening import open_run
        from evolve.runs.run_folder import find_run

        found = open_run(
            find_run(run, RUNS),
            changes.apply,
            trusts=options.trust,
            resumes=True,
            evaluator=evaluator,
            rescores=rescore,
        )
        introduction = _introduce(found.settings, found.folder)
        if idle is not None:
            return _run_and_report(found, introduction, idle, options)
    words = (split_password(word)[0] for word in sys.argv[1:])
    arguments = [word for word in words if word not in {"--detach", "--json"}]
    return _detach(found.folder, introduction, arguments)


def _detach(folder: Path, introduction: str, arguments: Sequence[str]) -> Result:
    from evolve.cli.background import start_detached

    say(introduction)
    return start_detached(folder, arguments)


def _getting_ready(*, detach: bool) -> AbstractContextManager[IdleProcess | None]:
    """Returns an evaluator's process that ends with the context; None for a detached run."""
    from evolve.evaluation.evaluator import idle_process

    return nullcontext() if detach else idle_process()


def _run_and_report(
    run: OpenedRun, introduction: str, idle: IdleProcess, options: RunOptions
) -> Result:
    """Runs until the end and writes the report.

    Args:
        run: New, or found again.
        introduction: Printed first.
        idle: An evaluator's process that was started ahead of time.
        options: How it begins, and is shown.

    Raises:
        MachineError: With a note on how to continue, where that is possible.
    """
    from evolve.runs.opening import interruptible, run_to_end
    from evolve.runs.world import describe_mending

    folder, run = run.folder, replace(run, is_forced=options.force)
    resume = f"to continue: evolve resume {quote(str(folder))}"
    try:
        with interruptible():
            outcome = run_to_end(run, partial(options.open_view, run, introduction), idle)
    except KeyboardInterrupt as error:
        what = resume if folder.exists() else "nothing was recorded, so there is no run to resume"
        text = "\n".join(["interrupted at once", *getattr(error, "__notes__", ()), what])
        if options.json_lines:
            _say_event("error", {"message": text, "exit_code": int(ExitCode.INTERRUPTED)})
            return Result([], iter(()), ExitCode.INTERRUPTED)
        return Result(text, {"run": str(folder)}, ExitCode.INTERRUPTED)
    except MachineError as error:
        if folder.exists() and not isinstance(error, DamagedStoreError):
            is_evaluators = isinstance(error, EvaluatorError)
            error.add_note(describe_mending(folder, run.problem) if is_evaluators else resume)
        raise
    # Slow to import, and needed last.
    from evolve.cli.programs import show_end
    from evolve.report.contents import write_report

    write_report(folder)
    result = show_end(outcome, folder)
    if options.json_lines:
        _say_event("end", result.data())
        return result._replace(shown=[], data=iter(()))
    return result


def _say_event(name: str, data: dict[str, Any]) -> None:
    say_json({"event": name, **data}, indent=None)


def _gather_lessons(
    source: str | None, memory: Path | None, problem: Problem
) -> list[KnownLesson] | None:
    """Returns what a new run starts with: lessons of a run or a file, and of a memory file."""
    if source is None and memory is None:
        return None
    from evolve.runs.run_folder import expect_writable, find_run
    from evolve.search.knowledge import read_lessons, recall
    from evolve.steps.memory import inherit_lessons, read_lesson_file
    from evolve.store import Store

    known: list[KnownLesson] = []
    if source is not None and Path(source).is_file():
        found = [one for lessons in read_lesson_file(Path(source)).values() for one in lessons]
        known += inherit_lessons(found, Path(source).name)
    elif source is not None:
        with closing(Store.open_to_read(find_run(source, RUNS))) as store:
            known += inherit_lessons(read_lessons(store), store.folder.name)
    if source is not None:
        say(f"lessons: {len(known)} taken from {source}")
    if memory is not None:
        expect_writable(memory)
        recalled = recall(memory, problem)
        say(f"memory: {len(recalled)} lessons taken from {memory}")
        known += recalled
    return known


def _open_recorded(name: str, *, trust: bool) -> OpenedRun:
    """Returns a run whose record is to answer."""
    from evolve.runs.opening import open_run
    from evolve.runs.run_folder import find_run
    from evolve.settings import change_settings

    folder = find_run(name, RUNS)
    change = partial(
        change_settings, changes={"models.replay": str(folder.resolve())}, where="options"
    )
    return open_run(folder, change, trusts=trust)


def _repeat_permissions(settings: Settings) -> list[str]:
    """Returns the options with which a run that has just begun is resumed in the background."""
    address = settings.models.api_base
    return [
        "--trust",
        *(["--allow-weak-sandbox"] if settings.sandbox.allow_weak else []),
        *(["--api-base", address] if address else []),
    ]


def _load_problem(path: Path | None, settings: Settings, default: Problem | None) -> Problem:
    from evolve.problem import load_problem
    from evolve.problem.gallery import find_problem

    if path is not None:
        return load_problem(find_problem(path), settings.parameters)
    if default is None:
        raise UsageError("run: expected a problem folder, got none; `evolve init FOLDER` makes one")
    return default


def _introduce(settings: Settings, folder: Path, problem: Problem | None = None) -> str:
    """Returns the first lines of a run; of a new one they name the evaluator, unless it is ours."""
    from evolve.problem import list_warnings
    from evolve.problem.gallery import is_shipped
    from evolve.runs.run_folder import describe_evaluator

    models = (
        f"models: {settings.models.describe()}"
        if settings.models.is_configured
        else "no model is configured: model-free operators make the changes; "
        "for a model: --model provider/name and the provider's key in the environment"
    )
    asked = [f"{role} asks: {name}" for role, name in settings.models.asked.items()]
    lines = [models, *asked, f"run: {folder}"]
    if problem is not None:
        lines += map(one_line, list_warnings(problem))
    if problem is not None and not is_shipped(problem):
        lines.insert(0, f"evaluator: {describe_evaluator(problem)}")
    return "\n".join(lines)
