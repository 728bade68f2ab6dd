import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.archives import Islands
from evolve.archive.credit import Credit, HillClimbing, Merit, is_progress, outranks
from evolve.archive.selection import ParentSelector
from evolve.records import INITIAL, AttemptKey, Direction
from evolve.settings.sections import SearchSettings
from tests.archive.test_selection import AXES, make_elite
from tests.searches import Searches, archives_of


def credit_after(**uses: list[float]) -> Credit:
    credit = Credit(decay=0.9, prior_uses=4.0, prior_rewards=1.0)
    for name, rewards in uses.items():
        for reward in rewards:
            credit.record(name, reward)
    return credit


def test_what_was_never_used_has_the_prior_rate():
    credit = credit_after(a=[1.0] * 9)
    assert credit.rate("b") == pytest.approx(0.25)
    assert credit.rate("a") > 0.6


def test_a_use_counts_less_with_each_later_one_of_any_alternative():
    credit = credit_after(a=[1.0], b=[0.0, 0.0])
    assert credit.rate("a") == pytest.approx((1.0 + 0.81) / (4.0 + 0.81))


def test_a_rate_is_surer_after_many_uses():
    assert credit_after(a=[0.0, 1.0] * 9).variance("a") < credit_after(a=[0.0, 1.0]).variance("a")


def test_sampled_rates_have_the_mean_and_variance_of_the_rate():
    credit = credit_after(a=[1.0, 0.0, 0.0])
    drawn = [credit.sample_rate("a", np.random.default_rng(seed)) for seed in range(2000)]
    assert np.mean(drawn) == pytest.approx(credit.rate("a"), abs=0.015)
    assert np.var(drawn) == pytest.approx(credit.variance("a"), rel=0.15)


def test_chances_follow_rates_above_a_floor():
    chances = credit_after(a=[1.0] * 30, b=[0.0] * 30).chances(["a", "b"], floor=0.2)
    assert sum(chances.values()) == pytest.approx(1.0)
    assert 0.1 < chances["b"] < chances["a"]


numbers = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("new", "old", "noise", "wins"),
    [
        (Merit(2.0), Merit(1.0), 0.0, True),
        (Merit(1.0), Merit(1.0), 0.0, False),
        (Merit(1.05), Merit(1.0), 0.1, False),
        (Merit(1.2), Merit(1.0), 0.1, True),
        # Better on the mean by one lucky instance.
        (Merit(2.0, (1.0, 1.0, 4.0)), Merit(1.9, (1.1, 1.1, 3.5)), 0.0, False),
        # Better by little, and on every instance.
        (Merit(1.1, (1.1, 2.1, 9.1)), Merit(1.0, (1.0, 2.0, 9.0)), 0.0, True),
        # Fitted to the instances, and worse on those that the objective leaves out.
        (Merit(5.0, (5.0, 5.0, 5.1), (0.9,)), Merit(1.0, (1.0, 1.0, 1.0), (1.0,)), 0.0, False),
        (Merit(5.0, (5.0, 5.0, 5.1), (1.0,)), Merit(1.0, (1.0, 1.0, 1.0), (1.0,)), 0.0, True),
    ],
)
def test_a_champion_is_replaced_beyond_noise(new, old, noise, wins):
    assert outranks(1.0, new, old, noise) is wins
    flip = [
        Merit(-one.objective, [-x for x in one.instances], [-x for x in one.validation])
        for one in (new, old)
    ]
    assert outranks(-1.0, *flip, noise) is wins


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30), st.integers(0, 5))
def test_no_two_programs_outrank_each_other(pairs, kept):
    one, other = (
        Merit(0.0, column[kept:], column[:kept]) for column in map(list, zip(*pairs, strict=True))
    )
    assert not (outranks(1.0, one, other, 0.0) and outranks(1.0, other, one, 0.0))


def test_rounding_is_no_progress():
    assert is_progress(0.1, 1.0)
    assert is_progress(1e-9, 0.0)
    assert not is_progress(1e-7, 1.0)
    assert not is_progress(0.0, 0.0)


OTHER = AttemptKey(1, 1, 1)


def climb_for(attempts, every, *, other_every=0, climbs=None) -> HillClimbing:
    """Returns of attempts at champion and others in turns; each so-many-th one leads."""
    climbs = climbs or HillClimbing()
    champion = INITIAL
    for number in range(1, attempts + 1):
        climbs.end_generation(champion)
        leads = bool(every) and number % every == 0
        climbs.record(champion, leads=leads)
        if leads:
            champion = AttemptKey(number + 1, 0, 0)
        climbs.record(OTHER, leads=bool(other_every) and number % other_every == 0)
    return climbs


def test_nothing_climbs_without_evidence():
    assert HillClimbing().share == 0.0
    assert climb_for(200, 0).share < 1e-6


def test_many_slots_climb_while_children_of_the_champion_lead():
    assert climb_for(200, 8).share > 0.8


def test_none_climb_where_other_parents_pay_as_well():
    assert climb_for(200, 8, other_every=8).share < 0.1


def test_a_champion_whose_children_fail_longer_than_usual_ends_the_climb():
    climbs = climb_for(200, 8)
    assert climb_for(8, 0, climbs=climbs).share > 0.5
    assert climb_for(40, 0, climbs=climbs).share == 0.0


def test_a_new_champion_begins_the_climb_again():
    climbs = climb_for(40, 0, climbs=climb_for(200, 8))
    climbs.record(OTHER, leads=True)
    assert climbs.share > 0.5


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80))
def test_the_share_is_that_of_most_slots_at_most(told):
    climbs = HillClimbing()
    climbs.end_generation(INITIAL)
    for is_champion, leads in told:
        climbs.record(INITIAL if is_champion else OTHER, leads=leads)
    assert 0.0 <= climbs.share <= 0.9


def test_a_slot_that_climbs_changes_the_champion_alone_for_its_island():
    islands = Islands(AXES, Direction.MAXIMIZE, SearchSettings(islands=2))
    for number in range(8):
        islands.archives[number % 2].add(make_elite(number, float(number), number + 0.5))
    champion = make_elite(9, 9.0, 20.0)
    islands.archives[1].add(champion)
    selector = ParentSelector(
        islands,
        entropy=1.0,
        pool=[],
        signature_of=lambda _: np.zeros(64, np.uint32),
        champion=champion,
        climbing=0.5,
    )
    choices = [selector.select(0, np.random.default_rng(seed)) for seed in range(200)]
    climbing = [choice for choice in choices if choice.parent is champion]
    assert 70 < len(climbing) < 130
    assert {len(choice.inspirations) for choice in climbing} == {0}
    assert {choice.island for choice in choices if choice not in climbing} == {0}


def test_a_search_that_climbs_is_the_same_however_it_was_cut_or_timed(tmp_path):
    searches, shares = Searches(tmp_path), []
    whole = searches.run("whole", 24, on_commit=lambda state: shares.append(state.climbing_share))
    assert max(shares) > 0.3
    assert not searches.replay("whole")
    searches.run("cut", 13, threads=3, delays=(0.0, 0.002))
    cut = searches.run("cut", 24, threads=3, delays=(0.002, 0.0))
    assert archives_of(cut) == archives_of(whole)
    off = searches.run("off", 24, search__without="hill-climbing")
    assert archives_of(off) != archives_of(whole)
    assert off.climbing_share == 0.0
