"""Scores the settings of a temperature controller on ovens that it must all suit."""

from __future__ import annotations

import json
import math
import random
from typing import Any, NamedTuple

from evolve.scoring import Infeasible, Score

FILE = "settings.json"
# The range of each setting.
RANGES = {
    "gain": (0.0, 1.0),
    "integral_seconds": (1.0, 10_000.0),
    "derivative_seconds": (0.0, 1_000.0),
    "setpoint_weight": (0.0, 2.0),
    "filter_seconds": (0.0, 1_000.0),
    "feed_forward": (0.0, 0.1),
}
ROOM, SECONDS = 20.0, 1500
WEAR = 20.0


class Oven(NamedTuple):
    """A first-order lag with a dead time."""

    rate: float
    lag: float
    delay: int


class Outcome(NamedTuple):
    """What a controller makes of an oven."""

    cost: float
    overshoot: float


def draw_ovens(seed: int, count: int) -> list[Oven]:
    """Draws ovens that differ."""
    rng = random.Random(seed)  # noqa: S311 - the same ovens each time
    return [
        Oven(rng.uniform(0.8, 2.0), rng.uniform(150.0, 400.0), rng.randint(4, 25))
        for _ in range(count)
    ]


def read_settings(text: str) -> dict[str, float]:
    """Returns the settings in a JSON text.

    Raises:
        Infeasible: It is not an object of these numbers.
    """
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Infeasible(f"{FILE}: expected JSON: {error}") from None
    if not isinstance(found, dict) or found.keys() != RANGES.keys():
        raise Infeasible(f"{FILE}: expected an object with {', '.join(RANGES)} and nothing else")
    for name, (low, high) in RANGES.items():
        if type(found[name]) not in {int, float} or not low <= found[name] <= high:
            raise Infeasible(f"{FILE}: `{name}`: expected a number from {low:g} to {high:g}")
    return {name: float(value) for name, value in found.items()}


def setpoint_at(second: int) -> float:
    """Returns the temperature that is asked for."""
    return 180.0 if second < 700 else 120.0


def simulate(settings: dict[str, float], oven: Oven) -> Outcome:
    """Runs a controller on an oven."""
    temperature = seen = ROOM
    integral = wear = error_sum = overshoot = 0.0
    powers = [0.0] * oven.delay
    keep = math.exp(-1.0 / settings["filter_seconds"]) if settings["filter_seconds"] else 0.0
    for second in range(SECONDS):
        setpoint, before = setpoint_at(second), seen
        seen = keep * seen + (1.0 - keep) * temperature
        proportional = settings["setpoint_weight"] * setpoint - seen
        wanted = settings["gain"] * (
            proportional + integral - settings["derivative_seconds"] * (seen - before)
        )
        wanted += settings["feed_forward"] * (setpoint - ROOM)
        power = min(max(wanted, 0.0), 1.0)
        if power == wanted:
            integral += (setpoint - seen) / settings["integral_seconds"]
        wear += abs(power - powers[-1])
        powers.append(power)
        loss = (temperature - ROOM) / oven.lag + (2.0 if 1100 <= second < 1120 else 0.0)
        temperature = max(temperature + oven.rate * powers[-1 - oven.delay] - loss, ROOM)
        error_sum += abs(setpoint - temperature)
        overshoot = max(overshoot, temperature - 180.0)
    return Outcome((error_sum + WEAR * wear) / SECONDS, overshoot)


def evaluate(program: Any, *, seed: int, ovens: int) -> Score:
    """Scores settings on the first ovens of a seed."""
    settings = read_settings(program.files[FILE])
    outcomes = {
        f"oven {number}": simulate(settings, oven)
        for number, oven in enumerate(draw_ovens(seed, ovens), start=1)
    }
    costs = {name: found.cost for name, found in outcomes.items()}
    overshoot = max(found.overshoot for found in outcomes.values())
    return Score(
        math.fsum(costs.values()) / len(costs),
        metrics={"worst": max(costs.values())},
        measures={"overshoot": overshoot},
        instances=costs,
    )


def evaluate_holdout(program: Any, *, seed: int, ovens: int) -> Score:
    """Scores settings on ovens that the search never sees."""
    return evaluate(program, seed=seed + 1_000_003, ovens=ovens)
