"""The command line as a user runs it, and a small problem for it."""

import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from evolve.cli.app import run_command

PROBLEM = """
name = "valley"
direction = "maximize"
packages = []

[limits]
seconds = 2.0

[[measures]]
name = "first"
low = -10.0
high = 10.0
cells = 8
"""
STATEMENT = "Return two numbers; the nearer to a hidden point, the better.\n"
INITIAL = """# EVOLVE-BLOCK-START
def point():
    first = 1.0
    second = 1.0
    return [first, second]
# EVOLVE-BLOCK-END
"""
EVALUATOR = """from evolve.scoring import Score, as_floats


def evaluate(program):
    first, second = as_floats(program.call("point"), (2,), where="point")
    return Score(-((first - 3.0) ** 2) - (second + 2.0) ** 2, measures={"first": first})
"""


# Tuning takes longer than all that a model does in a small run.
UNTUNED = ("--set", "tuning.share=0")
# Containers take a second to start: `auto` takes another backend even where it could.
NO_DOCKER = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


def write_problem(
    folder: Path, *, initial: str = INITIAL, evaluator: str = EVALUATOR, toml: str = PROBLEM
) -> Path:
    folder.mkdir(parents=True)
    (folder / "problem.toml").write_text(toml)
    (folder / "statement.md").write_text(STATEMENT)
    (folder / "initial.py").write_text(initial)
    (folder / "evaluator.py").write_text(evaluator)
    return folder


def write_script(path: Path, **script: Any) -> str:
    """Writes a scripted model and gives its name."""
    path.write_text(json.dumps(script))
    return f"scripted:{path}"


def _settle(args: tuple[object, ...]) -> dict[str, str]:
    """Returns what commands find in the environment: runs with a model tune if they say so."""
    is_untuned = args[0] == "run" and "--model" in args and "tuning.share" not in str(args)
    return {**NO_DOCKER, **({"EVOLVE_SET_TUNING__SHARE": "0"} if is_untuned else {})}


def start_evolve(
    *args: object, cwd: Path, behind: tuple[str, ...] = (), **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*behind, sys.executable, "-m", "evolve", *map(str, args)],
        cwd=cwd,
        env={**os.environ, **_settle(args), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Ended(NamedTuple):
    """What a command printed, and its exit code."""

    stdout: str
    stderr: str
    code: int


def run_evolve(*args: object, cwd: Path, code: int | None = 0, **environment: str) -> Ended:
    """Runs a command in this process; those to which a process matters are started.

    Args:
        args: Of the command line.
        cwd: The current folder.
        code: The exit code that it must have; None for any.
        environment: Variables besides those there are.
    """
    out, err = io.StringIO(), io.StringIO()
    argv, variables = sys.argv, dict(os.environ)
    try:
        sys.argv = ["evolve", *map(str, args)]
        os.environ.update({**_settle(args), **environment})
        with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
            ended = run_command()
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(variables)
    assert code in {None, ended}, f"exit {ended}\n{out.getvalue()}\n{err.getvalue()}"
    return Ended(out.getvalue(), err.getvalue(), ended)


def run_detached(*args: object, cwd: Path, **environment: str) -> str:
    """Runs a command in a process of its own, as its child outlives it; returns what it prints."""
    process = start_evolve(*args, "--detach", cwd=cwd, **environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    return out


def run_json(*args: object, cwd: Path) -> Any:
    return json.loads(run_evolve(*args, "--json", cwd=cwd).stdout)


def wait_for_rows(run: Path, table: str, rows: int) -> None:
    """Waits until a run has written so many rows."""
    deadline = time.monotonic() + 60
    while count_rows(run / "run.db", table) < rows:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def count_rows(database: Path, table: str) -> int:
    if not database.exists():
        return 0
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def change_database(run: Path, sql: str) -> None:
    with closing(sqlite3.connect(run / "run.db")) as connection:
        connection.execute(sql)
        connection.commit()
