"""How a command is declared: by one decorator, in a file of its own or with its kin.

    @command("Look")
    def ls() -> Result:
        '''List the runs in ./runs.'''

The decorator adds `--json` to every command, and the options that change settings to those that
ask for them. A new command is one such function; its first line is its summary in `--help`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Annotated, Any, NamedTuple

import typer

from evolve.cli.options import SETTING_OPTIONS, Changes, switch, take_changes
from evolve.display import Part, TextTable, say_json, say_parts
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
    parameters = [one for one in signature.parameters.values() if one.annotation is not Changes]
    takes_changes = len(parameters) < len(signature.parameters)
    parameters += [SETTING_OPTIONS[name].as_parameter(name) for name in declared.settings]
    parameters.append(
        inspect.Parameter(
            "as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_AS_JSON
        )
    )

    @functools.wraps(declared.function)
    def call(*, as_json: bool, **given: Any) -> None:
        if takes_changes:
            given["changes"] = take_changes(given, declared.settings)
        # Progress and notes must not stand between other programs and the data.
        with (
            redirect_stdout(sys.stderr) if as_json else nullcontext(),
            _reporting_errors() if given.get("json_lines") else nullcontext(),
        ):
            result = declared.function(**given)
        if as_json:
            _say_data(result.data)
        else:
            shown = result.shown
            parts = [shown] if isinstance(shown, str | TextTable) else shown
            say_parts(parts, pages=declared.group == "Look")
        raise typer.Exit(result.code)

    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    if declared.examples:
        # Click keeps the lines of a paragraph that begins with a backspace.
        lines = ["\b", "Examples:", *(f"  {line}" for line in declared.examples)]
        call.__doc__ = "\n".join([inspect.getdoc(declared.function) or "", "", *lines])
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


@contextmanager
def _reporting_errors() -> Iterator[None]:
    """Ends a stream of events with the error that ends the command."""
    try:
        yield
    except EvolveError as error:
        ended = {"event": "error", "message": str(error), "exit_code": int(error.exit_code)}
        say_json(ended, indent=None)
        raise


def _say_data(data: Any) -> None:
    found = data() if callable(data) else data
    if isinstance(found, Iterator):
        for line in found:
            say_json(line, indent=None)
    else:
        say_json(found)
