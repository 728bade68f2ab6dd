"""The application: its commands, and how errors become exit codes."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from evolve import __version__
from evolve.cli.first import leave_first_process
from evolve.display import say, say_bug, say_error
from evolve.errors import EvolveError, ExitCode

EPILOG = (
    "Exit codes: 0 the run reached what it was asked for; 2 wrong usage or a bad problem folder; "
    "3 stopped by a budget before any improvement; 4 machine failure (model endpoint, sandbox, "
    "evaluator, disk); 5 `replay` or `verify` found a difference; 130 interrupted."
)
# Where each command is and what it does, so that help for all of them imports none.
COMMANDS = {
    "run": ("run", "Improve the program of a problem folder."),
    "resume": ("run", "Go on with a run from its last checkpoint."),
    "attach": ("detach", "Show a run that goes on elsewhere, until it ends."),
    "stop": ("detach", "Ask a run that goes on elsewhere to stop in order, and wait until it has."),
    "ls": ("inspect", "List the runs in ./runs."),
    "show": ("inspect", "Show the state of a run."),
    "archive": ("inspect", "List the elites of a run."),
    "best": ("programs", "Print the champion, write its files, or draw its answer."),
    "lineage": ("programs", "Show how a program came about, from the starting program on."),
    "diff": ("programs", "Show what a program changed."),
    "report": ("report", "Write a report of a run as one page, also while the run goes on."),
    "lessons": ("lessons", "List the lessons of a run, merged where they say the same."),
    "prompt": ("prompt", "Print the prompts of a first slot, word for word; no model is asked."),
    "log": ("log", "List calls, attempts, lessons and stalls, also while the run goes on."),
    "compare": ("compare", "Compare runs of a problem: medians over seeds against what was spent."),
    "fork": (
        "copies",
        "Make a new run of what another one had reached, to go on with other settings.",
    ),
    "export": (
        "copies",
        "Write everything in a run as JSON Lines, its curve as CSV, its champions as folders.",
    ),
    "prune": (
        "copies",
        "Drop artifacts and rejected sources that no prompt will show; the run can be resumed.",
    ),
    "repair": (
        "copies",
        "Save what can be read of a damaged run, up to its last whole generation, as a new run.",
    ),
    "replay": (
        "proof",
        "Run again from recorded replies and evaluations, and compare every generation.",
    ),
    "verify": ("proof", "Evaluate the champion and all elites again, and write a certificate."),
    "check": ("make", "Validate a problem folder and evaluate its starting program once."),
    "doctor": (
        "doctor",
        "Test every sandbox backend here by small attacks, and say how to get more.",
    ),
    "gallery": (
        "gallery",
        "List the problems that come with the package, or copy one to change it.",
    ),
    "init": ("make", "Make a new problem folder that passes `evolve check`, or import one."),
}
_JUDGING = {"run", "resume", "attach", "check", "doctor", "replay", "verify"}
_TELLING = {"run", "resume", "attach", "stop", "replay", "verify", "doctor"}


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if wanted:
        say(f"evolve {__version__}")
        raise typer.Exit


def make_app(wanted: str | None) -> typer.Typer:
    """Makes the application.

    Args:
        wanted: The one command that can be used; of the others there is only a line of help.
    """
    # Rich help would double the time that `--help` takes.
    app = typer.Typer(
        name="evolve",
        help="Improves programs by evolution: a problem folder in, a better program out.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_top)
    for name, (module, summary) in COMMANDS.items():
        if name == wanted:
            function = getattr(importlib.import_module(f"evolve.cli.{module}"), name)
            app.command(name, epilog=EPILOG if name in _TELLING else None)(function)
        else:
            app.command(name, help=summary)(_listed)
    return app


def _top(
    *,
    _: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Stands before every command."""


def _listed() -> None:
    """Stands for a command that was not asked for."""


def main() -> NoReturn:
    """Runs the command line and exits with the code that says how it went."""
    leave_first_process()
    code: object = ExitCode.OK
    sys.excepthook = say_bug
    try:
        make_app(next(iter(sys.argv[1:]), None))()
    except EvolveError as error:
        say_error(f"error: {error}")
        code = error.exit_code
    except SystemExit as end:
        code = end.code
        if isinstance(end.__context__, BrokenPipeError):
            code = _code_of_unread()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_at_once(code)
    if threading.active_count() > 1:
        _leave_at_once(code)
    sys.exit(ExitCode.OK if code is None else code)  # type: ignore[arg-type]


def _code_of_unread() -> ExitCode:
    """Returns the code where whoever read our output had enough, as in `evolve archive | head`.

    Where the code would have told something, that is not known then.
    """
    return ExitCode.INTERRUPTED if {*sys.argv[1:2]} & _JUDGING else ExitCode.OK


def _leave_at_once(code: object) -> NoReturn:
    """Ends the process without taking it apart.

    Slots that were dropped run on threads that may be anywhere, also in the middle of an import:
    what LiteLLM's objects do when they are taken apart would wait for those for ever.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
