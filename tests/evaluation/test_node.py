"""What a node of a cluster checks before it evaluates; no cluster is needed for that."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from evolve.evaluation.node import open_evaluator, pack_problem
from evolve.settings.sections import SandboxSettings
from tests.commands import PROBLEM, write_problem


def describe(folder: Path) -> tuple[dict, bytes]:
    """Returns what a node is sent of a problem."""
    paths = {"folder": folder, "world": folder}
    packed, sent = pack_problem({**paths, "parameters": {}, "sandbox": asdict(SandboxSettings())})
    return sent, packed


def refuse(config: dict, packed: bytes) -> str:
    """Returns why a node cannot evaluate a problem."""
    evaluator, answer = open_evaluator(json.dumps(config).encode(), lambda: packed)
    assert evaluator is None
    return answer["message"]


def test_equal_problems_have_equal_packs_wherever_they_lie(tmp_path):
    first, second = (write_problem(tmp_path / name) for name in ("a", "b"))
    os.utime(second / "evaluator.py", (1, 1))
    assert describe(first)[1] == describe(second)[1]


def test_other_versions_are_refused(problem):
    config, packed = describe(problem)
    config["versions"] = {"Python": "2.7", "evolve": "0.0.1"}
    said = refuse(config, packed)
    assert said.startswith("expected Python 2.7 and evolve 0.0.1, as where the run is, got Python")


def test_a_file_to_which_a_run_only_links_has_to_be_there(problem, tmp_path):
    large = tmp_path / "large.bin"
    (problem / "large.bin").symlink_to(large)
    assert f"expected {large} there, to which the run has a link" in refuse(*describe(problem))


def test_a_variable_of_the_evaluator_is_that_of_the_node(tmp_path):
    name, _, rest = PROBLEM.partition("packages = []\n")
    toml = f'{name}packages = []\n[evaluator]\nenvironment = ["NO_SUCH_ROOT"]\n{rest}'
    folder = write_problem(tmp_path / "valley", toml=toml)
    said = refuse(*describe(folder))
    assert "expected NO_SUCH_ROOT, which the evaluator reads, to be set where Ray" in said


def test_a_full_disk_is_named(problem, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=1777", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        code = f"""from pathlib import Path
from tests.evaluation.test_node import describe, refuse
print(refuse(*describe(Path({str(problem)!r}))))"""
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TMPDIR": str(disk)},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert "cannot be written: No space left on device; free the disk there" in done.stdout
