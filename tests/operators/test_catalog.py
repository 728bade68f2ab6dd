from __future__ import annotations

import numpy as np
import pytest

from evolve.archive.credit import Credit
from evolve.operators import OPERATORS, apply_operator, choose_operator, operator_chances
from evolve.operators.catalog import MAX_CHARACTERS
from evolve.records import Program, Rejected, SourceFile


def program(text: str) -> Program:
    return Program((SourceFile("initial.py", text),))


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
