"""The notebook of the manual runs from top to bottom."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "run_notebook.py"


@pytest.mark.skipif(
    importlib.util.find_spec("nbclient") is None or importlib.util.find_spec("ipykernel") is None,
    reason="needs nbclient and ipykernel: pip install 'evolve[test]'",
)
def test_the_notebook_runs_and_shows_what_it_did():
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr
