from pathlib import Path

import pytest

from tests.commands import write_problem


@pytest.fixture
def problem(tmp_path) -> Path:
    """A small problem folder: two numbers, best at 3 and -2."""
    return write_problem(tmp_path / "valley")
