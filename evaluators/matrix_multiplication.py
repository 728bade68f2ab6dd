"""Scores bilinear algorithms for matrix multiplication by their number of multiplications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_FACTOR = 64.0
_NAMES = ("left", "right", "out")


def evaluate(program: ProgramHandle, *, rows: int, inner: int, columns: int) -> Score:
    """Scores `decompose(rows, inner, columns)`, which returns the three factors of each product."""
    sizes = (rows * inner, inner * columns, rows * columns)
    factors = read_factors(program.call("decompose", rows, inner, columns), sizes)
    check_product(factors, rows, inner, columns)
    entries = np.concatenate([factor.ravel() for factor in factors])
    used = [np.count_nonzero(factor) for factor in factors]
    rank = len(factors[0])
    return Score(
        float(rank),
        metrics={"additions": float(used[0] + used[1] + used[2] - 2 * rank - sizes[2])},
        measures={
            "density": float(np.mean(entries != 0)),
            "left_share": used[0] / sum(used),
        },
        artifacts={"products": _describe(factors)},
    )


def read_factors(reply: object, sizes: tuple[int, int, int]) -> list[NDArray[np.int64]]:
    """Checks the reply and gives twice the factors, as whole numbers.

    Raises:
        Infeasible: The reply has another form, or a factor is no multiple of 1/2.
    """
    if type(reply) not in {list, tuple} or len(reply) != 3:  # type: ignore[arg-type]
        raise Infeasible("decompose: expected three matrices `left, right, out`")
    factors = []
    for name, matrix, size in zip(_NAMES, reply, sizes, strict=True):  # type: ignore[call-overload]
        where = f"decompose: {name}"
        doubled = 2.0 * as_floats(matrix, (None, size), where=where, magnitude=MAX_FACTOR)
        if not np.array_equal(doubled, np.rint(doubled)):
            raise Infeasible(f"{where}: expected multiples of 1/2, got other numbers")
        factors.append(doubled.astype(np.int64))
    most = 2 * max(sizes) * max(sizes)
    lengths = [len(factor) for factor in factors]
    if len(set(lengths)) > 1 or not 1 <= lengths[0] <= most:
        raise Infeasible(f"decompose: expected as many rows in each matrix, got {lengths}")
    return factors


def check_product(factors: list[NDArray[np.int64]], rows: int, inner: int, columns: int) -> None:
    """Checks that the sum of the products is the multiplication, in whole numbers.

    Raises:
        Infeasible: Some entry of the result would be wrong.
    """
    left, right, out = factors
    # At most 128 in size each, and few thousand of them: 64 bits hold all sums.
    found = np.einsum("ra,rb,rc->abc", left, right, out)
    wanted = np.zeros_like(found)
    for i in range(rows):
        for k in range(inner):
            for j in range(columns):
                wanted[i * inner + k, k * columns + j, i * columns + j] = 8
    wrong = np.argwhere(found != wanted)
    if len(wrong):
        a, b, c = (int(number) for number in wrong[0])
        raise Infeasible(
            f"decompose: {len(wrong)} of {found.size} coefficients are wrong; the first is that of "
            f"A[{a // inner}][{a % inner}] * B[{b // columns}][{b % columns}] in "
            f"C[{c // columns}][{c % columns}]: expected {wanted[a, b, c] / 8:g}, "
            f"got {found[a, b, c] / 8:g}"
        )


def _describe(factors: list[NDArray[np.int64]]) -> str:
    counts = np.stack([np.count_nonzero(factor, axis=1) for factor in factors], axis=1)
    return "\n".join(f"{a} x {b} -> {c}" for a, b, c in counts.tolist())
