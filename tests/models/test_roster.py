import pytest

from evolve.errors import UsageError
from evolve.models.roster import Candidate, describe_roster, make_roster, parse_candidate
from evolve.settings.models import ModelSettings


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
    roster = make_roster(ModelSettings(model=("a",), planner=("b", "3*c")))
    assert roster["planner"] == (Candidate("b"), Candidate("c", 3.0))
    assert roster["editor"] == roster["summarizer"] == roster["leap"] == (Candidate("a"),)
    assert make_roster(ModelSettings()) == {}


def test_a_role_without_a_model_and_a_model_twice_are_refused():
    with pytest.raises(UsageError, match="got none for: planner, summarizer"):
        make_roster(ModelSettings(editor=("a",)))
    with pytest.raises(UsageError, match="planner: expected different models, got a, a"):
        make_roster(ModelSettings(model=("a", "2*a")))


def test_a_roster_is_described_by_role_only_where_roles_differ():
    assert describe_roster(ModelSettings(model=("a", "2*b"))) == "a, 2*b"
    text = describe_roster(ModelSettings(model=("a",), editor=("b",)))
    assert text == "planner: a; editor: b; summarizer: a; leap: b"
