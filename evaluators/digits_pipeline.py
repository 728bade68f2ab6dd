"""Scores pipelines that read handwritten digits by their accuracy on rows without labels."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from pipelines import Table, run_pipeline

from evolve.scoring import ProgramHandle, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASSES = 10
# Stands here and not in the problem folder, so that no program can know the rows.
_STREAM = 20_261_123


def evaluate(program: ProgramHandle, *, rows: int) -> Score:
    """Scores on the validation rows; models learn from `rows` others."""
    return _score(program, rows, "validation")


def evaluate_holdout(program: ProgramHandle, *, rows: int) -> Score:
    """Scores on rows that nothing was selected on."""
    return _score(program, rows, "hold-out")


def split_rows() -> dict[str, NDArray[np.int64]]:
    """Returns the numbers of the rows to learn from, to validate on, and to hold out."""
    images, _ = _load()
    order = np.random.default_rng(_STREAM).permutation(len(images))
    parts = np.split(order, [600, 1400])
    return dict(zip(("known", "validation", "hold-out"), parts, strict=True))


def _score(program: ProgramHandle, rows: int, part: str) -> Score:
    images, labels = _load()
    split = split_rows()
    known, asked = split["known"][:rows], split[part]
    table = Table(images[known], labels[known], images[asked], CLASSES, f"digits {rows} {part}")
    said = run_pipeline(program, table)
    wrong = said.unknown.argmax(axis=1) != labels[asked]
    folds = said.folds.argmax(axis=1) == labels[known]
    confused = np.bincount(labels[asked][wrong].astype(int), minlength=CLASSES)
    texts = {} if part == "hold-out" else {"wrong by digit": str(confused.tolist())}
    return Score(
        float(1.0 - wrong.mean()),
        metrics={"cross_validated": float(folds.mean())},
        measures={"certainty": float(np.mean(_certainty(said.unknown)))},
        artifacts=texts,
    )


def _certainty(said: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns by how much the first choice of each row leads, as a share of the row's range."""
    ordered = np.sort(said, axis=1)
    span = ordered[:, -1] - ordered[:, 0]
    lead = ordered[:, -1] - ordered[:, -2]
    return np.divide(lead, span, out=np.zeros_like(lead), where=span > 0.0)


@cache
def _load() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.astype(float), labels.astype(float)
