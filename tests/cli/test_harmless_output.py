"""Commands over a run and a problem in which everything tries to take the terminal over."""

import json
import os
import pty
import re
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.commands import PROBLEM, run_evolve, write_problem

ATTACK = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\u2066\r\x08\x7f\u2028"
FORGED = "fine\nchampion     1e9  program forged"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
INITIAL = f"# EVOLVE-BLOCK-START {ATTACK!s:.0}\n# {ATTACK.replace(chr(13), '')}\n"
INITIAL += "def point():\n    first = 1.0\n    return [first, 1.0]\n# EVOLVE-BLOCK-END\n"
EVALUATOR = f"""from evolve.scoring import Score, as_floats

ATTACK = {ATTACK!r} + {FORGED!r}


def evaluate(program):
    first, second = as_floats(program.call("point"), (2,), where="point")
    if first > 5.0:
        raise ValueError(ATTACK)
    return Score(-abs(second - 9.0), metrics={{ATTACK: 1.0}}, measures={{"first": first}},
        artifacts={{ATTACK: ATTACK}})
"""
TOML = (
    f"summary = {json.dumps(ATTACK + FORGED)}\n".replace("\x7f", "\\u007f")
    + PROBLEM
    + "\n[best_known]\nvalue = 1.0\nsource = "
    + json.dumps(ATTACK + FORGED).replace("\x7f", "\\u007f")
)
# Every column that holds words; those with JSON keep their form.
WORDS = {
    "calls": ("role", "model", "error", "finish_reason"),
    "expenses": ("role", "model", "lost"),
    "invocations": ("host", "version"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("attacked")
    problem = write_problem(folder / "valley", initial=INITIAL, evaluator=EVALUATOR, toml=TOML)
    out, err, _ = run_evolve(
        "run", problem, "--generations", "2", "--run-dir", "runs/r", "--model", "scripted",
        cwd=folder, code=None,
    )  # fmt: skip
    assert not OBEYED.search(out + err), ascii(out + err)
    with closing(sqlite3.connect(folder / "runs/r/run.db")) as database, database:
        for table, columns in WORDS.items():
            for column in columns:
                database.execute(f"UPDATE {table} SET {column} = ?", (ATTACK + FORGED,))
        plan = {"change": ATTACK + FORGED, "hypothesis": ATTACK,
                "tags": [ATTACK], "operator": "", "lessons": []}  # fmt: skip
        database.execute("UPDATE attempts SET plan = ?, reason = ?", (json.dumps(plan), ATTACK))
        words = ATTACK + FORGED
        lesson = {"claim": words, "evidence": words, "scope": words, "works": True, "tags": [words]}
        summary = {"verdict": words, "lessons": [lesson], "outdated": [words]}
        database.execute("UPDATE generations SET summary = ?", (json.dumps(summary),))
        for name in ("problem", "stopped_because", "sandbox", "replay"):
            value = json.dumps(ATTACK + FORGED)
            database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
    return folder


COMMANDS = [
    ["ls"],
    ["show", "r"],
    ["show", "r", "1.0.0"],
    ["show", "r", "--prompt", "1.0.0"],
    ["show", "r", "--reply", "1.0.0"],
    ["show", "r", "--source", "0.0.0"],
    ["archive", "r"],
    ["archive", "r", "--map", "first", "first"],
    ["log", "r"],
    ["lessons", "r"],
    ["lineage", "r"],
    ["best", "r"],
    ["diff", "r"],
    ["diff", "r", "--initial"],
    ["compare", "r"],
    ["check", "valley"],
    ["replay", "r"],
    ["attach", "r"],
    ["prompt", "valley"],
    ["best", "r", "--output", "out"],
    ["export", "r", "--output", "exported"],
    ["verify", "r"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_reaches_the_terminal_that_it_obeys(folder, command):
    out, err, _ = run_evolve(*command, cwd=folder, code=None)
    assert out + err
    assert not OBEYED.search(out + err), ascii(out + err)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "command",
    [["show", "r"], ["archive", "r"], ["log", "r"], ["lessons", "r"], ["lineage", "r"], ["ls"],
     ["check", "valley"]],
    ids=" ".join,
)  # fmt: skip
def test_no_line_is_forged(folder, command):
    out, err, _ = run_evolve(*command, cwd=folder, code=None)
    assert "fine champion" in out + err
    assert not [line for line in (out + err).splitlines() if line.startswith("champion     1e9")]


@pytest.mark.parametrize("command", ["show", "archive", "log", "lessons", "lineage", "best"])
def test_data_for_programs_holds_the_words_as_they_are(folder, command):
    out = run_evolve(command, "r", "--json", cwd=folder).stdout
    assert not OBEYED.search(out)
    told = [json.loads(line) for line in out.splitlines()] if command == "log" else json.loads(out)
    assert "\u202e" in json.dumps(told, ensure_ascii=False)


def test_nothing_in_a_report_is_obeyed(folder):
    run_evolve("report", "r", "--output", "page.html", cwd=folder)
    assert not OBEYED.search((folder / "page.html").read_text())


def test_files_of_a_program_are_written_as_they_are(folder):
    run_evolve("best", "r", "--output", "exact", cwd=folder)
    assert ATTACK.replace("\r", "") in (folder / "exact/initial.py").read_bytes().decode()


def test_the_live_view_is_not_taken_over(folder):
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        name = "[red]\x1b]0;owned\x07"
        arguments = ["run", "valley", "--generations", "2", "--run-dir", name]
        os.execv(sys.executable, [sys.executable, "-m", "evolve", *arguments])
    seen = b""
    with suppress(OSError):
        while chunk := os.read(terminal, 65536):
            seen += chunk
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in {0, 3}
    text = seen.decode()
    assert "generation" in text
    assert "[red]\\x1b]0;owned\\x07" in text
    assert "\x1b]" not in text
    assert "\x07" not in text
