from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.operators.knobs import Knob, Range, find_knobs, hash_skeleton, turn_knobs
from evolve.records import Program, SourceFile

PYTHON = """size, count = 0.3, 8
# EVOLVE-BLOCK-START
margin, turns = 0.01, 3
def area(x, scale=-2.0):
    return 0.5 * x - (-1.5) + scale * 2.0 + 0.125 * x
# EVOLVE-BLOCK-END
"""


def program(text: str, path: str = "initial.py") -> Program:
    return Program((SourceFile(path, text),))


def values(text: str, path: str = "initial.py") -> list[float]:
    return [knob.value for knob in find_knobs(program(text, path), 64)]


def test_without_marks_the_evolvable_constants_that_are_no_formula_are_found() -> None:
    assert values(PYTHON) == [0.01, -2.0, -1.5, 0.125]


def test_no_more_constants_are_given_than_asked_for() -> None:
    assert len(find_knobs(program(PYTHON), 2)) == 2


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a.py", "x = 2.5  # tune: 0.1 .. 10 log"),
        ("a.c", "double x = 2.5; // tune: 0.1..10 log"),
        ("a.c", "double x = 2.5; /* tune: 0.1 .. 1e1 log */"),
        ("a.sql", "SET x = 2.5; -- tune: .1 .. 10 log"),
        ("a.lisp", "(defvar x 2.5) ; tune: 0.1 .. 10 log"),
        ("a.m", "% tune: 0.1 .. 10 log\nx = 2.5"),
    ],
)
def test_a_mark_in_any_comment_syntax_names_a_constant_and_its_range(path: str, line: str) -> None:
    (knob,) = find_knobs(program(f"y1 = 4.5\n{line}\n", path), 64)
    assert (knob.value, knob.range) == (2.5, Range(0.1, 10.0, is_log=True))


def test_several_ranges_belong_to_the_constants_of_the_line_in_order() -> None:
    knobs = find_knobs(program("x = f(0.5, 7, 3.0)  # tune: 0 .. 1, 1 .. 9\n"), 64)
    assert [(knob.value, knob.is_whole) for knob in knobs] == [(0.5, False), (7, True)]


def test_marks_outside_the_blocks_and_ranges_that_are_none_count_for_nothing() -> None:
    text = "a = 0.7 # tune: 0 .. 1\n# EVOLVE-BLOCK-START\nb = 0.3 # tune: 1 .. 0\n"
    assert values(text + "# EVOLVE-BLOCK-END\n") == [0.3]


def test_a_sign_that_may_be_an_operator_stays() -> None:
    parent = program("y = x -2.0  # tune: 1 .. 3\n")
    knobs = find_knobs(parent, 64)
    assert turn_knobs(parent, knobs, [1.0]).entry.text == "y = x -3.0  # tune: 1 .. 3\n"


def test_turned_constants_stay_in_their_ranges_and_the_rest_of_the_text_as_it_was() -> None:
    parent = program(PYTHON)
    child = turn_knobs(parent, find_knobs(parent, 64), [1.0, 2.0, 0.0, -20.0])
    assert child.entry.text == PYTHON.replace("0.01,", "0.11,").replace("-2.0", "2.0").replace(
        "0.125", "(-2.375)"
    )


def test_programs_that_differ_in_constants_only_have_one_skeleton() -> None:
    parent = program(PYTHON)
    knobs = find_knobs(parent, 64)
    child = turn_knobs(parent, knobs, [0.3, 1.0, 0.5, 1.7])
    assert hash_skeleton(child, find_knobs(child, 64)) == hash_skeleton(parent, knobs)
    other = program(PYTHON.replace("turns", "turn"))
    assert hash_skeleton(other, find_knobs(other, 64)) != hash_skeleton(parent, knobs)


@given(
    st.floats(1e-6, 1e6),
    st.floats(1e-3, 1e6),
    st.floats(0.0, 1.0),
    st.booleans(),
)
def test_coordinates_and_values_are_each_others_inverse(
    low: float, width: float, share: float, is_log: bool
) -> None:
    knob = Knob(0, 0, 1, low + share * width, range=Range(low, low + width, is_log))
    assert 0.0 <= knob.position <= 1.0
    assert knob.value_at(knob.position) == pytest.approx(knob.value, rel=1e-6)
    assert low <= knob.value_at(share * 3 - 1) <= low + width
