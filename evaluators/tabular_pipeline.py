"""Scores pipelines that predict the course of diabetes by their error on rows without targets."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from pipelines import Table, run_pipeline

from evolve.scoring import ProgramHandle, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Stands here and not in the problem folder, so that no program can know the rows.
_STREAM = 20_261_124


def evaluate(program: ProgramHandle) -> Score:
    """Scores on the validation rows."""
    return _score(program, "validation")


def evaluate_holdout(program: ProgramHandle) -> Score:
    """Scores on rows that nothing was selected on."""
    return _score(program, "hold-out")


def split_rows() -> dict[str, NDArray[np.int64]]:
    """Returns the numbers of the rows to learn from, to validate on, and to hold out."""
    rows, _ = _load()
    order = np.random.default_rng(_STREAM).permutation(len(rows))
    parts = np.split(order, [200, 342])
    return dict(zip(("known", "validation", "hold-out"), parts, strict=True))


def _score(program: ProgramHandle, part: str) -> Score:
    rows, targets = _load()
    split = split_rows()
    known, asked = split["known"], split[part]
    said = run_pipeline(
        program, Table(rows[known], targets[known], rows[asked], 0, f"diabetes {part}")
    )
    errors = said.unknown[:, 0] - targets[asked]
    folds = said.folds[:, 0] - targets[known]
    return Score(
        float(np.sqrt(np.mean(errors**2))),
        metrics={"cross_validated": float(np.sqrt(np.mean(folds**2)))},
        measures={"spread": float(said.unknown.std() / targets[known].std())},
    )


@cache
def _load() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from sklearn.datasets import load_diabetes

    rows, targets = load_diabetes(return_X_y=True, scaled=False)
    return rows.astype(float), targets.astype(float)
