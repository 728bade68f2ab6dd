import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.islands import Islands
from evolve.archive.selection import ParentSelector
from evolve.problem import Measure
from evolve.records import Direction, Program, SourceFile
from evolve.settings.sections import SearchSettings
from evolve.source import share_in_common, sign_source
from tests.builders import make_elite

AXES = (Measure("x", 0.0, 40.0, 40),)


def make_selector(count, elites=(), signature_of=None, **changes) -> ParentSelector:
    islands = Islands(AXES, Direction.MAXIMIZE, SearchSettings(islands=count, **changes))
    islands.seed(make_elite(0, 0.0, 0.5))
    for number, (island, objective, x) in enumerate(elites, 1):
        islands.add(island, make_elite(number, objective, x))
    plain = np.zeros(64, np.uint32)
    return ParentSelector(
        islands, entropy=0.7, pool=[], signature_of=signature_of or (lambda _: plain)
    )


places = st.tuples(st.integers(0, 2), st.integers(0, 50), st.floats(0, 40))


@given(st.lists(places, max_size=30), st.integers(0, 5), st.integers(0, 99))
def test_inspirations_differ_from_the_parent_and_from_each_other(elites, inspirations, seed):
    selector = make_selector(3, elites, inspirations=inspirations)
    choice = selector.select(1, np.random.default_rng(seed))
    shown = [elite.program_id for elite in (choice.parent, *choice.inspirations)]
    assert len(set(shown)) == len(shown) <= inspirations + 1


def test_as_many_inspirations_are_shown_as_asked_for_where_there_are_enough():
    elites = [(number % 2, float(number), number + 0.5) for number in range(1, 30)]
    selector = make_selector(2, elites, inspirations=4)
    for seed in range(20):
        assert len(selector.select(seed % 2, np.random.default_rng(seed)).inspirations) == 4


def test_a_lone_elite_is_chosen_without_inspirations():
    choice = make_selector(2).select(1, np.random.default_rng(0))
    assert (choice.parent.program_id, choice.inspirations) == ("p0", ())


def test_inspirations_are_near_in_objective_and_far_in_source():
    # Two families of programs: those with even numbers share all, so do those with odd ones.
    def signature_of(elite) -> np.ndarray:
        return np.full(64, int(elite.program_id[1:]) % 2, np.uint32)

    elites = [(number // 20, float(number % 20), number % 20 + 0.5) for number in range(1, 40)]
    selector = make_selector(2, elites, signature_of, inspirations=2)
    other = 0
    for seed in range(60):
        choice = selector.select(0, np.random.default_rng(seed))
        far = choice.inspirations[-1]
        other += (int(far.program_id[1:]) - int(choice.parent.program_id[1:])) % 2
        assert abs(far.objective - choice.parent.objective) <= 12
    assert other > 50


def make_program(text: str) -> Program:
    return Program((SourceFile("initial.py", text),))


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
