import pytest

from evolve.errors import UsageError
from evolve.settings.sections import Candidate, ModelSettings, parse_candidate


@pytest.mark.parametrize(
    ("text", "candidate"),
    [
        ("openai/a", Candidate("openai/a")),
        ("2*openai/a", Candidate("openai/a", 2.0)),
        (" .5 * cmd:ask --n=3*4 ", Candidate("cmd:ask --n=3*4", 0.5)),
        ("4o-mini", Candidate("4o-mini")),
    ],
)
def test_a_weight_stands_before_the_name(text, candidate):
    assert parse_candidate(text) == candidate


@pytest.mark.parametrize("text", ["", "2*", "0*openai/a"])
def test_a_name_is_needed_and_a_weight_above_0(text):
    with pytest.raises(UsageError, match="expected a name such as"):
        parse_candidate(text)


def test_roles_fall_back_on_the_model_of_all_and_leaps_on_the_editor():
    roster = ModelSettings(model=("a",), planner=("b", "3*c")).roster()
    assert roster["planner"] == (Candidate("b"), Candidate("c", 3.0))
    assert roster["editor"] == roster["summarizer"] == roster["leap"] == (Candidate("a"),)
    assert ModelSettings().roster() == {}


def test_a_role_without_a_model_and_a_model_twice_are_refused():
    with pytest.raises(UsageError, match="got none for: planner, summarizer"):
        ModelSettings(editor=("a",)).roster()
    with pytest.raises(UsageError, match="planner: expected different models, got a, a"):
        ModelSettings(model=("a", "2*a")).roster()


def test_a_roster_is_described_by_role_only_where_roles_differ():
    assert ModelSettings(model=("a", "2*b")).describe() == "a, 2*b"
    text = ModelSettings(model=("a",), editor=("b",)).describe()
    assert text == "planner: a; editor: b; summarizer: a; leap: b"
