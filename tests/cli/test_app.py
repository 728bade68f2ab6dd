"""How a declared command is bound, printed and listed."""

import json
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from evolve.cli.app import COMMANDS, Result, command, make_app
from evolve.cli.options import Changes, read_settings
from evolve.display import TextTable, say
from evolve.errors import ExitCode


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    @command("Look", settings=("seed", "max_time", "set"))
    def count(word: str, *, changes: Changes) -> Result:
        """Count the letters of a word."""
        say("counting")
        settings = read_settings(changes)
        rows = [[word, len(word)], ["seed", settings.loop.seed]]
        data = {"letters": len(word), "seconds": settings.budget.max_seconds}
        return Result([TextTable(("word", "letters"), rows), "done"], data, ExitCode.DIFFERENT)

    @command("Look")
    def spell(word: str) -> Result:
        """Spell a word."""
        letters = ({"letter": letter} for letter in word)
        return Result(map(str, letters), letters)

    yield
    del COMMANDS["count"], COMMANDS["spell"]


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(make_app(words[0]), words)
    return done.exit_code, done.stdout, done.stderr


def test_a_table_is_text_in_columns_outside_a_terminal():
    code, out, _ = run("count", "tea", "--seed", "7")
    assert code == ExitCode.DIFFERENT
    assert out.splitlines() == [
        "counting", "word  letters", "tea         3", "seed        7", "done"
    ]  # fmt: skip


def test_json_stands_alone_on_standard_output():
    code, out, err = run("count", "tea", "--json", "--max-time", "2m")
    assert code == ExitCode.DIFFERENT
    assert json.loads(out) == {"letters": 3, "seconds": 120.0}
    assert err == "counting\n"


def test_what_comes_one_by_one_is_one_json_value_a_line():
    _, out, _ = run("spell", "tea", "--json")
    assert [json.loads(line)["letter"] for line in out.splitlines()] == ["t", "e", "a"]
    assert run("spell", "at")[1] == "{'letter': 'a'}\n{'letter': 't'}\n"


def test_an_option_wins_over_an_assignment():
    _, out, _ = run("count", "tea", "--set", "loop.seed=1", "--seed", "2")
    assert "seed        2" in out


def test_the_help_lists_commands_in_their_groups_without_importing_them():
    done = CliRunner().invoke(make_app(None), ["--help"])
    look = done.stdout.partition("\nLook:\n")[2].partition("\n\n")[0]
    assert "ls       List the runs in ./runs.\n  show " in look
    assert look.splitlines()[0].split()[0] == "ls"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal")
def test_a_terminal_gets_colour():
    import os
    import pty
    import subprocess

    code = (
        "from evolve.display import TextTable, say_parts\n"
        "say_parts([TextTable(('word', 'letters'), [['\\x1b[2Jtea', 3]])])"
    )
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", code], stdout=theirs, check=True, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "\x1b[1;36mword" in shown
    assert "\\x1b[2Jtea" in shown
