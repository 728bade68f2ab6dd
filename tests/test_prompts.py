import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.errors import ProblemError
from evolve.problem import load_problem
from evolve.problem.files import PROMPTS
from evolve.records import (
    INITIAL,
    Ancestor,
    Attempt,
    Evaluation,
    Plan,
    Program,
    Rejected,
    Selection,
    SourceFile,
    Status,
    Summary,
)
from evolve.steps import prompt
from evolve.steps.blocks import fence
from evolve.steps.parse import as_number, as_tags, complete_object, find_object
from evolve.steps.plan import parse_plans
from evolve.steps.summarize import parse_summary


@given(st.text())
def test_no_text_can_close_its_fence(text):
    fenced = fence(text)
    marks = fenced.partition("\n")[0]
    lines = fenced.split("\n")
    assert len(marks) >= 3
    assert set(marks) == {"`"}
    assert lines[-1] == marks
    assert not any(line.strip().startswith(marks) for line in lines[1:-1])


def test_a_problem_can_bring_its_own_template(problem):
    (problem / "prompts").mkdir()
    (problem / "prompts" / "repair.md").write_text("Mend it: {{failure}}")
    messages = prompt.fill_template("repair", problem, {"failure": "f", "detail": ""})
    assert [(message.role, message.text) for message in messages] == [("user", "Mend it: f")]


def test_an_unknown_value_in_a_template_is_an_error(problem):
    (problem / "prompts").mkdir()
    (problem / "prompts" / "plan.md").write_text("{{statment}}")
    with pytest.raises(ProblemError, match=r"unknown value `\{\{statment\}\}`; there are: statem"):
        prompt.fill_template("plan", problem, {"statement": "s"})


def test_a_template_that_no_step_looks_for_is_an_error(problem):
    (problem / "prompts").mkdir()
    (problem / "prompts" / "planner.md").write_text("{{statement}}")
    with pytest.raises(
        ProblemError, match=r"planner\.md: expected one of plan\.md, .*, got a file"
    ):
        load_problem(problem)


@pytest.mark.parametrize("name", PROMPTS)
def test_every_template_of_the_package_can_be_read(name, tmp_path):
    with pytest.raises(ProblemError, match="unknown value"):
        prompt.fill_template(name, tmp_path, {})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure!\n```json\n{"a": {"b": [1]}}\n```\nthanks', {"a": {"b": [1]}}),
        ('{broken {"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ("no object {} here", None),
        ("{" * 100_000, None),
        ("", None),
    ],
)
def test_the_first_object_in_a_reply_is_found(text, found):
    assert find_object(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": "half of a sen', {"a": "half of a sen"}),
        ('{"a": 1, "b": "x, y", "tags": ["one", "tw', {"a": 1, "b": "x, y", "tags": ["one", "tw"]}),
        ('Sure: {"a": "x \\"y\\" \\', {"a": 'x "y" \\'}),
        ('{"a": "x \\\\', {"a": "x \\"}),
        ('{"a": 1, "risk', {"a": 1}),
        ('{"a": 1, "risk": ', {"a": 1}),
        ('{"a', None),
        ("{x for x in y}", None),
        ("{" * 100_000, None),
        ("nothing", None),
    ],
)
def test_of_an_object_that_was_cut_off_there_is_what_was_written(text, found):
    assert complete_object(text) == found


@given(st.dictionaries(st.text(), st.text() | st.lists(st.integers()), min_size=1), st.data())
def test_an_object_cut_anywhere_gives_only_keys_that_it_has(whole, data):
    text = json.dumps(whole)
    found = complete_object(text[: data.draw(st.integers(1, len(text)))])
    assert found is None or set(found) <= set(whole)


def test_a_plan_that_was_cut_off_after_its_change_is_followed():
    assert parse_plans('{"hypothesis": "h", "change": "c", "ri') == [Plan("c", "h")]


@given(st.text())
def test_any_reply_gives_a_plan_or_a_rejection(text):
    plans = parse_plans(text)
    assert isinstance(plans, Rejected) or all(plan.change for plan in plans)


def test_a_plan_is_read_from_its_object():
    text = '{"change": "c", "hypothesis": "h", "predicted_gain": "+0.5", "tags": "A, b,,a"}'
    assert parse_plans(text) == [Plan("c", "h", 0.5, "", ("a", "b"))]


@pytest.mark.parametrize(
    "text",
    [
        '{"plans": [{"change": "one"}, {"change": "two", "predicted_gain": 2}, {"risk": "r"}]}',
        'First {"change": "one"} and then {"change": "two", "predicted_gain": "2"}.',
    ],
)
def test_several_plans_are_read_however_they_are_listed(text):
    assert parse_plans(text) == [Plan("one"), Plan("two", predicted_gain=2.0)]


@pytest.mark.parametrize("value", [True, None, "much", float("inf"), [1], "9" * 400])
def test_what_is_no_finite_number_is_none(value):
    assert as_number(value) is None


def test_tags_are_few_and_short():
    assert as_tags(["X"] * 9 + [3, "y" * 99]) == ("x", "y" * 40)
    assert as_tags({"no": "list"}) == ()


def test_what_a_summary_does_not_say_is_taken_from_what_is_known():
    known = Summary("gained 1", "time")
    assert parse_summary("I think it went well", known) == known
    reply = '{"verdict": "v", "cause": "magic", "lesson": "l", "evidence": "e", "next": "n"}'
    expected = Summary("v", "time", "l", (), "e", "n")
    assert parse_summary(reply, known) == expected


def test_the_limits_and_the_editable_part_are_told(problem):
    found = load_problem(problem)
    assert "2 seconds" in prompt.common_values(found)["limits"]
    assert "Only the lines between" in prompt.show_editable(found.initial)


def test_inspirations_show_their_source(problem):
    found = load_problem(problem)
    attempt = Attempt(INITIAL, 0, None, 0, None, found.initial, Evaluation(Status.OK, 1.0))
    selection = Selection(Ancestor(attempt), (Ancestor(attempt),))
    assert "def point()" in prompt.inspirations_block(selection.inspirations).text
    assert prompt.inspirations_block(()).text == ""


def test_of_several_files_those_with_bounds_are_named():
    bounded = "# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\n"
    files = SourceFile("a.py", bounded), SourceFile("lib/b.c", "int y;")
    told = prompt.show_editable(Program(files))
    assert told.startswith("Of `a.py` only the lines between")
    assert told.endswith("of the other files everything.")
    assert prompt.show_editable(Program(files[1:])) == "All of the program may change."
