"""The examples of docs/reference/python.md run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "python.md"


def test_every_example_runs(tmp_path):
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) >= 4
    for number, example in enumerate(examples):
        path = tmp_path / f"example_{number}.py"
        path.write_text(example)
        done = subprocess.run(
            [sys.executable, path.name], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
