"""Problems whose inputs are secret: what a model may learn of a program that failed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from evolve.problem import load_problem
from evolve.records import Evaluation, Program, SourceFile, Status
from evolve.records.plain import to_plain
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from evolve.sandbox.replies import name_kind_and_line
from tests.builders import judge_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evolve.sandbox.backends import Sandbox

MARKER = "marker_of_an_input_4711"
EVALUATOR = f"""
from evolve.scoring import Score, as_floats

def evaluate(program):
    found = as_floats(program.call("f", {MARKER!r}), (2,), where="f")
    program.run("x", stdin={MARKER!r}, command=["sh", "-c", "cat >&2; exit 3"])
    return Score(float(found.sum()))
"""
# What a program does with its input, the status, and what is told.
FAILURES = {
    "raises": ("raise ValueError(data)", Status.ERROR, "ValueError in line 3 of initial.py"),
    "names its exception": (
        "raise type(data, (ValueError,), {})(data)",
        Status.ERROR,
        "an exception in line 3 of initial.py",
    ),
    "compiles": ("exec(data + ' x')", Status.ERROR, "SyntaxError in line 3 of initial.py"),
    "prints": ("print(data); 1 / 0", Status.ERROR, "ZeroDivisionError in line 3 of initial.py"),
    "hangs": (
        "print(data, flush=True)\n    while 1: pass",
        Status.TIMEOUT,
        "; it was in line 4 of",
    ),
    "exits": ("import os; os.write(2, data.encode()); os._exit(7)", Status.CRASHED, "code 7"),
    "returns it": ("return data", Status.INFEASIBLE, "f: expected 2 numbers, got a str"),
    "returns it in a list": ("return [1, data]", Status.INFEASIBLE, "f[1]: expected a number"),
    "returns a number of it": (
        "return [1, float('inf')]",
        Status.INFEASIBLE,
        "f[1]: expected a finite number",
    ),
    "sends something else": (
        "import os; os.write(4, data.encode() * 9); return 1",
        Status.ERROR,
        "cannot decode the return value",
    ),
    "prints as a command": ("return [1, 2]", Status.ERROR, "`sh` exited with code 3"),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = open_sandbox("auto", find_view(("numpy",)))
    yield sandbox
    sandbox.close()


def judge(sandbox: Sandbox, folder: Path, action: str, *, secret: bool) -> Evaluation:
    folder.mkdir()
    flag = "secret = true\n" if secret else ""
    toml = f'{flag}direction = "maximize"\n[limits]\nseconds = 2\n'
    for name, text in {
        "problem.toml": toml,
        "statement.md": "Add.\n",
        "initial.py": f"\ndef f(data):\n    {action}\n",
        "evaluator.py": EVALUATOR,
    }.items():
        (folder / name).write_text(text)
    return judge_program(sandbox, load_problem(folder))


@pytest.mark.parametrize("name", FAILURES)
def test_no_word_of_a_program_that_fails_travels(
    sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    action, status, reason = FAILURES[name]
    found = judge(sandbox, tmp_path / "p", action, secret=True)
    assert (found.status, found.artifacts) == (status, {})
    assert reason in found.reason
    assert MARKER not in json.dumps(to_plain(found))


def test_where_they_are_no_secret_a_repair_sees_them(sandbox: Sandbox, tmp_path: Path) -> None:
    found = judge(sandbox, tmp_path / "p", FAILURES["raises"][0], secret=False)
    assert MARKER in found.reason
    assert MARKER in found.artifacts["traceback"]


@pytest.mark.parametrize(
    ("reason", "detail", "told"),
    [
        ("KeyError: 3", '  File "a.py", line 2, in f', "KeyError in line 2 of a.py"),
        ("KeyError: 3", '  File "a.py", line 99, in f', "KeyError"),
        ("KeyError: 3", '  File "/etc/b", line 1, in f', "KeyError"),
        ("input", '  File "a.py", line 1, in f', "an exception in line 1 of a.py"),
        ("print: 3", "", "an exception"),
        ("SyntaxError: bad (line 3)", "", "SyntaxError in line 3 of a.py"),
        ("SyntaxError: bad (line 4)", "", "SyntaxError"),
    ],
)
def test_only_known_kinds_and_lines_are_named(reason: str, detail: str, told: str) -> None:
    program = Program((SourceFile("a.py", "1\n2\n3"),))
    assert name_kind_and_line(reason, detail, program) == told
