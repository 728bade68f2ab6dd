import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.problem import load_problem
from evolve.records import Program, Rejected, SourceFile
from evolve.steps.execute import UNNAMED, read_fields, read_reply
from tests.builders import make_digest

EDIT = "<<<<<<< SEARCH\n    first = {}\n=======\n    first = {}\n>>>>>>> REPLACE"
HEAD = """Base: 1.0.0
Change: halve the first number,
and keep the second
Why: it overshoots
Tags: Constants, scale
Lessons: [2.1]

"""


def read(problem, text, **options):
    return read_reply(make_digest(problem), text, **options)


def test_a_reply_names_its_base_and_its_change(problem):
    base, plan, made = read(load_problem(problem), HEAD + EDIT.format(2.5, 1.25))
    assert (str(base.key), plan.base) == ("1.0.0", "1.0.0")
    assert plan.change == "halve the first number,\nand keep the second"
    assert plan.hypothesis == "it overshoots"
    assert plan.tags == ("constants", "scale")
    assert plan.lessons == ("2.1",)
    assert "first = 1.25" in made.entry.text


@pytest.mark.parametrize(
    "head",
    [
        "**Base:** `1.0.0`\n**Change:** halve it\n",
        "- Base: program 1.0.0\n- Change: halve it\n",
        "## Base: 1.0.0\n## Plan: halve it\n",
        '{"base": "1.0.0", "change": "halve it", "tags": ["a"], "expect": -7}\n',
        '```json\n{"base": "1.0.0", "change": "halve it"}\n```\n',
    ],
)
def test_fields_are_read_in_the_dress_that_models_give_them(problem, head):
    base, plan, made = read(load_problem(problem), head + "\n" + EDIT.format(2.5, 1.25))
    assert plan.change == "halve it"
    assert str(base.key) == "1.0.0"
    assert isinstance(made, Program)


def test_edits_without_a_base_go_to_the_program_that_they_fit(problem):
    base, _, made = read(load_problem(problem), EDIT.format(2.5, 1.25))
    assert str(base.key) == "1.0.0"
    assert "first = 1.25" in made.entry.text


def test_a_whole_program_without_a_base_counts_as_a_change_of_the_one_it_resembles(problem):
    found = load_problem(problem)
    text = found.initial.entry.text.replace(
        "    return", "    for step in (0.1, 0.2, 0.3):\n        first += step\n    return"
    )
    first, second = make_digest(found).programs
    other = dataclasses.replace(second, program=Program((SourceFile("initial.py", text),)))
    base, plan, made = read_reply(
        make_digest(found, programs=(first, other)),
        f"Halve it.\n\n```python\n{text.replace('0.3', '0.15')}```",
    )
    assert base == other
    assert plan.change == "Halve it."
    assert "0.15" in made.entry.text


def test_an_unknown_base_is_ignored(problem):
    base, _, made = read(load_problem(problem), "Base: 9.9.9\n\n" + EDIT.format(3.5, 3.0))
    assert str(base.key) == "2.1.0"
    assert isinstance(made, Program)


def test_what_cannot_be_applied_is_a_rejection_on_the_champion(problem):
    base, plan, made = read(load_problem(problem), "I would rather not.")
    assert str(base.key) == "2.1.0"
    assert isinstance(made, Rejected)
    assert plan.change == "I would rather not."


def test_code_alone_has_a_plan_without_words(problem):
    _, plan, made = read(load_problem(problem), EDIT.format(3.5, 3.0))
    assert plan.change == UNNAMED
    assert isinstance(made, Program)


def test_fields_inside_of_code_are_code():
    text = "Change: halve it\n```python\nBase: 1.0.0\nChange: no\n```"
    assert read_fields(text) == {"change": "halve it"}


@given(st.text())
def test_any_reply_is_read(text):
    assert isinstance(read_fields(text).get("change", ""), str)
