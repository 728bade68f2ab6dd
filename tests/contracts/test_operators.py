"""What every operator keeps to, in any language."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolve.operators.changes import OPERATORS, apply_operator
from evolve.records import Program, Rejected, SourceFile
from evolve.source.analysis import fingerprint
from evolve.source.parsing import find_blocks, parse_python
from tests.builders import C, make_program

ROOT = Path(__file__).parents[2]
RICH = '''"""Umlauts, ä and ö, and tabs: columns are bytes there."""
import math
KEPT = [1, 2, 3]  # EVOLVE is only a word here
# EVOLVE-BLOCK-START of what may change
SIZES = [0.1, 0.25, -3]


def helper(x, scale=2.0):
    """Says ä."""
    if x > 0 and scale <= 3:
        return min(x * scale, 1e3)
    return -x


def solve(count: int = 4):
    total, name = 0.0, "ä"; total += 1
    for i in range(1, count):
        for j, size in enumerate(SIZES):
            text = f"ä {i * 2} {size}"
            total = total + math.sin(i * 0.5) * size - len(text) ** 2
        if i % 2 == 0: continue
        total -= helper(total)
    while total > 100:
        total /= 2
    return total
# EVOLVE-BLOCK-END
def fixed(x):
    return x + 1
'''
FIND_A_PLACE = {
    *("tune_constant", "nudge_constant", "tune_several", "nudge_several", "tune_all", "nudge_all"),
    *("jump_constant", "step_constant", "flip_sign", "follow_difference", "mix_constants"),
    "change_operator",
}


def outside(text: str) -> list[str]:
    ends = [0, *(end for block in find_blocks(text) for end in (block.start, block.end)), len(text)]
    return [text[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True)]


def examples() -> list[Program]:
    folders = ("circle_packing", "online_bin_packing")
    texts = [(ROOT / "problems" / name / "initial.py").read_text() for name in folders]
    return [make_program(text) for text in (*texts, RICH, RICH.replace("\n", "\r\n"))]


def grow(parent: Program, seed: int, steps: int) -> Program:
    rng = np.random.default_rng(seed)
    names = tuple(OPERATORS)
    for _ in range(steps):
        child = apply_operator(names[int(rng.integers(len(names)))], parent, [parent], rng)
        parent = parent if isinstance(child, Rejected) else child
    return parent


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3), st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_every_operator_keeps_what_lies_outside_the_blocks(
    example: int, seed: int, steps: int
) -> None:
    parent = grow(examples()[example], seed, steps)
    mates = [grow(parent, seed + 1, 2), grow(parent, seed + 2, 1)]
    before = parent.entry.text
    for number, name in enumerate(OPERATORS):
        child = apply_operator(name, parent, mates, np.random.default_rng([seed, number]))
        if isinstance(child, Rejected):
            assert child.reason.startswith(name)
            continue
        text = child.entry.text
        assert outside(text) == outside(before)
        assert parse_python(text) is not None
        assert fingerprint(child) != fingerprint(parent)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_something_to_do_and_is_repeatable(name: str) -> None:
    parent = examples()[0]
    text = parent.entry.text
    mates = [
        make_program(text.replace("0.22", "0.3").replace("/ 2.0", "/ 2.5")),
        make_program(text.replace("0.22", "0.25").replace("8,", "9,")),
        make_program(text.replace("radius = outer_radius", "radius = outer_radius - margin")),
    ]
    children = [apply_operator(name, parent, mates, np.random.default_rng(s)) for s in range(6)]
    again = [apply_operator(name, parent, mates, np.random.default_rng(s)) for s in range(6)]
    assert children == again
    if name == "change_range":
        assert len({str(child) for child in children}) > 1
    assert any(isinstance(child, Program) for child in children)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_change_only_the_blocks_of_any_language(name: str) -> None:
    parent = Program((SourceFile("main.c", C), SourceFile("notes.txt", "no number")))
    mate = Program((SourceFile("main.c", C.replace("64", "65").replace("0.25", "0.5")),))
    block = find_blocks(C)[0]
    made = 0
    for seed in range(10):
        child = apply_operator(name, parent, [mate], np.random.default_rng(seed))
        if isinstance(child, Program):
            made += 1
            text = child.files[0].text
            assert text.startswith(C[: block.start])
            assert text.endswith(C[block.end :])
            assert text != C
    assert made or name not in FIND_A_PLACE
