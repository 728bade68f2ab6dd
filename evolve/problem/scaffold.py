"""A new problem folder that works, to be changed into one's own."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from evolve.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIX = ".template"


def scaffold_problem(folder: Path) -> tuple[Path, ...]:
    """Writes a small problem with its statement, starting program and evaluator.

    Args:
        folder: Is made if needed; what it already holds is left alone.

    Returns:
        The files written.

    Raises:
        UsageError: One of the files exists already, or the folder cannot be written to.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", folder.resolve().name).strip("_") or "problem"
    texts = {folder / file: text.replace("{name}", name) for file, text in _read_templates()}
    existing = [path for path in texts if path.exists()]
    if existing:
        raise UsageError(f"{existing[0]}: expected no such file, got one; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: expected a folder to write to: {error.strerror}") from error
    return tuple(texts)


def _read_templates() -> list[tuple[str, str]]:
    templates = resources.files("evolve") / "templates" / "problem"
    return [
        (template.name.removesuffix(_SUFFIX), template.read_text(encoding="utf-8"))
        for template in sorted(templates.iterdir(), key=lambda item: item.name)
        if template.name.endswith(_SUFFIX)
    ]
