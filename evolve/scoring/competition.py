"""Scores for tables as competitions hand them out: metrics, parts of the known rows, medals."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evolve.display import as_cell
from evolve.scoring.handle import ProgramHandle
from evolve.scoring.score import Infeasible, Score, as_floats

Numbers = NDArray[np.float64]

SUBMISSION = "submission.csv"
MEDALS = ("gold", "silver", "bronze")
_VALIDATION, _HOLDOUT = 0.2, 0.2
_MISSING = {"", "NA", "NaN", "nan", "null", "None"}
Column = list[float | None] | list[str | None]


@dataclass(frozen=True, slots=True)
class Metric:
    """How answers are compared with the truth.

    Attributes:
        function: Of truth and answers.
        maximize: Whether more is better.
        probabilities: Whether answers are probabilities of the class 1.
        classes: Whether the truth is one of a few labels.
    """

    function: Callable[[Numbers, Numbers], float]
    maximize: bool
    probabilities: bool = False
    classes: bool = False


@dataclass(frozen=True, slots=True)
class Competition:
    """What is scored.

    Attributes:
        folder: Holds `train.csv` and `test.csv`.
        identifier: Column that names rows.
        target: Column to predict.
        metric: Name in `METRICS`.
        seed: Of the parts that the known rows are cut into.
        medals: Thresholds by name; the hold-out is graded by them.
    """

    folder: Path
    identifier: str
    target: str
    metric: str
    seed: int
    medals: Mapping[str, float]

    def evaluate(self, program: ProgramHandle) -> Score:
        """Scores `predict(train, targets, rows)` on the validation rows.

        Raises:
            Infeasible: Answers of another form or number.
            ProgramError: The program failed.
        """
        return Score(self._score(program, "validation"))

    def evaluate_holdout(self, program: ProgramHandle) -> Score:
        """Scores and grades on rows that nothing was selected on; raises as `evaluate`."""
        value = self._score(program, "holdout")
        return Score(value, metrics={"medal": float(self.grade(value))} if self.medals else {})

    def write_submission(self, program: ProgramHandle) -> Score:
        """Predicts the rows that were handed out without targets, from all known ones.

        Returns:
            The validation score, with the file as an artifact.
        """
        columns, truth = _read_known(self.folder, self.target)
        rows = _read_columns(self.folder / "test.csv")
        identifiers = rows[self.identifier]
        said = program.call("predict", columns, truth, {name: rows[name] for name in columns})
        if type(said) not in {list, tuple, np.ndarray} or len(said) != len(identifiers):
            raise Infeasible(f"predict: expected {len(identifiers)} answers")
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([self.identifier, self.target])
        for name, answer in zip(identifiers, said, strict=True):
            # Rows are named as the competition names them; a program must not write formulas.
            writer.writerow([_show(name), as_cell(_show(answer))])
        return replace(self.evaluate(program), artifacts={SUBMISSION: stream.getvalue()})

    def grade(self, value: float) -> int:
        """Returns 3 for gold, 2 for silver, 1 for bronze, 0 for none."""
        better = 1.0 if METRICS[self.metric].maximize else -1.0
        for rank, name in enumerate(MEDALS):
            threshold = self.medals.get(name)
            if threshold is not None and better * value >= better * threshold:
                return len(MEDALS) - rank
        return 0

    def _score(self, program: ProgramHandle, part: str) -> float:
        """Returns the metric on the rows of a part, learnt from those of neither part."""
        columns, truth = _read_known(self.folder, self.target)
        parts = cut_rows(len(truth), self.seed)
        known, asked = parts["known"], parts[part]
        metric = METRICS[self.metric]
        given = [truth[row] for row in known]
        said = program.call("predict", _take(columns, known), given, _take(columns, asked))
        names = sorted({str(label) for label in truth}) if metric.classes else []
        answers = _read_answers(said, len(asked), metric, names)
        return metric.function(_encode([truth[row] for row in asked], names), answers)


def cut_rows(count: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """Cuts rows into those to learn from, to validate on, and to hold out."""
    order = np.random.default_rng(seed).permutation(count)
    first, second = round(count * (1 - _VALIDATION - _HOLDOUT)), round(count * (1 - _HOLDOUT))
    parts = np.split(order, [first, second])
    return dict(zip(("known", "validation", "holdout"), parts, strict=True))


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Reads a CSV file: its head and its rows."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    return (rows[0], rows[1:]) if rows else ([], [])


def _read_columns(path: Path) -> dict[str, Column]:
    head, rows = read_table(path)
    return {name: _parse([row[place] for row in rows]) for place, name in enumerate(head)}


@cache
def _read_known(folder: Path, target: str) -> tuple[dict[str, Column], list[Any]]:
    known = _read_columns(folder / "train.csv")
    asked, _ = read_table(folder / "test.csv")
    truth = list(known[target])
    return {name: column for name, column in known.items() if name in asked}, truth


def _parse(cells: list[str]) -> Column:
    """Returns numbers where all cells are, else texts; missing cells are None."""
    try:
        return [None if cell in _MISSING else float(cell) for cell in cells]
    except ValueError:
        return [None if cell in _MISSING else cell for cell in cells]


def _take(columns: Mapping[str, Column], rows: NDArray[np.int64]) -> dict[str, Column]:
    return {name: [column[row] for row in rows] for name, column in columns.items()}


def _read_answers(said: object, count: int, metric: Metric, names: list[str]) -> Numbers:
    if not metric.classes or metric.probabilities:
        answers = as_floats(said, (count,), where="predict", magnitude=1e15)
        if metric.probabilities and not ((answers >= 0.0) & (answers <= 1.0)).all():
            raise Infeasible("predict: expected probabilities from 0 to 1")
        return answers
    if type(said) not in {list, tuple, np.ndarray} or len(said) != count:  # type: ignore[arg-type]
        raise Infeasible(f"predict: expected {count} labels, got a {type(said).__name__}")
    # A label that does not occur is wrong, not an error.
    places = {name: float(place) for place, name in enumerate(names)}
    return np.array([places.get(_label(item), -1.0) for item in said])  # type: ignore[attr-defined]


def _encode(truth: list[Any], names: list[str]) -> Numbers:
    if not names:
        return np.array([float(value) for value in truth])
    places = {name: float(place) for place, name in enumerate(names)}
    return np.array([places[str(value)] for value in truth])


def _label(item: Any) -> str:
    if isinstance(item, bool):
        return str(item)
    return str(float(item)) if isinstance(item, int | float | np.number) else str(item)


def _show(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _rmse(truth: Numbers, answers: Numbers) -> float:
    return float(np.sqrt(np.mean((truth - answers) ** 2)))


def _rmsle(truth: Numbers, answers: Numbers) -> float:
    if (answers <= -1.0).any():
        raise Infeasible("predict: expected numbers above -1, of which the logarithm is taken")
    return _rmse(np.log1p(truth), np.log1p(answers))


def _mae(truth: Numbers, answers: Numbers) -> float:
    return float(np.mean(np.abs(truth - answers)))


def _r2(truth: Numbers, answers: Numbers) -> float:
    return float(1.0 - np.sum((truth - answers) ** 2) / np.sum((truth - truth.mean()) ** 2))


def _accuracy(truth: Numbers, answers: Numbers) -> float:
    return float(np.mean(truth == answers))


def _auc(truth: Numbers, answers: Numbers) -> float:
    """Returns the share of pairs in the right order; a tie counts half."""
    positive, negative = answers[truth == 1.0], np.sort(answers[truth == 0.0])
    below = np.searchsorted(negative, positive, "left")
    upto = np.searchsorted(negative, positive, "right")
    return float((below + upto).sum() / (2.0 * len(positive) * len(negative)))


def _log_loss(truth: Numbers, answers: Numbers) -> float:
    kept = np.clip(answers, 1e-15, 1.0 - 1e-15)
    return float(-np.mean(truth * np.log(kept) + (1.0 - truth) * np.log1p(-kept)))


def _f1(truth: Numbers, answers: Numbers) -> float:
    hits = float(np.sum((truth == 1.0) & (answers == 1.0)))
    return 2.0 * hits / max(float(np.sum(truth == 1.0) + np.sum(answers == 1.0)), 1.0)


def _kappa(truth: Numbers, answers: Numbers) -> float:
    """Returns the agreement beyond chance, weighted by the square of the distance."""
    apart = np.sum((truth - answers) ** 2)
    by_chance = np.mean((truth[:, None] - answers[None, :]) ** 2) * len(truth)
    return float(1.0 - apart / by_chance) if by_chance else 1.0


METRICS = {
    "rmse": Metric(_rmse, maximize=False),
    "rmsle": Metric(_rmsle, maximize=False),
    "mae": Metric(_mae, maximize=False),
    "r2": Metric(_r2, maximize=True),
    "accuracy": Metric(_accuracy, maximize=True, classes=True),
    "auc": Metric(_auc, maximize=True, probabilities=True, classes=True),
    "log_loss": Metric(_log_loss, maximize=False, probabilities=True, classes=True),
    "f1": Metric(_f1, maximize=True, classes=True),
    "quadratic_weighted_kappa": Metric(_kappa, maximize=True, classes=True),
}
