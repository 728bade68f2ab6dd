import shutil

import pytest

from tests.commands import (
    run_evolve,
    write_problem,
)

ASKED = ("--generations", 6, "--set", "loop.slots=4", "--model", "scripted")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    problem = write_problem(folder / "valley")
    run_evolve("run", problem, *ASKED, "--run-dir", folder / "r", cwd=folder)
    return folder / "r"


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "r")
    return tmp_path / "r"
