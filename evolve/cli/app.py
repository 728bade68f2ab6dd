"""The application: its commands, and how errors become exit codes."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn

import typer

from evolve.cli import copies, doctor, inspect, log, make, proof, run
from evolve.errors import EvolveError, ExitCode

EPILOG = (
    "Exit codes: 0 the run reached what it was asked for; 2 wrong usage or a bad problem folder; "
    "3 stopped by a budget before any improvement; 4 machine failure (model endpoint, sandbox, "
    "evaluator, disk); 5 `replay` or `verify` found a difference; 130 interrupted."
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
app.command("log")(log.log)
app.command("fork")(copies.fork)
app.command("export")(copies.export)
app.command("prune")(copies.prune)
app.command("repair")(copies.repair)
app.command("replay", epilog=EPILOG)(proof.replay)
app.command("verify", epilog=EPILOG)(proof.verify)
app.command("check")(make.check)
app.command("doctor", epilog=EPILOG)(doctor.doctor)
app.command("init")(make.init)


def main() -> NoReturn:
    """Runs the command line and exits with the code that says how it went."""
    code: object = ExitCode.OK
    try:
        app()
    except EvolveError as error:
        sys.stderr.write(f"error: {error}\n")
        code = error.exit_code
    except BrokenPipeError:
        # Whoever read our output has had enough, as in `evolve archive latest | head`.
        os._exit(ExitCode.OK)
    except SystemExit as end:
        code = end.code
    if threading.active_count() > 1:
        _leave_at_once(code)
    sys.exit(ExitCode.OK if code is None else code)  # type: ignore[arg-type]


def _leave_at_once(code: object) -> NoReturn:
    """Ends the process without taking it apart.

    Slots that were dropped run on threads that may be anywhere, also in the middle of an import:
    what LiteLLM's objects do when they are taken apart would wait for those for ever.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
