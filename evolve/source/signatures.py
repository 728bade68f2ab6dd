"""MinHash signatures of source, which estimate how much of it two programs share."""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from evolve.records import Program
from evolve.source.blocks import evolvable_text
from evolve.source.normal_form import TOKEN

_SHINGLE = 3
_HASHES = 64


def sign_source(program: Program) -> NDArray[np.uint32]:
    """Returns the smallest hashes of the runs of three tokens in a program's evolvable text.

    Broder 1997, On the resemblance and containment of documents.

    Returns:
        Shape `(64,)`.
    """
    tokens: list[str] = []
    for file in program.files:
        tokens += TOKEN.findall(evolvable_text(file.text))
    count = max(len(tokens) - _SHINGLE + 1, 1)
    shingles = {" ".join(tokens[start : start + _SHINGLE]) for start in range(count)}
    hashes = np.fromiter((zlib.crc32(text.encode()) for text in shingles), np.uint32)
    multipliers, offsets = _hash_functions()
    mixed = hashes[:, None] * multipliers + offsets
    smallest: NDArray[np.uint32] = (mixed ^ (mixed >> np.uint32(15))).min(axis=0)
    return smallest


def share_in_common(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Estimates the share of runs of tokens that two programs have in common, from 0 to 1."""
    return np.count_nonzero(one == other) / _HASHES


@cache
def _hash_functions() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Returns odd multipliers and offsets modulo 2^32; any would do."""
    numbers = np.arange(1, _HASHES + 1, dtype=np.uint32)
    return numbers * np.uint32(2_654_435_769) | np.uint32(1), numbers * np.uint32(40_503)
