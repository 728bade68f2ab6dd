from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolve.archive.credit import Credit
from evolve.operators import OPERATORS, apply_operator, choose_operator, operator_chances
from evolve.operators.catalog import MAX_CHARACTERS
from evolve.records import Program, Rejected, SourceFile
from evolve.source import find_blocks, fingerprint, parse_python

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


def program(text: str) -> Program:
    return Program((SourceFile("initial.py", text),))


def outside(text: str) -> list[str]:
    ends = [0, *(end for block in find_blocks(text) for end in (block.start, block.end)), len(text)]
    return [text[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True)]


def examples() -> list[Program]:
    folders = ("circle_packing", "online_bin_packing")
    texts = [(ROOT / "problems" / name / "initial.py").read_text() for name in folders]
    return [program(text) for text in (*texts, RICH, RICH.replace("\n", "\r\n"))]


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
        program(text.replace("0.22", "0.3").replace("/ 2.0", "/ 2.5")),
        program(text.replace("0.22", "0.25").replace("8,", "9,")),
        program(text.replace("radius = outer_radius", "radius = outer_radius - margin")),
    ]
    children = [apply_operator(name, parent, mates, np.random.default_rng(s)) for s in range(6)]
    again = [apply_operator(name, parent, mates, np.random.default_rng(s)) for s in range(6)]
    assert children == again
    if name == "change_range":
        assert len({str(child) for child in children}) > 1
    assert any(isinstance(child, Program) for child in children)


def test_an_unknown_operator_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        apply_operator("nonsense", program("x = 1"), [], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(:", "nudge_constant: no file of the program can be read"),
        ("x = y\n", "nudge_constant: found no place in the evolvable code"),
        (
            "a = 1\n# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n",
            "nudge_constant: found no place in the evolvable code",
        ),
        ("a = 1\n# EVOLVE-BLOCK-START\n", "nudge_constant: no file of the program can be read"),
    ],
)
def test_a_program_without_a_place_is_rejected(text: str, reason: str) -> None:
    child = apply_operator("nudge_constant", program(text), [], np.random.default_rng(0))
    assert isinstance(child, Rejected)
    assert child.reason.startswith(reason)


def test_programs_do_not_grow_without_bound() -> None:
    parent = program("x = 1.5\n" + "#" * (MAX_CHARACTERS - 10) + "\n")
    child = apply_operator("scale_expression", parent, [], np.random.default_rng(0))
    assert isinstance(child, Rejected)
    assert "grew beyond" in child.reason


def test_every_file_of_a_program_may_change_one_at_a_time() -> None:
    parent = Program((SourceFile("a.py", "x = 0.5\n"), SourceFile("b.c", "int y = 3;")))
    changed = set()
    for seed in range(8):
        child = apply_operator("nudge_constant", parent, [parent], np.random.default_rng(seed))
        assert isinstance(child, Program)
        pairs = zip(child.files, parent.files, strict=True)
        changed.add(tuple(new.path for new, old in pairs if new != old))
    assert changed == {("a.py",), ("b.c",)}


def test_without_credit_all_operators_are_alike():
    chances = operator_chances(None)
    assert sum(chances.values()) == pytest.approx(1.0)
    assert len(set(chances.values())) == 1


def test_an_operator_that_pays_is_drawn_more_often_and_none_is_given_up():
    credit = Credit(decay=0.999, prior_uses=8.0, prior_rewards=0.4)
    for _ in range(50):
        credit.record("flip_sign", 1.0)
        credit.record("change_call", 0.0)
    chances = operator_chances(credit)
    assert chances["flip_sign"] > 0.3
    assert chances["change_call"] >= 0.2 / len(OPERATORS)
    drawn = [choose_operator(chances, np.random.default_rng(seed)) for seed in range(400)]
    assert drawn.count("flip_sign") / 400 == pytest.approx(chances["flip_sign"], abs=0.08)
