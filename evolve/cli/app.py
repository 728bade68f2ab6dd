"""The application: its commands, and how errors become exit codes."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from evolve.cli import inspect, make, run
from evolve.errors import EvolveError, ExitCode

EPILOG = (
    "Exit codes: 0 the run reached what it was asked for; 2 wrong usage or a bad problem folder; "
    "3 stopped by a budget before any improvement; 4 machine failure (model endpoint, sandbox, "
    "evaluator, disk); 130 interrupted."
)

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
app.command("run", epilog=EPILOG)(run.run)
app.command("resume", epilog=EPILOG)(run.resume)
app.command("ls")(inspect.ls)
app.command("show")(inspect.show)
app.command("archive")(inspect.archive)
app.command("best")(inspect.best)
app.command("lineage")(inspect.lineage)
app.command("diff")(inspect.diff)
app.command("check")(make.check)
app.command("init")(make.init)


def main() -> NoReturn:
    """Runs the command line and exits with the code that says how it went."""
    try:
        app()
    except EvolveError as error:
        _fail(f"error: {error}", error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has had enough, as in `evolve archive latest | head`.
        sys.stderr.close()
        sys.exit(ExitCode.OK)
    sys.exit(ExitCode.OK)


def _fail(message: str, code: ExitCode) -> NoReturn:
    sys.stderr.write(message + "\n")
    sys.exit(code)
