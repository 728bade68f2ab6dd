"""Parents that lead on some instance (`--strategy pareto`), and what prompts say of instances."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive import Archive, Elite
from evolve.archive.archives import GridCells, Islands
from evolve.archive.selection import INSPIRATIONS, ParentSelector, make_lottery
from evolve.problem import Measure, load_problem
from evolve.records import AttemptKey, Direction, Status
from evolve.records.results import LightAttempt
from evolve.search.population import Population
from evolve.settings.sections import SearchSettings
from evolve.source.analysis import share_in_common, sign_source
from tests.builders import make_elite, make_program
from tests.commands import EVALUATOR, PROBLEM, run_evolve, run_json, write_problem

AXES = (Measure("x", 0.0, 40.0, 40),)


def make_selector(count, elites=(), signature_of=None, **changes) -> ParentSelector:
    islands = Islands(AXES, Direction.MAXIMIZE, SearchSettings(islands=count, **changes))
    islands.seed(make_elite(0, 0.0, 0.5))
    for number, (island, objective, x) in enumerate(elites, 1):
        islands.archives[island].add(make_elite(number, objective, x))
    plain = np.zeros(64, np.uint32)
    return ParentSelector(
        islands, entropy=0.7, pool=[], signature_of=signature_of or (lambda _: plain)
    )


places = st.tuples(st.integers(0, 2), st.integers(0, 50), st.floats(0, 40))


@given(st.lists(places, max_size=30), st.integers(0, 99))
def test_inspirations_differ_from_the_parent_and_from_each_other(elites, seed):
    selector = make_selector(3, elites)
    choice = selector.select(1, np.random.default_rng(seed))
    shown = [elite.program_id for elite in (choice.parent, *choice.inspirations)]
    assert len(set(shown)) == len(shown) <= INSPIRATIONS + 1


def test_as_many_inspirations_are_shown_as_asked_for_where_there_are_enough():
    elites = [(number % 2, float(number), number + 0.5) for number in range(1, 30)]
    selector = make_selector(2, elites)
    for seed in range(20):
        assert (
            len(selector.select(seed % 2, np.random.default_rng(seed)).inspirations) == INSPIRATIONS
        )


def test_a_lone_elite_is_chosen_without_inspirations():
    choice = make_selector(2).select(1, np.random.default_rng(0))
    assert (choice.parent.program_id, choice.inspirations) == ("p0", ())


def test_inspirations_are_near_in_objective_and_far_in_source():
    # Two families of programs: those with even numbers share all, so do those with odd ones.
    def signature_of(elite) -> np.ndarray:
        return np.full(64, int(elite.program_id[1:]) % 2, np.uint32)

    elites = [(number // 20, float(number % 20), number % 20 + 0.5) for number in range(1, 40)]
    selector = make_selector(2, elites, signature_of)
    other = 0
    for seed in range(60):
        choice = selector.select(0, np.random.default_rng(seed))
        far = choice.inspirations[1]
        other += (int(far.program_id[1:]) - int(choice.parent.program_id[1:])) % 2
        assert abs(far.objective - choice.parent.objective) <= 12
    assert other > 50


def test_sketches_estimate_how_much_source_is_shared():
    lines = [f"value_{number} = {number} * start + {number % 7}" for number in range(60)]
    whole, same = make_program("\n".join(lines)), make_program("\n\n".join(lines))
    half = make_program("\n".join([*lines[:30], *(f"if a{n} < {n}: pass" for n in range(30))]))
    other = make_program("def far(x):\n    return [y for y in x if not y]\n")
    of = {name: sign_source(program) for name, program in
          {"whole": whole, "same": same, "half": half, "other": other}.items()}  # fmt: skip
    assert share_in_common(of["whole"], of["same"]) == 1.0
    assert 0.2 < share_in_common(of["whole"], of["half"]) < 0.65
    assert share_in_common(of["whole"], of["other"]) < 0.1


@pytest.mark.parametrize("text", ["", "x", "x y"])
def test_the_smallest_programs_have_a_sketch(text):
    sketch = sign_source(make_program(text))
    assert share_in_common(sketch, sign_source(make_program(text))) == 1.0


def make_archive(objectives, direction=Direction.MAXIMIZE) -> Archive:
    archive = Archive(
        GridCells([Measure("x", 0.0, float(len(objectives)), len(objectives))]), direction
    )
    for number, objective in enumerate(objectives):
        key = AttemptKey(number, 0, 0)
        archive.add(Elite(key, str(number), objective, (number + 0.5,), 0, 0, None))
    return archive


def selection_probabilities(archive, *, entropy):
    return make_lottery(archive, "boltzmann", entropy=entropy).probabilities


def normalised_entropy(probabilities) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum() / math.log(len(probabilities)))


distinct = st.lists(st.integers(-1000, 1000), min_size=3, max_size=60, unique=True)


@given(distinct, st.floats(0.1, 0.95))
def test_the_entropy_target_is_met_within_a_hundredth(objectives, target):
    archive = make_archive(objectives)
    probabilities = selection_probabilities(archive, entropy=target)
    assert normalised_entropy(probabilities) == pytest.approx(target, rel=0.01)


@given(distinct, st.floats(0.05, 0.95), st.sampled_from(Direction))
def test_selection_is_invariant_under_increasing_transformations(objectives, target, direction):
    plain = make_archive([float(value) for value in objectives], direction)
    warped = make_archive([math.exp(value / 300.0) - 5.0 for value in objectives], direction)
    np.testing.assert_array_equal(
        selection_probabilities(plain, entropy=target),
        selection_probabilities(warped, entropy=target),
    )


@pytest.mark.parametrize("count", [300, 1000, 30_000])
@pytest.mark.parametrize("target", [0.3, 0.7, 0.95])
def test_the_target_is_met_in_large_archives_with_ties(count, target):
    rng = np.random.default_rng(count)
    archive = make_archive(rng.integers(0, count // 2, size=count).astype(float))
    found = selection_probabilities(archive, entropy=target)
    assert normalised_entropy(found) == pytest.approx(target, rel=0.01)


@given(distinct, st.floats(0.05, 0.95))
def test_better_elites_are_never_less_likely(objectives, target):
    archive = make_archive(objectives)
    probabilities = selection_probabilities(archive, entropy=target)
    order = np.argsort(archive.objectives)
    assert (np.diff(probabilities[order]) >= 0).all()
    assert probabilities.sum() == pytest.approx(1.0)


@given(st.lists(st.integers(0, 50), min_size=5, max_size=5))
def test_parents_with_many_children_are_less_likely(children):
    archive = make_archive([1.0] * 5)
    for at, count in enumerate(children):
        for _ in range(count):
            archive.record_child(AttemptKey(at, 0, 0))
    weights = 1.0 / np.sqrt(1.0 + np.array(children))
    found = selection_probabilities(archive, entropy=0.7)
    np.testing.assert_allclose(found, weights / weights.sum())


def test_equal_objectives_are_drawn_alike():
    probabilities = selection_probabilities(make_archive([2.0] * 4), entropy=0.3)
    np.testing.assert_allclose(probabilities, 0.25)


def test_a_single_elite_is_always_drawn():
    lottery = make_lottery(make_archive([1.0]), "boltzmann", entropy=0.5)
    assert lottery.draw(np.random.default_rng(0)) == 0


def test_the_extremes_are_greedy_and_uniform():
    archive = make_archive([1.0, 2.0, 3.0])
    greedy = selection_probabilities(archive, entropy=0.0)
    uniform = selection_probabilities(archive, entropy=1.0)
    np.testing.assert_allclose(greedy, [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(uniform, 1 / 3, atol=1e-3)


INSTANCES = """from evolve.scoring import Score, as_floats


def evaluate(program):
    first, second = as_floats(program.call("point"), (2,), where="point")
    errors = {"east": -((first - 3.0) ** 2), "south": -((second + 2.0) ** 2)}
    found = Score(sum(errors.values()) / 2, measures={"first": first}, instances=errors,
                  validation={"unseen": -abs(first)})
    return found
"""


def attempt(number, *instances, **others):
    values = dict(zip("abc", instances, strict=False)) | others
    return LightAttempt(
        key=AttemptKey(number, 0, 0), island=0, parent=AttemptKey(0, 0, 0) if number else None,
        depth=0, plan=None, program_id=f"p{number}", fingerprint=f"f{number}", status=Status.OK,
        objective=sum(instances) / len(instances), measures={"first": 0.0}, metrics={},
        instances=values,
    )  # fmt: skip


def leaders(tmp_path, direction, *attempts):
    toml = PROBLEM.replace("maximize", direction)
    problem = load_problem(write_problem(tmp_path / "valley", toml=toml))
    population = Population(problem, SearchSettings(strategy="pareto", islands=1))
    for one in attempts:
        population.add(one.key.generation, [one])
    return [elite.key.generation for elite in population.pool]


def test_the_pool_has_the_leader_on_each_instance_and_the_first_of_equals(tmp_path):
    found = leaders(
        tmp_path, "maximize", attempt(0, 1.0, 1.0, 1.0), attempt(1, 3.0, -9.0, 1.0),
        attempt(2, 3.0, 2.0, -9.0),
    )  # fmt: skip
    assert found == [1, 2, 0]


def test_smaller_ones_lead_where_objectives_are_minimized_and_validation_has_no_say(tmp_path):
    first = attempt(0, 1.0, 1.0, **{"validation x": 1.0})
    second = attempt(1, 2.0, 0.5, **{"validation x": -9.0})
    assert leaders(tmp_path, "minimize", first, second) == [0, 1]


@pytest.fixture
def problem(tmp_path):
    write_problem(tmp_path / "valley", evaluator=INSTANCES)
    return tmp_path


@pytest.mark.parametrize("model", [(), ("--model", "scripted")], ids=["operators", "scripted"])
def test_a_run_replays_and_resumes_with_it(problem, model):
    options = ("--strategy", "pareto", "--run-dir", "r", *model)
    run_evolve("run", "valley", *options, "--generations", 4, cwd=problem)
    run_evolve("resume", "r", "--generations", 8, cwd=problem)
    assert "equal: generations 0 to 8" in run_evolve("replay", "r", cwd=problem).stdout
    assert run_json("show", "r", cwd=problem)["strategy"] == "pareto"


def test_without_instances_it_is_refused_and_leaves_no_run(tmp_path):
    write_problem(tmp_path / "valley", evaluator=EVALUATOR)
    options = ("--strategy", "pareto", "--run-dir", "r")
    done = run_evolve("run", "valley", *options, cwd=tmp_path, code=2)
    assert "--strategy pareto: expected an evaluator that reports `instances`" in done.stderr
    assert not (tmp_path / "r").exists()


def test_prompts_name_the_worst_instances_and_the_largest_differences(problem):
    options = ("--run-dir", "r", "--generations", 3, "--model", "scripted")
    run_evolve("run", "valley", *options, cwd=problem)
    lines = run_evolve("log", "r", "--json", cwd=problem).stdout.splitlines()
    best = max(
        (one for one in map(json.loads, lines) if one.get("objective") is not None),
        key=lambda one: one["generation"],
    )
    messages = run_json("show", "r", best["attempt"], cwd=problem)["calls"][0]["messages"]
    text = messages[-1]["text"]
    assert "Worst of 2 instances: " in text
    assert "It differs most on " in text
    assert "unseen" not in text
