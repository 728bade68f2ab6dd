"""The messages that the manual explains are those that the package prints."""

import ast
import builtins
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "how-to" / "troubleshooting.md"


def texts_of_the_package() -> str:
    return "\n".join(
        node.value
        for path in sorted((ROOT / "evolve").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_every_message_that_the_manual_explains_is_one_of_the_package():
    known = texts_of_the_package()
    cells = re.findall(r"^\| (`.+?) \|", PAGE.read_text(), re.MULTILINE)
    assert len(cells) > 40
    parts = [
        part.strip()
        for cell in cells
        for message in re.findall(r"`([^`]+)`", cell)
        for part in message.split("...")
    ]
    # Evaluators and programs raise what Python has.
    assert [part for part in parts if part not in known and not hasattr(builtins, part)] == []
