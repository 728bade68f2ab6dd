import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("evolve re", {"replay", "repair", "resume", "report"}),
     ("evolve run --max", {"--max-cost", "--max-evaluations", "--max-time"})],
)  # fmt: skip
def test_a_shell_completes_commands_and_their_options(words, wanted):
    # The name of the variable follows that of the command.
    done = subprocess.run(
        [Path(sys.executable).parent / "evolve"],
        env={
            **os.environ, "_EVOLVE_COMPLETE": "complete_bash", "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert set(done.stdout.split()) == wanted, done.stderr
