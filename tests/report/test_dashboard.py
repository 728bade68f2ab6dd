"""The live view as text, at several sizes; held in `tests/golden` and meant to be looked at."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from evolve.problem import Reference
from evolve.records import AttemptKey, Direction
from evolve.records.results import Payoff, Totals
from evolve.report.dashboard import allot, arrange
from evolve.report.progress import Cap, Dashboard, Improvement, IslandMap
from evolve.steps.journal import EVALUATION, Traffic, Wait
from tests.test_display import ATTACKS

GOLDEN = Path(__file__).parents[1] / "golden"
E = -1
MAP = (
    (E, E, E, E, E, 1, 0, 0, 0, 0), (E, E, 1, 1, 2, 2, 2, 1, 1, 0), (E, 4, 3, 3, 3, 1, 1, E, E, E),
    (E, 3, 3, 2, 1, E, 0, 0, E, E), (E, E, E, E, E, E, E, E, E, 0),
)  # fmt: skip
START = Dashboard(
    run="packing-20261130-115938", direction=Direction.MAXIMIZE, seconds=0.4,
    initial=0.953522841, champion=0.953522841, noise=0.0,
    references={
        "baseline": Reference(2.634, "a paper"), "best known": Reference(2.635983085, "a site"),
    },
    generation=0, evaluations=1, rate=0.0, curve=((1.0, 0.953522841),),
    measures=("radius_spread", "border_share"),
    islands=(IslandMap(1, 0.02, ((E,) * 9 + (4,), (E,) * 10)),) * 2,
    improvements=(), outcomes={"ok": 1, "rejected": 0}, rejection=None, payoffs=(),
    traffic=Traffic((Wait("planner", "openai/gpt-4o", 99.8),), in_flight=1),
    stall="0 of 16 evaluations without progress",
    caps=(Cap("generations", 0, 30, None), Cap("max_cost_usd", 0.0, 2.0, None)),
    spent={}, lesson="", stopping="", seconds_to_stop=None, notes=(), now=100.0,
)  # fmt: skip
MIDDLE = replace(
    START,
    seconds=754.2, champion=2.631092, generation=11, evaluations=301, rate=0.4,
    curve=((1, 0.95), (20, 1.6), (40, 2.1), (100, 2.4), (160, 2.55), (200, 2.6), (290, 2.631092)),
    islands=(IslandMap(33, 0.33, MAP), IslandMap(2, 0.02, MAP[::-1])),
    improvements=(
        Improvement(AttemptKey(12, 0, 0), 2.631092, 0.031),
        Improvement(AttemptKey(11, 4, 3), 2.6, 0.05, "tune 7 constants", "tuning"),
        Improvement(
            AttemptKey(9, 2, 0), 2.55, 0.15,
            "start from a hexagonal lattice and let radii grow until no circle can move",
            "openai/gpt-4o",
        ),
        Improvement(AttemptKey(7, 1, 0), 2.4, 0.3, "nudge constant", "nudge_constant"),
    ),
    outcomes={
        "ok": 227, "infeasible": 51, "error": 18, "timeout": 2, "memory": 0, "rejected": 19,
    },
    rejection=("the same program was evaluated before, by attempt 3.1.0", 12),
    payoffs=(
        Payoff("model", "openai/gpt-4o", 44, 40, 12, 0.15),
        Payoff("operator", "tune_constants", 220, 200, 90, 0.3),
        Payoff("operator", "flip_sign", 9, 9, 0, -1.5),
    ),
    traffic=Traffic(
        (
            Wait("editor", "openai/gpt-4o", 59.0), Wait("editor", "openai/gpt-4o", 70.0),
            Wait("editor", "openai/gpt-4o", 71.0), Wait(EVALUATION, "", 99.0),
        ),
        in_flight=2, retried=3, answers=1, characters=3200,
    ),
    caps=(
        Cap("max_cost_usd", 1.24, 2.0, 462.0), Cap("generations", 11, 30, 1302.0),
        Cap("max_evaluations", 301, 5000, 11000.0),
    ),
    spent={("editor", "openai/gpt-4o"): Totals(44, 180000, 20000, 52000, 1.24)},
    lesson="Radii that follow from a linear program over fixed centres beat radii that are moved "
    "one by one.",
    notes=("tuning: 96 evaluations beside each generation tune constants",),
)  # fmt: skip
STALL = replace(
    MIDDLE,
    stall="level 2: some slots leap to a new formulation; 55 of 16 evaluations without progress",
    notes=(*MIDDLE.notes, "model 'openai/gpt-4o': down (HTTP 503); paused, asked again in 20 s"),
)  # fmt: skip
STOPPING = replace(MIDDLE, stopping="interrupted", seconds_to_stop=8.4)
SHOWN = {"start": START, "middle": MIDDLE, "stall": STALL, "stopping": STOPPING}
SIZES = [(60, 16), (80, 24), (160, 50)]


def draw(shown: Dashboard, width: int, height: int, **options) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, height=height, force_terminal=True, color_system=None, **options
    )
    console.print(arrange(shown, width, height), end="")
    return stream.getvalue()


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize(("width", "height"), SIZES, ids=str)
@pytest.mark.parametrize("name", SHOWN)
def test_the_view_looks_as_it_did(name, width, height):
    drawn = "\n".join(plain(draw(SHOWN[name], width, height))) + "\n"
    path = GOLDEN / f"terminal_{name}_{width}x{height}.txt"
    if not path.exists():
        path.write_text(drawn)
        pytest.fail(f"{path}: written anew; look at it and run again")
    assert drawn == path.read_text()


@pytest.mark.parametrize("width", [20, 43, 60, 71, 80, 109, 110, 200])
@pytest.mark.parametrize("height", [5, 10, 16, 24, 27, 28, 60])
def test_the_view_fills_any_terminal_and_not_more(width, height):
    for shown in SHOWN.values():
        lines = draw(shown, width, height).splitlines()
        assert len(lines) == height
        assert {len(line) for line in lines} <= {width}


def test_even_the_smallest_view_has_the_champion_and_the_bar():
    drawn = draw(MIDDLE, 60, 5)
    assert "2.631092" in drawn
    assert "62%, 7 min 42 s left, $1.2400 of $2 (max_cost_usd)" in drawn


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_that_others_wrote_reaches_the_terminal_as_a_command(attack):
    hostile = replace(
        MIDDLE, run=attack, lesson=attack, stall=attack, notes=(attack,), measures=(attack, attack),
        improvements=(Improvement(AttemptKey(1, 0, 0), 2.0, 1.0, attack, attack),),
        rejection=(attack, 3), payoffs=(Payoff("model", attack, 1, 1, 1, 1.0),), stopping=attack,
        traffic=Traffic((Wait("editor", attack, 1.0),)),
    )  # fmt: skip
    for width, height in SIZES:
        text = draw(hostile, width, height)
        assert not set(attack) & set("\x1b\x07\x9b\x9d\b\r\x7f\u202e\u2066\u200b") & set(text)


def test_lines_go_to_what_matters_most():
    assert allot([(1, 1), (2, 6), (1, 1)], 2) == [1, 0, 1]
    assert allot([(1, 1), (2, 6), (1, 3)], 6) == [1, 4, 1]
    assert allot([(1, 1), (2, 6), (1, 3)], 20) == [1, 6, 3]
    assert allot([], 3) == []
