"""The frozen records of calls, evaluations, generations and steering, as the store keeps them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from evolve.records.attempts import (
    Attempt,
    AttemptKey,
    Direction,
    Evaluation,
    EvaluationPlace,
    Plan,
    Program,
    SourceFile,
    StageResult,
    Status,
    Summary,
)
from evolve.records.chat import Reply, Request

# Why a run stopped, as `show` prints it under `stopped_because`. A failure leaves the name of its
# error and a message instead.
GENERATIONS = "generations"
TARGET = "target"
PATIENCE = "patience"
RECORDING = "recording"
INTERRUPTED = "interrupted"
FRUITLESS = "fruitless"
MAX_SECONDS = "max_seconds"
MAX_EVALUATIONS = "max_evaluations"
MAX_CALLS = "max_calls"
MAX_TOKENS = "max_tokens"
MAX_COST = "max_cost_usd"

# A run that ended for one of these did all that it was asked for.
FINISHED = frozenset({GENERATIONS, TARGET, PATIENCE, RECORDING})

# The fact that holds the last generation of a fruitless end, from which a resume counts anew.
FRUITLESS_UNTIL = "fruitless_until"


@dataclass(frozen=True, slots=True)
class Call:
    """A finished model call.

    Attributes:
        key: Generation, slot, and its number among the calls of that slot.
        request: What was asked.
        reply: What came, with its usage.
        error: Why the reply cannot be used; empty when it can.
        time: When it was recorded, UTC, ISO 8601; the store sets it.
    """

    key: AttemptKey
    request: Request
    reply: Reply
    error: str = ""
    time: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A finished evaluation.

    Attributes:
        key: Generation, slot, and its number among the evaluations of that slot.
        program: What was evaluated.
        evaluation: The verdict.
        time: When it was recorded, UTC, ISO 8601; the store sets it.
    """

    key: AttemptKey
    program: Program
    evaluation: Evaluation
    time: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Expense:
    """What was spent, or may have been, apart from the finished calls.

    Attributes:
        generation: The one that asked for it; the first that is not committed where none did.
        slot: Its place in there; 0 where none asked for it.
        role: That of the call, or `preflight`.
        model: Who was asked.
        prompt_tokens: Tokens read.
        cached_tokens: Of these, those that came from the provider's cache.
        completion_tokens: Tokens written.
        cost_usd: Price in US dollars; `None` when it is unknown.
        lost: Why no answer came, so that all numbers are upper estimates; empty when one did.
        thinking_tokens: Of the tokens written, those of thinking, as far as it is known.
    """

    generation: int
    slot: int
    role: str
    model: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_usd: float | None
    lost: str = ""
    thinking_tokens: int = 0


class ModelUse(NamedTuple):
    """What one finished call says about the model that answered."""

    role: str
    model: str
    cost_usd: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class SlotResult:
    """What a slot brought.

    Attributes:
        slot: Its place in the generation.
        attempts: Its attempts in order.
        cut_by: The budget or interrupt that ended it early; empty when it ran to its end.
        uses: Its model calls in order.
    """

    slot: int
    attempts: tuple[Attempt, ...]
    cut_by: str = ""
    uses: tuple[ModelUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation.

    Attributes:
        number: 0 holds the initial program alone.
        slots: Results in slot order.
        seconds: Running time of the whole run so far.
        summary: What its attempts taught, compared with one another.
        plans: The first plan of each slot, as they were shown to the next generation.
        cut_by: The budget or interrupt that ended planning or summarizing early; not stored.
        time: When it was committed, UTC, ISO 8601; the store sets it.
    """

    number: int
    slots: tuple[SlotResult, ...]
    seconds: float = 0.0
    summary: Summary | None = None
    plans: tuple[Plan, ...] = ()
    cut_by: str = ""
    time: str = field(default="", compare=False)


def as_slot(attempt: Attempt) -> SlotResult:
    """Returns what a slot brought that made one attempt, which was evaluated there."""
    if attempt.evaluation.status is not Status.REJECTED:
        attempt = replace(attempt, evaluated=EvaluationPlace(attempt.key, attempt.key))
    return SlotResult(attempt.key.slot, (attempt,))


class LightAttempt(NamedTuple):
    """An attempt without its source and its artifacts, as the population and lists know it.

    Attributes:
        evaluations: Those that its verdict is the mean of.
        uses: The model calls of its slot.
    """

    key: AttemptKey
    island: int
    parent: AttemptKey | None
    depth: int
    plan: Plan | None
    program_id: str | None
    fingerprint: str | None
    status: Status
    objective: float | None
    measures: Mapping[str, float]
    metrics: Mapping[str, float]
    instances: Mapping[str, float] = MappingProxyType({})
    stages: tuple[StageResult, ...] = ()
    evaluations: int = 1
    seconds: float = 0.0
    reason: str = ""
    uses: tuple[ModelUse, ...] = ()

    @property
    def operator(self) -> str:
        """Returns the name of the operator that made it; empty where a model did."""
        return self.plan.operator if self.plan else ""


def gain_on_parent(
    attempt: Attempt | LightAttempt,
    objective_of: Callable[[AttemptKey], float | None],
    direction: Direction,
) -> float | None:
    """Returns what a program gained on its parent, None where either has no objective."""
    if attempt.parent is None or attempt.objective is None:
        return None
    before = objective_of(attempt.parent)
    return None if before is None else direction.gain(attempt.objective, before)


ASKS = -2
"""What evaluations ask models is recorded under this slot, in the order in which it ended."""

EDITORS = frozenset({"editor", "leap"})
"""The roles of the calls that write programs."""

UNUSABLE = "cannot be used"
"""What the reason of an attempt says when a model answered with nothing at all."""


class SlotNote(NamedTuple):
    """What a committed slot set out to do, and what came of it.

    Attributes:
        generation: Its generation.
        slot: Its place in it.
        key: Its best attempt, or its last one where none has an objective.
        parent: The attempt whose program it changed.
        plan: What it set out to do.
        before: Objective of the parent.
        objective: That of its best attempt.
        seconds: Time that this one took in the sandbox.
        attempts: How many it made.
        unapplied: How many of them gave no program.
        status: Of its best attempt, or of its last one.
        reason: Why that has no objective.
        editors: The models that were asked for edits, in order.
    """

    generation: int
    slot: int
    key: AttemptKey
    parent: AttemptKey
    plan: Plan
    before: float | None
    objective: float | None
    seconds: float
    attempts: int
    unapplied: int
    status: Status
    reason: str
    editors: tuple[str, ...] = ()


class Payoff(NamedTuple):
    """What an operator, or a model that writes edits, has brought.

    Attributes:
        kind: `operator` or `model`.
        name: Of the operator or model.
        uses: Attempts of an operator; slots of a model.
        scored: Those that have an objective.
        improved: Those that gained on their parent.
        best_gain: The largest gain on a parent; None where there is none.
    """

    kind: str
    name: str
    uses: int = 0
    scored: int = 0
    improved: int = 0
    best_gain: float | None = None

    @property
    def share(self) -> float:
        """Returns the share of uses that gained on their parent."""
        return self.improved / self.uses if self.uses else 0.0

    def add(self, gain: float | None, *, is_scored: bool) -> Payoff:
        """Returns the payoff after another use, with what that gained on its parent, if known."""
        known = [one for one in (gain, self.best_gain) if one is not None]
        return self._replace(
            uses=self.uses + 1,
            scored=self.scored + is_scored,
            improved=self.improved + (gain is not None and gain > 0.0),
            best_gain=max(known, default=None),
        )


def rank_payoffs(payoffs: Iterable[Payoff]) -> tuple[Payoff, ...]:
    """Returns operators and models, those that improve most often first."""
    return tuple(sorted(payoffs, key=lambda one: (one.kind, -one.share, -one.uses, one.name)))


@dataclass(frozen=True, slots=True)
class Totals:
    """What calls have used together.

    Attributes:
        calls: Calls that were answered, usably or not.
        prompt_tokens: Tokens read.
        cached_tokens: Of these, those that came from a provider's cache.
        completion_tokens: Tokens written.
        cost_usd: US dollars of the calls whose price is known.
        unpriced_calls: Answered calls whose price is unknown, those of the preflight among them.
        lost_requests: Requests that may have been charged for and brought nothing.
        lost_tokens: Upper estimate of what these used.
        lost_usd: Upper estimate of their price, as far as it is known.
        thinking_tokens: Of the tokens written, those of thinking, as far as providers say.
    """

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced_calls: int = 0
    lost_requests: int = 0
    lost_tokens: int = 0
    lost_usd: float = 0.0
    thinking_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Returns the tokens read and written together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Totals) -> Totals:
        return Totals(*map(operator.add, _amounts_of(self), _amounts_of(other)))


_amounts_of = operator.attrgetter(*(one.name for one in fields(Totals)))


class SteerKind(StrEnum):
    """What is asked."""

    HINT = "hint"
    INJECT = "inject"
    PIN = "pin"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Steer:
    """One thing that somebody asked of a run; rows are only ever added.

    Attributes:
        number: From 1, in the order in which they were asked.
        kind: What is asked.
        text: Words of a hint; where a program comes from; key of a pinned attempt; number of what
            is dropped.
        files: Of a program that is injected.
        generation: The first one that follows it; None until one begins.
        time: When it was asked, UTC, ISO 8601.
    """

    number: int
    kind: SteerKind
    text: str
    files: tuple[SourceFile, ...] = ()
    generation: int | None = None
    time: str = ""

    def describe(self) -> str:
        """Returns it in words, for people."""
        words = {
            SteerKind.HINT: f"hint: {self.text}",
            SteerKind.INJECT: f"a program of the user's: {self.text}",
            SteerKind.PIN: f"attempt {self.text} is pinned",
            SteerKind.DROP: f"number {self.text} is dropped",
        }
        return words[self.kind]


@dataclass(frozen=True, slots=True)
class Steering:
    """What people have asked of one generation.

    Attributes:
        hints: What prompts show, oldest first.
        pins: Attempts that every generation works on, oldest first.
        injected: Programs that this generation evaluates.
    """

    hints: tuple[str, ...] = ()
    pins: tuple[AttemptKey, ...] = ()
    injected: tuple[Steer, ...] = ()


UNSTEERED = Steering()


def steering_of(asked: Sequence[Steer], generation: int) -> Steering:
    """Returns what holds for a generation of all that was asked."""
    begun = [one for one in asked if one.generation is not None and one.generation <= generation]
    dropped = {int(one.text) for one in begun if one.kind is SteerKind.DROP}
    held = [one for one in begun if one.number not in dropped]
    pins = (one.text for one in held if one.kind is SteerKind.PIN)
    return Steering(
        tuple(one.text for one in held if one.kind is SteerKind.HINT),
        tuple(dict.fromkeys(AttemptKey(*map(int, pin.split("."))) for pin in pins)),
        tuple(
            one for one in begun if one.kind is SteerKind.INJECT and one.generation == generation
        ),
    )
