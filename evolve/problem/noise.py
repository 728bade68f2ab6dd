"""How far the objectives of one program lie apart, and where that is written down."""

from __future__ import annotations

import re
from pathlib import Path

from evolve.errors import ProblemError
from evolve.files import write_inside
from evolve.problem.checked_files import read_text
from evolve.records import Evaluation

# Rounding, which depends on the order in which threads add.
_ROUNDING = 1e-9
_LINE = re.compile(r"^noise\s*=.*$", re.MULTILINE)
_SPREAD = re.compile(r"^(\[noise\][^\[]*?)(?:^spread\s*=.*\n|(?=^\[)|\Z)", re.MULTILINE)
_FIRST_TABLE = re.compile(r"^\[", re.MULTILINE)


def measure_noise(evaluation: Evaluation) -> float:
    """Returns how far the evaluations that a verdict is the mean of lie apart; 0 for rounding."""
    if not evaluation.repeats:
        return 0.0
    noise = max(evaluation.repeats) - min(evaluation.repeats)
    return noise if noise > _ROUNDING * max(map(abs, evaluation.repeats)) else 0.0


def write_noise(folder: Path, noise: float) -> Path:
    """Writes the noise of objectives into a `problem.toml`, in place of what stood there.

    Returns:
        The file.

    Raises:
        ProblemError: It cannot be written.
    """
    path = folder / "problem.toml"
    text, line = read_text(path, folder), f"noise = {noise!r}"
    if (table := _SPREAD.search(text)) is not None:
        kept = f"{table[1].rstrip()}\nspread = {noise!r}\n"
        text = f"{text[: table.start()]}{kept}{text[table.end() :]}"
    elif _LINE.search(text):
        text = _LINE.sub(line, text, count=1)
    else:
        table = _FIRST_TABLE.search(text)
        place = table.start() if table else len(text)
        text = f"{text[:place]}{line}\n\n{text[place:]}" if table else f"{text.rstrip()}\n{line}\n"
    try:
        write_inside(folder, path.name, text)
    except OSError as error:
        raise ProblemError(f"{path}: cannot be written: {error.strerror}") from error
    return path
