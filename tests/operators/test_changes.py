from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.credit import Credit
from evolve.operators.changes import (
    MAX_CHARACTERS,
    OPERATORS,
    apply_operator,
    choose_operator,
    operator_chances,
)
from evolve.operators.syntax import Syntax, format_number, read_syntax
from evolve.records import Program, Rejected, SourceFile
from tests.builders import make_program


def test_an_unknown_operator_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        apply_operator("nonsense", make_program("x = 1"), [], np.random.default_rng(0))


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
    child = apply_operator("nudge_constant", make_program(text), [], np.random.default_rng(0))
    assert isinstance(child, Rejected)
    assert child.reason.startswith(reason)


def test_programs_do_not_grow_without_bound() -> None:
    parent = make_program("x = 1.5\n" + "#" * (MAX_CHARACTERS - 10) + "\n")
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


TEXT = "a, b = 0.5, -2.0\nn = 8\nf = lambda x: x - 3.0\ns = 'no 1.0'\nt = True\n"


def syntax(text: str) -> Syntax:
    found = read_syntax("a.py", text)
    assert found is not None
    return found


def values(text: str) -> list[float]:
    return [number.value for number in syntax(text).numbers]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_numbers_come_with_their_sign_and_no_booleans_or_texts() -> None:
    assert values(TEXT) == [0.5, -2.0, 8, 3.0]


def test_programs_that_differ_in_numbers_only_have_one_skeleton() -> None:
    other = syntax(TEXT.replace("0.5", "-77.25").replace("8", "11"))
    assert other.skeleton == syntax(TEXT).skeleton
    assert syntax(TEXT.replace("8", "8.0")).skeleton != syntax(TEXT).skeleton
    assert syntax(TEXT.replace("x -", "x +")).skeleton != syntax(TEXT).skeleton


def test_jumps_reach_other_orders_of_size_but_make_no_loop_a_thousand_times_longer() -> None:
    jumps = [OPERATORS["jump_constant"](syntax(TEXT), [], rng(seed)) or TEXT for seed in range(400)]
    found = np.abs([values(text) for text in jumps])
    assert found[:, 0].max() > 100.0
    assert found[:, 0].min() < 0.005
    assert 16 < found[:, 2].max() < 800


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("nudge_constant", 1, 1),
        ("jump_constant", 0, 1),
        ("jump_several", 0, 4),
        ("step_constant", 1, 1),
        ("flip_sign", 1, 1),
        ("nudge_several", 2, 4),
        ("nudge_all", 3, 3),
    ],
)
def test_each_operator_changes_so_many_numbers_and_keeps_their_kind(
    name: str, low: int, high: int
) -> None:
    before = values(TEXT)
    for seed in range(40):
        text = OPERATORS[name](syntax(TEXT), [], rng(seed))
        assert text is not None
        after = values(text)
        assert [type(value) for value in after] == [type(value) for value in before]
        assert syntax(text).skeleton == syntax(TEXT).skeleton
        changed = sum(new != old for new, old in zip(after, before, strict=True))
        assert low <= changed <= high


def test_named_constants_are_drawn_more_often() -> None:
    counts = [0, 0]
    text = "a = 0.5\nb = f(x - 1.0)\n"
    for seed in range(200):
        new = OPERATORS["nudge_constant"](syntax(text), [], rng(seed))
        assert new is not None
        counts["1.0" in new] += 1
    assert counts[1] > 2 * counts[0] > 0


def test_steps_of_whole_numbers_are_small() -> None:
    found = {
        values(str(OPERATORS["step_constant"](syntax("n = 8\n"), [], rng(s))))[0] for s in range(60)
    }
    assert {6, 7, 9, 10} <= found
    assert OPERATORS["step_constant"](syntax("n = 8.0\n"), [], rng()) is None


def test_a_minus_sign_in_a_formula_gets_parentheses() -> None:
    assert OPERATORS["flip_sign"](syntax("y = x ** 2\n"), [], rng()) == "y = x ** (-2)\n"
    assert OPERATORS["flip_sign"](syntax("y = -2\n"), [], rng()) == "y = 2\n"
    assert OPERATORS["flip_sign"](syntax("y = 0\n"), [], rng()) is None


def test_differences_of_two_mates_are_followed() -> None:
    parent, first, second = (syntax(f"a, b = {a}, 7.0\n") for a in (1.0, 3.0, 2.0))
    moved = set()
    for seed in range(30):
        text = OPERATORS["follow_difference"](parent, [first, second], rng(seed))
        if text is not None:
            a, b = values(text)
            assert b == 7.0
            assert 0.2 <= abs(a - 1.0) <= 1.2
            moved.add(a > 1.0)
    assert moved == {True, False}


def test_one_mate_gives_a_step_on_the_line_through_it() -> None:
    parent, mate = syntax("a, b = 1.0, 7.0\n"), syntax("a, b = 2.0, 9.0\n")
    steps = [OPERATORS["follow_difference"](parent, [mate], rng(seed)) for seed in range(30)]
    pairs = [values(text) for text in steps if text is not None]
    both = [(a - 1.0, b - 7.0) for a, b in pairs if a != 1.0 and b != 7.0]
    assert both
    assert all(db == pytest.approx(2.0 * da) for da, db in both)


def test_mixing_takes_numbers_from_the_mate() -> None:
    parent, mate = syntax("a, b = 1.0, 7.0\n"), syntax("a, b = 2.0, 9.0\n")
    mixed = {OPERATORS["mix_constants"](parent, [mate], rng(seed)) for seed in range(30)}
    texts = {text for text in mixed if text is not None}
    assert texts == {"a, b = 2.0, 7.0\n", "a, b = 1.0, 9.0\n", "a, b = 2.0, 9.0\n"}


def test_mates_of_another_structure_cannot_be_mixed() -> None:
    parent, mate = syntax("a = 1.0\n"), syntax("a = 1.0 + x\n")
    for name in ("mix_constants", "follow_difference"):
        assert OPERATORS[name](parent, [mate, parent], rng()) is None
        assert OPERATORS[name](parent, [], rng()) is None


@given(st.floats(allow_nan=False), st.integers(-(10**30), 10**30))
def test_written_numbers_are_read_back(value: float, whole: int) -> None:
    assert eval(format_number(whole)) == whole
    read = eval(format_number(value))
    assert type(read) is float
    assert read == pytest.approx(min(max(value, -1e12), 1e12), rel=1e-9, abs=1e-300)
