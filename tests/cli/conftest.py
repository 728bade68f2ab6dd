"""What tests of several commands need."""

from pathlib import Path

import pytest

from tests.commands import run_evolve, write_problem


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a run of one's own, `r`."""
    folder = tmp_path_factory.mktemp("made")
    write_problem(folder / "valley")
    run_evolve("run", "valley", "--generations", "1", "--run-dir", "r", cwd=folder)
    return folder
