"""Writes `docs/reference/commands.md` from the help of the commands."""

import textwrap
from pathlib import Path
from typing import Any

from typer.main import get_command

from evolve.cli.app import GROUPS, list_commands, make_app

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"
_HEAD = """\
# Commands

Every command explains itself with `--help`; this page is made from those texts. `RUN` is a run's
folder, its name in `./runs`, or `latest`. `ID` is an attempt such as `3.1.0` (generation, slot,
number), a call, or the start of a program's id.

Every command takes `--json` and then prints [JSON](output.md) on standard output; progress and
notes go to standard error. How a command ended is in its [exit code](exit-codes.md).
`evolve --install-completion` lets the shell complete commands and options.
"""


def write_page() -> str:
    """Returns the page."""
    commands = list_commands()
    parts = [_HEAD]
    for group in GROUPS:
        parts.append(f"## {group}\n")
        parts += [_write_command(name) for name, one in commands.items() if one.group == group]
    return "\n".join(parts)


def _write_command(name: str) -> str:
    command: Any = get_command(make_app(name)).commands[name]  # type: ignore[attr-defined]
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    records = [one.get_help_record(context) for one in command.params if one.name != "as_json"]
    rows = [f"| `{_protect(left)}` | {_protect(right)} |" for left, right in filter(None, records)]
    table = ["| | |", "|---|---|", *rows] if rows else []
    text, _, examples = (command.help or "").partition("\b\nExamples:\n")
    shown = ["```text", textwrap.dedent(examples).rstrip(), "```", ""] if examples else []
    lines = [
        f"### evolve {name}",
        "",
        text.strip(),
        "",
        *shown,
        f"`evolve {name} {usage}`",
        "",
        *table,
    ]
    return "\n".join(lines).rstrip() + "\n"


def _protect(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
