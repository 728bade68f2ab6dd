"""One of each kind of part, added to a copy of the package as CONTRIBUTING's table says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evolve
from tests.commands import NO_DOCKER, write_problem

PACKAGE = Path(evolve.__file__).parent
RULE = """
def _weigh_worst(ranks: Ranks, _children: Ranks, _entropy: float) -> Weights:
    return np.append(np.zeros(len(ranks) - 1), 1.0)


"""
HALVES = """
class Halves(GridCells):
    def __init__(self, axes):
        super().__init__([replace(axes[0], cells=2)])


"""
BACKEND = """
from evolve.sandbox.processes import make_native


def make_plain(view):
    sandbox = make_native(view)
    sandbox.name = "plain"
    return sandbox
"""
MODEL = """
from evolve.models.model import Model
from evolve.models.budget import FREE
from evolve.records.chat import Reply


class EchoModel(Model):
    def complete(self, request, timeout_seconds):
        return Reply("let first = 2.0", self.name, 1, 1, 0.0, 0.0)

    def find_price(self):
        return FREE
"""
OPENING = """
    if name == "echo":
        from evolve.models.echo import EchoModel

        return EchoModel(name)
"""
FORM = """
def find_assignments(lines):
    words = [line.split() for line in lines if line.startswith("let ")]
    return [
        Edit((f"    {name} = 1.0",), (f"    {name} = {value}",)) for _, name, _, value in words
    ]


"""
COMMAND = """
from evolve.cli.app import Result, command


@command("Look")
def greet() -> Result:
    '''Greet the user.'''
    return Result("good day", {"greeting": "good day"})
"""
SECTIONS = "settings/sections.py"
# By kind: each file that is added or changed, what is put into it, and the text that comes then.
PARTS = {
    "selection rule": [
        ("archive/selection.py", RULE, "# From the ranks of elites"),
        ("archive/selection.py", '"worst": _weigh_worst,', '"pareto": _weigh'),
        (SECTIONS, '"worst": Strategy("the worst elite", rule="worst"),', '"hill-climb": Strategy'),
    ],
    "archive": [
        ("archive/archives.py", HALVES, "# How measure space is cut,"),
        ("archive/archives.py", '"halves": Halves,', '"single": lambda'),
        (SECTIONS, '"halves",', '"single"))'),
    ],
    "sandbox backend": [
        ("sandbox/plain.py", BACKEND, ""),
        ("sandbox/backends.py", '"plain": "evolve.sandbox.plain:make_plain",', '"native": "evolve'),
    ],
    "model provider": [
        ("models/echo.py", MODEL, ""),
        ("models/roster.py", OPENING, "    if not name.strip():"),
    ],
    "editing form": [
        ("edits/reply.py", FORM, "def find_titled_edits("),
        ("edits/apply.py", "find_assignments,", "    find_titled_edits,\n"),
        ("edits/apply.py", "find_assignments, ", "find_titled_edits)"),
    ],
    "command": [("cli/greet.py", COMMAND, "")],
    "stored column": [
        ("records/attempts.py", "mood: str = 'calm'\n\n    ", "@property\n    def objective"),
    ],
}
SCRIPT = """
import contextlib, io, json, sys
from pathlib import Path
from evolve.cli.app import run_command
from evolve.records import AttemptKey
from evolve.store import Store

def run(*words):
    sys.argv = ["evolve", *words]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = run_command()
    assert code == 0, (words, code, out.getvalue())
    return out.getvalue()

run("run", "valley", "--run-dir", "r", "--generations", "1", "--model", "echo", "--strategy",
    "worst", "--sandbox", "plain", "--allow-weak-sandbox", "--set", "search.archive=halves",
    "--set", "loop.slots=2", "--set", "sandbox.processes=1", "--set", "tuning.share=0")
state = json.loads(run("show", "r", "--json"))
attempt = Store.open_to_read(Path("r")).load_attempt(AttemptKey(1, 0, 0))
print(json.dumps({
    "selection rule": state["strategy"],
    "archive": state["islands"][0]["coverage"],
    "sandbox backend": state["sandbox"],
    "model provider": state["calls"] > 0,
    "editing form": attempt.program.entry.text.splitlines()[2],
    "command": json.loads(run("greet", "--json")),
    "stored column": attempt.mood,
}))
"""
SHOWN = {
    "selection rule": "worst",
    "archive": 0.5,
    "sandbox backend": "plain",
    "model provider": True,
    "editing form": "    first = 2.0",
    "command": {"greeting": "good day"},
    "stored column": "calm",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, object]:
    """What a run shows of each part, where all of them are added."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(PACKAGE, folder / "evolve")
    for path, new, following in (change for changes in PARTS.values() for change in changes):
        file = folder / "evolve" / path
        text = file.read_text() if following else ""
        assert not following or text.count(following) == 1, (path, following)
        file.write_text(text.replace(following, new + following))
    write_problem(folder / "valley")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        env={**os.environ, **NO_DOCKER, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_is_added_in_one_or_two_files(found, kind):
    assert len({path for path, _, _ in PARTS[kind]}) <= 2
    assert found[kind] == SHOWN[kind]
