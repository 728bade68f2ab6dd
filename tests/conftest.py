from pathlib import Path

import pytest
from hypothesis import settings

from tests.commands import write_problem

# A busy machine is no failure, and the same examples run everywhere.
settings.register_profile("evolve", deadline=None, derandomize=True)
settings.load_profile("evolve")


@pytest.fixture
def problem(tmp_path) -> Path:
    """A small problem folder: two numbers, best at 3 and -2."""
    return write_problem(tmp_path / "valley")
