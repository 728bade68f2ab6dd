"""The command line: how a command is declared, and the application of all of them.

    @command("Look")
    def ls() -> Result:
        '''List the runs in ./runs.'''

The decorator adds `--json` to every command, and the options that change settings to those that
ask for them. A new command is one such function; its first line is its summary in `--help`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, get_type_hints

import typer
from typer.core import TyperGroup

from evolve import __version__
from evolve.cli.options import SETTING_OPTIONS, Changes, switch, take_changes
from evolve.display import Part, TextTable, say, say_bug, say_error, say_json, say_parts
from evolve.errors import EvolveError, ExitCode

# The groups of `--help`, each with its commands in the order of their use; others follow.
GROUPS = {
    "Run": "run resume attach stop hint inject pin fork",
    "Look": "ls show archive log lessons lineage diff compare report view",
    "Prove": "replay verify audit export",
    "Problems": "init check gallery prompt",
    "Machine": "doctor prune repair skills",
}
_AS_JSON = Annotated[bool, switch("Print JSON.", "--json")]


class Result(NamedTuple):
    """What a command found.

    Attributes:
        shown: For people: a text, a table, or several parts.
        data: The same as plain data for `--json`, or a function that returns it. An iterator is
            printed as JSON Lines.
        code: Exit code of the command.
    """

    shown: str | TextTable | Iterable[Part]
    data: Any
    code: ExitCode = ExitCode.OK


class Declared(NamedTuple):
    """A command as it was declared.

    Attributes:
        group: One of `GROUPS`.
        function: What it does.
        settings: Names of the options in `SETTING_OPTIONS` that it takes.
        examples: Command lines that its help shows.
    """

    group: str
    function: Callable[..., Result]
    settings: Sequence[str]
    examples: Sequence[str]


COMMANDS: dict[str, Declared] = {}


def command(
    group: str, *examples: str, settings: Sequence[str] = ()
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Declares a function as the command of its name.

    Args:
        group: One of `GROUPS`.
        examples: Command lines that its help shows.
        settings: Names of options in `SETTING_OPTIONS`; the function gets them as `changes`.
    """

    def declare(function: Callable[..., Result]) -> Callable[..., Result]:
        COMMANDS[function.__name__] = Declared(group, function, settings, examples)
        return function

    return declare


def bind(declared: Declared) -> Callable[..., None]:
    """Returns the function that Typer calls: with all options, printing what the command found."""
    signature = inspect.signature(declared.function, eval_str=True)
    parameters: list[inspect.Parameter] = []
    bundles: dict[str, Any] = {}
    for one in signature.parameters.values():
        if isinstance(one.annotation, type) and issubclass(one.annotation, tuple):
            bundles[one.name] = one.annotation
            parameters += _list_fields(one.annotation)
        elif one.annotation is not Changes:
            parameters.append(one)
    parameters += [SETTING_OPTIONS[name].as_parameter(name) for name in declared.settings]
    parameters.append(
        inspect.Parameter(
            "as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_AS_JSON
        )
    )

    @functools.wraps(declared.function)
    def call(*, as_json: bool, **given: Any) -> None:
        is_stream = given.get("json_lines", False)
        for name, bundle in bundles.items():
            given[name] = bundle(**{field: given.pop(field) for field in bundle._fields})
        if "changes" in signature.parameters:
            given["changes"] = take_changes(given, declared.settings)
        # Progress and notes must not stand between other programs and the data.
        with (
            redirect_stdout(sys.stderr) if as_json else nullcontext(),
            _reporting_errors() if is_stream else nullcontext(),
        ):
            result = declared.function(**given)
        _say_result(result, as_json=as_json, pages=declared.group == "Look")
        raise typer.Exit(result.code)

    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    if declared.examples:
        # Click keeps the lines of a paragraph that begins with a backspace.
        lines = ["\b", "Examples:", *(f"  {line}" for line in declared.examples)]
        call.__doc__ = "\n".join([inspect.getdoc(declared.function) or "", "", *lines])
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


def _list_fields(bundle: Any) -> list[inspect.Parameter]:
    """Returns the options that a named tuple of them stands for."""
    kinds, kind = get_type_hints(bundle, include_extras=True), inspect.Parameter.KEYWORD_ONLY
    defaults = bundle._field_defaults
    return [
        inspect.Parameter(name, kind, default=defaults[name], annotation=kinds[name])
        for name in bundle._fields
    ]


@contextmanager
def _reporting_errors() -> Iterator[None]:
    """Ends a stream of events with the error that ends the command."""
    try:
        yield
    except EvolveError as error:
        ended = {"event": "error", "message": str(error), "exit_code": int(error.exit_code)}
        say_json(ended, indent=None)
        raise


def _say_result(result: Result, *, as_json: bool, pages: bool) -> None:
    if not as_json:
        shown = result.shown
        say_parts([shown] if isinstance(shown, str | TextTable) else shown, pages=pages)
        return
    found = result.data() if callable(result.data) else result.data
    if isinstance(found, Iterator):
        for line in found:
            say_json(line, indent=None)
    else:
        say_json(found)


EPILOG = (
    "Exit codes: 0 the run reached what it was asked for; 2 wrong usage or a bad problem folder; "
    "3 stopped by a budget before any improvement, or no program has an objective; "
    "4 machine failure (model endpoint, sandbox, evaluator, disk); "
    "5 `replay` or `verify` found a difference; 130 interrupted."
)
_SIGNALLED = 128


class Listed(NamedTuple):
    """A command as the help lists it.

    Attributes:
        group: One of `GROUPS`.
        summary: The first line of its docstring.
        module: Declares it.
    """

    group: str
    summary: str
    module: str


# A command is imported when it is used: all of them import nearly everything.
_DECLARED = re.compile(
    r"""^@command\(\s*"(\w+)".*?^def (\w+)\(.*?["']{3}(.+?)(?:$|["']{3})""",
    re.DOTALL | re.MULTILINE,
)


def list_commands() -> Mapping[str, Listed]:
    """Returns what the text of this folder's modules declares, in the order of the help."""
    found = {
        name: Listed(group, summary, f"evolve.cli.{path.stem}")
        for path in Path(__file__).parent.glob("[a-z]*.py")
        for group, name, summary in _DECLARED.findall(path.read_text("utf-8"))
    }
    order = [name for names in GROUPS.values() for name in names.split()]
    return {name: found[name] for name in sorted(found, key=lambda one: (*order, one).index(one))}


def find_command(name: str) -> Declared | None:
    """Returns a command by its name; None where there is none."""
    if name in (listed := list_commands()):
        importlib.import_module(listed[name].module)
    return COMMANDS.get(name)


class _GroupedCommands(TyperGroup):
    """Lists commands under the names of their groups."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Writes a section for each group."""
        listed = list_commands()
        for group in GROUPS:
            rows = [(name, one.summary) for name, one in listed.items() if one.group == group]
            with formatter.section(group):
                formatter.write_dl(rows)


def make_app(wanted: str | None) -> typer.Typer:
    """Makes the application.

    Args:
        wanted: The one command that can be used; the others have only their line of help.
    """
    # Rich help would double the time that `--help` takes.
    app = typer.Typer(
        name="evolve",
        cls=_GroupedCommands,
        help="Improves programs by evolution: a problem folder in, a better program out.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_top)
    declared = None if wanted is None else find_command(wanted)
    if declared is not None:
        app.command(wanted, epilog=EPILOG)(bind(declared))
    for name in list_commands():
        if name != wanted:
            app.command(name, help="-")(_unwanted)
    return app


def main() -> NoReturn:
    """Runs the command line and exits with its code."""
    leave_first_process()
    sys.excepthook = say_bug
    code = run_command()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_at_once(code)
    if threading.active_count() > 1:
        _leave_at_once(code)
    sys.exit(code)


def run_command() -> int:
    """Runs the command of `sys.argv` and returns its exit code; its errors are printed."""
    try:
        make_app(_find_wanted())()
    except EvolveError as error:
        say_error("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]))
        return error.exit_code
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            # The reader has had enough, as in `evolve archive RUN | head`.
            return ExitCode.INTERRUPTED if sys.argv[1] in _JUDGING else ExitCode.OK
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return ExitCode.OK


def _find_wanted() -> str | None:
    """Returns the command of the command line, or of the one that a shell completes."""
    completed = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    words = completed.split() if "_EVOLVE_COMPLETE" in os.environ else sys.argv
    return next(iter(words[1:]), None)


# Commands whose exit code is a verdict, which is unknown when their output is not read to its end.
_JUDGING = {"run", "resume", "attach", "check", "doctor", "replay", "verify"}


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - Typer's signature
    if wanted:
        say(f"evolve {__version__}")
        raise typer.Exit


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


def _unwanted() -> None:
    """Stands for the commands that are only listed."""


def _leave_at_once(code: int) -> NoReturn:
    """Ends the process without taking it apart.

    Slots that were dropped run on threads that may be anywhere, even in the middle of an import:
    the finalizers of LiteLLM's objects would wait for them forever.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


def leave_first_process() -> None:
    """Continues in a child where this is the first process of a container without an init.

    The kernel gives orphans to the first process, and each stays a zombie until that one waits for
    it. It also discards signals for which that process has no handler.
    """
    if sys.platform != "linux" or os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child:
        _reap_until_end(child)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap_until_end(child: int) -> NoReturn:
    while True:
        seen = signal.sigwaitinfo(signal.valid_signals())
        # Signals from a terminal reach the child by themselves.
        if seen.si_code <= 0 and seen.si_signo != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, seen.si_signo)
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    os._exit(code if code >= 0 else _SIGNALLED - code)
