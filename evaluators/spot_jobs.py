"""Scores policies that run jobs on spot or on-demand machines before a deadline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from instances import (
    HOLDOUT,
    TRAINING,
    VALIDATION,
    name_values,
    open_stream,
    play_together,
    renew_seed,
)
from replies import as_indices

from evolve.scoring import ProgramHandle, Score

if TYPE_CHECKING:
    from collections.abc import Generator

WAIT, SPOT, ON_DEMAND = range(3)

# Times are whole steps of a quarter of an hour; an on-demand machine costs 1 a step.
STEPS_PER_HOUR = 4

_TRAINING, _VALIDATION, _HOLDOUT = 24, 12, 240
_PRICES = (0.2, 0.3, 0.45, 0.7)
_PRICE_CHANGE = 0.08


@dataclass(frozen=True, slots=True)
class Job:
    """A job and the market it meets.

    Attributes:
        work: Steps of computing.
        deadline: Steps until it must be done.
        overhead: Steps that a start on another machine takes.
        prices: Of spot machines by step; None where there is none.
    """

    work: int
    deadline: int
    overhead: int
    prices: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class State:
    """How far a job is; times in steps.

    Attributes:
        work: What is left to compute.
        left: What is left until the deadline.
        pending: What is left of the start of the running machine.
        running: What the job runs on.
    """

    work: int
    left: int
    pending: int
    running: int


def evaluate(program: ProgramHandle, *, seed: int) -> Score:
    """Scores `choose(...)`: 0 waits, 1 runs on a spot machine, 2 on an on-demand machine."""
    jobs = [draw_job(TRAINING, seed, number) for number in range(_TRAINING)]
    checks = [draw_job(VALIDATION, seed, number) for number in range(_VALIDATION)]
    outcomes = play_together(program, "choose", [play(job) for job in (*jobs, *checks)])
    return _score(outcomes[:_TRAINING], [cost for cost, *_ in outcomes[_TRAINING:]])


def evaluate_holdout(program: ProgramHandle, *, seed: int) -> Score:
    """Scores the policy on jobs that the search never sees."""
    seed = renew_seed(seed)
    jobs = [draw_job(HOLDOUT, seed, number) for number in range(_HOLDOUT)]
    return _score(play_together(program, "choose", [play(job) for job in jobs]))


def draw_job(split: str, seed: int, number: int) -> Job:
    """Draws a job and a market in which availability and price are Markov chains."""
    stream = open_stream("spot_jobs", split, seed, number)
    first = stream.random(5)
    work = 48 + int(first[0] * 48)
    deadline = work + 12 + int(first[1] * 60)
    overhead = 1 + int(first[2] * 3)
    lost, found = 0.02 + 0.10 * first[3], 0.03 + 0.12 * first[4]
    level, is_there = int(stream.random() * len(_PRICES)), stream.random() < 0.5
    prices: list[float | None] = []
    for _ in range(deadline):
        change, move, up = stream.random(3).tolist()
        is_there = change >= lost if is_there else change < found
        if move < _PRICE_CHANGE:
            level = min(max(level + (1 if up < 0.5 else -1), 0), len(_PRICES) - 1)
        prices.append(_PRICES[level] if is_there else None)
    return Job(work, deadline, overhead, tuple(prices))


def play(job: Job) -> Generator[tuple[Any, ...], Any, tuple[float, float, float]]:
    """Runs a job to its end; the deadline is kept, if need be by an on-demand machine.

    Returns:
        The cost in percent of on-demand machines without any interruption, the share of steps on
        spot machines, and the share in which nothing ran.
    """
    work, pending, running = job.work, 0, WAIT
    cost, used = 0.0, [0, 0, 0]
    for now in range(job.deadline):
        if work == 0:
            break
        price = job.prices[now]
        state = State(work, job.deadline - now, pending, running)
        reply = yield _describe_state(job, state, price)
        choice = int(as_indices([reply], (1,), 3, where=f"choose at step {now}")[0])
        if choice == SPOT and price is None:
            choice = WAIT
        if not _is_safe(job, state, choice):
            choice = ON_DEMAND
        if choice != running:
            pending = 0 if choice == WAIT else job.overhead
        if choice != WAIT:
            cost += 1.0 if choice == ON_DEMAND else price or 0.0
            if pending:
                pending -= 1
            else:
                work -= 1
        used[choice] += 1
        # A spot machine that goes is lost; the next one starts anew.
        is_lost = choice == SPOT and (now + 1 == job.deadline or job.prices[now + 1] is None)
        running = WAIT if is_lost else choice
    steps = sum(used)
    return 100.0 * cost / job.work, used[SPOT] / steps, used[WAIT] / steps


def _is_safe(job: Job, state: State, choice: int) -> bool:
    """Returns whether an on-demand machine can still make it one step after a choice."""
    if choice == ON_DEMAND:
        return True
    starting = state.pending if state.running == choice else job.overhead
    # An on-demand machine would have to start then; a job that is done needs none.
    rest = state.work - (choice == SPOT and starting == 0)
    return rest == 0 or job.overhead + rest <= state.left - 1


def _describe_state(job: Job, state: State, price: float | None) -> tuple[float, ...]:
    """Returns what a policy is told; times in hours."""
    counts = (state.work, state.left, job.overhead, state.pending)
    hours = [count / STEPS_PER_HOUR for count in counts]
    return (*hours, float(state.running), float(price is not None), price or 0.0)


def _score(
    outcomes: list[tuple[float, float, float]], validation: list[float] | None = None
) -> Score:
    metrics = {"validation": float(np.mean(validation))} if validation else {}
    costs, spot, waiting = (np.array(column) for column in zip(*outcomes, strict=True))
    return Score(
        float(costs.mean()),
        metrics={"highest": float(costs.max()), "lowest": float(costs.min()), **metrics},
        measures={"spot_share": float(spot.mean()), "waiting_share": float(waiting.mean())},
        artifacts={
            "cost": "\n".join(
                f"job {n}: {cost:.1f} % of on demand" for n, cost in enumerate(costs.tolist())
            )
        },
        instances=name_values(costs),
        validation=name_values(validation or ()),
    )
