"""Learning pipelines, checked and run stage by stage.

A program has a file for each stage. What a stage gave is kept in the evaluator's process under a
hash of the sources up to it and of the data: a program that changes only later stages pays for
those alone. Labels of the rows to predict stay here.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evolve.scoring import Infeasible, ProgramHandle, as_floats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

ENTRY = "workflow.py"
STAGES = ("load", "split", "features", "train", "ensemble")
_MOST_COLUMNS = 5_000
_MOST_MODELS = 20
_MOST_FOLDS = 10
_KEPT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """Rows to learn from and rows to predict.

    Attributes:
        known: Shape `(rows, columns)`.
        targets: One number for each known row; classes are whole numbers from 0 on.
        unknown: Shape `(other rows, columns)`.
        classes: How many there are; 0 where targets are quantities.
        name: Tells this table from all others.
    """

    known: NDArray[np.float64]
    targets: NDArray[np.float64]
    unknown: NDArray[np.float64]
    classes: int
    name: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a pipeline says.

    Attributes:
        unknown: For the rows to predict, shape `(other rows, width)`.
        folds: For each known row by models that did not learn from it, averaged over models, of
            the same width: the number of classes, or 1.
    """

    unknown: NDArray[np.float64]
    folds: NDArray[np.float64]


class _Kept:
    """Results of stages by key; those not used for longest are forgotten first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._results: OrderedDict[str, tuple[NDArray[Any], ...]] = OrderedDict()

    def find(self, key: str) -> tuple[NDArray[Any], ...] | None:
        if key in self._results:
            self._results.move_to_end(key)
        return self._results.get(key)

    def keep(self, key: str, arrays: tuple[NDArray[Any], ...]) -> None:
        self._results[key] = arrays
        self._bytes += sum(array.nbytes for array in arrays)
        while self._bytes > self._most_bytes:
            _, dropped = self._results.popitem(last=False)
            self._bytes -= sum(array.nbytes for array in dropped)


_KEPT = _Kept(_KEPT_BYTES)


def run_pipeline(program: ProgramHandle, table: Table) -> Predictions:
    """Runs the stages in order, each checked before the next.

    Raises:
        Infeasible: A stage gave something of another form; the message names it.
        ProgramError: A stage failed.
    """
    files, width = program.files, max(table.classes, 1)
    rows = (len(table.known), len(table.unknown))

    def pair(stage: str, *given: Any) -> tuple[NDArray[Any], ...]:
        return _read_pair(program.call(stage, *given), rows, stage)

    known, unknown = _reuse(
        files, "load", table.name, lambda: pair("load", table.known, table.unknown)
    )
    (folds,) = _reuse(
        files,
        "split",
        table.name,
        lambda: (_read_folds(program.call("split", table.targets), rows),),
    )
    known, unknown = _reuse(
        files, "features", table.name, lambda: pair("features", known, table.targets, unknown)
    )
    held, final = _reuse(
        files,
        "train",
        table.name,
        lambda: _train(program, table, known, unknown, folds),
    )
    said = program.call("ensemble", held, table.targets, final)
    shape = (rows[1], width)
    return Predictions(as_floats(said, shape, where="ensemble"), held.mean(axis=0))


def _reuse(
    files: Mapping[str, str],
    stage: str,
    name: str,
    run: Callable[[], tuple[NDArray[Any], ...]],
) -> tuple[NDArray[Any], ...]:
    """Returns what a stage gives for these sources, without running it twice."""
    before = {f"{other}.py" for other in STAGES[STAGES.index(stage) + 1 :]}
    digest = hashlib.sha256(repr((stage, name)).encode())
    for path, text in sorted(files.items()):
        # Files of later stages cannot have had a part in it.
        if path not in before:
            digest.update(repr((path, text)).encode())
    key = digest.hexdigest()
    known = _KEPT.find(key)
    if known is None:
        known = run()
        _KEPT.keep(key, known)
    return tuple(array.copy() for array in known)


def _train(
    program: ProgramHandle,
    table: Table,
    known: NDArray[Any],
    unknown: NDArray[Any],
    folds: NDArray[Any],
) -> tuple[NDArray[Any], ...]:
    targets, width = table.targets, max(table.classes, 1)
    held: NDArray[Any] | None = None
    for fold in np.unique(folds):
        inside, outside = folds != fold, folds == fold
        said = program.call("train", known[inside], targets[inside], known[outside])
        answers = _read_models(said, int(outside.sum()), width)
        if held is None:
            held = np.zeros((len(answers), len(known), width))
        if len(answers) != len(held):
            raise Infeasible(f"train: expected {len(held)} models in all folds, got {len(answers)}")
        held[:, outside] = answers
    final = _read_models(program.call("train", known, targets, unknown), len(unknown), width)
    if held is None or len(final) != len(held):
        raise Infeasible("train: expected as many models for all rows as in the folds")
    return held, final


def _read_pair(said: object, rows: tuple[int, int], stage: str) -> tuple[NDArray[Any], ...]:
    if type(said) not in {tuple, list} or len(said) != 2:  # type: ignore[arg-type]
        raise Infeasible(f"{stage}: expected two tables, got a {type(said).__name__}")
    first, second = said  # type: ignore[misc]
    known = as_floats(first, (rows[0], None), where=f"{stage}[0]", magnitude=1e12)
    unknown = as_floats(second, (rows[1], None), where=f"{stage}[1]", magnitude=1e12)
    if known.shape[1] != unknown.shape[1] or not 1 <= known.shape[1] <= _MOST_COLUMNS:
        raise Infeasible(
            f"{stage}: expected the same number of columns, from 1 to {_MOST_COLUMNS}, in both "
            f"tables; got {known.shape[1]} and {unknown.shape[1]}"
        )
    return known, unknown


def _read_folds(said: object, rows: tuple[int, int]) -> NDArray[Any]:
    folds = as_floats(said, (rows[0],), where="split")
    names = np.unique(folds)
    if not 2 <= len(names) <= _MOST_FOLDS:
        raise Infeasible(f"split: expected 2 to {_MOST_FOLDS} folds, got {len(names)}")
    return folds


def _read_models(said: object, rows: int, width: int) -> NDArray[Any]:
    models = as_floats(said, (None, rows, width), where="train")
    if not 1 <= len(models) <= _MOST_MODELS:
        raise Infeasible(f"train: expected 1 to {_MOST_MODELS} models, got {len(models)}")
    return models
