"""What the steps of a generation are given: the run as it is committed, and a job for each slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from evolve.models.roster import Part
from evolve.operators.tuning import Tuner
from evolve.problem import NO_BARS, Problem, Reference
from evolve.records import (
    Attempt,
    AttemptKey,
    Direction,
    Evaluation,
    Plan,
    Program,
    Rejected,
    Selection,
)
from evolve.records.chat import Message, Reply, Request
from evolve.settings.sections import ModelSettings, StepSettings
from evolve.steps.memory import KnownLesson, TriedChange, TunedProgram


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where the run stands.

    Attributes:
        generation: The generation that is about to begin.
        generations: The last one that the run may have.
        evaluations: Evaluations used so far.
        evaluations_left: `None` without a cap.
        cost_usd_left: US dollars that the cap on money leaves; `None` without a cap.
        start: Objective of the starting program; `None` while no program has one.
        champion: The best attempt so far.
        objective: Its objective; `None` while no program has one.
        islands: The best objective of each island.
        references: What it is compared with, by name.
    """

    generation: int
    generations: int
    evaluations: int
    start: float | None
    champion: AttemptKey
    objective: float | None
    evaluations_left: int | None = None
    cost_usd_left: float | None = None
    islands: tuple[float, ...] = ()
    references: tuple[tuple[str, Reference], ...] = ()


@dataclass(frozen=True, slots=True)
class Digest:
    """What the prompts of a generation show, and in which form; the same for all of its slots.

    Attributes:
        problem: What is solved.
        steps: The form of the edits.
        models: The caps on prompts and pictures.
        status: Where the run stands.
        programs: Attempts whose programs are shown in full, the champion first.
        tried: What every committed slot tried, in order.
        tuned: What tuning brought, in order.
        lessons: Those that most deserve to be shown, the best first.
        pending: Plans of the generations in flight.
        tuning: Evaluations that tune constants in each generation; 0 for none.
        rewrites: Whether edits kept failing, so that whole programs are asked for.
        machine: What programs find in the sandbox, in words.
        modules: What they can import beside the standard library; empty when it is not known.
        hints: What people say about the search.
        pins: Programs that people want it to work on.
    """

    problem: Problem
    steps: StepSettings
    models: ModelSettings
    status: RunStatus
    programs: tuple[Attempt, ...]
    tried: tuple[TriedChange, ...] = ()
    tuned: tuple[TunedProgram, ...] = ()
    lessons: tuple[KnownLesson, ...] = ()
    pending: tuple[Plan, ...] = ()
    tuning: int = 0
    rewrites: bool = False
    machine: str = ""
    modules: frozenset[str] = frozenset()
    hints: tuple[str, ...] = ()
    pins: tuple[AttemptKey, ...] = ()

    def find(self, key: str) -> Attempt | None:
        """Returns the program that is shown under a key; `None` where there is none."""
        return next((one for one in self.programs if str(one.key) == key), None)


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of a slot among those of its generation that follow the same prompt.

    Attributes:
        number: From 0.
        count: How many there are.
        leap: Whether a new formulation is asked for, since the search has stalled.
    """

    number: int = 0
    count: int = 1
    leap: bool = False


Ask = Callable[[Request], Reply]
"""Asks the model of the request's role.

Raises `ReplyError` where the reply cannot be used, `BudgetExhaustedError` and `ModelError`.
"""
T = TypeVar("T")


def ask_until_read(ask: Ask, request: Request, read: Callable[[str], T | Rejected]) -> T | Rejected:
    """Returns what is read in a reply, with one question back where that is nothing.

    Raises as the model.
    """
    text = ask(request).text
    found = read(text)
    if not isinstance(found, Rejected):
        return found
    question = (
        f"That cannot be used: {found.reason}. Answer with the JSON object alone, in the form "
        "asked for above."
    )
    chat = (*request.messages, Message("assistant", text), Message("user", question))
    return read(ask(replace(request, messages=chat)).text)


Tool = Callable[[str], str]
"""Returns what an agent asks of the run, as of the state that its job follows from."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Which programs are evaluated again before they count: those that would lead.

    Attributes:
        direction: Whether a larger or a smaller objective is better.
        bar: Objective of the champion.
        times: How often each is evaluated again.
    """

    direction: Direction
    bar: float
    times: int

    def asks_for(self, evaluation: Evaluation) -> bool:
        """Returns whether a program is better than the champion, as far as is known."""
        objective = evaluation.objective
        return objective is not None and self.direction.is_better(objective, self.bar)


class Rules(NamedTuple):
    """How the programs of a generation are evaluated.

    Attributes:
        confirmation: Which of them are evaluated again; None for none.
        bars: By early stage of an evaluation, the objective that lets a program go on.
    """

    confirmation: Confirmation | None = None
    bars: Mapping[str, float] = NO_BARS


PLAIN_RULES = Rules()


@dataclass(frozen=True, slots=True)
class SlotJob:
    """What a slot does.

    Attributes:
        slot: Place in the generation.
        island: Island that it works for; of a model, that of what is made from the starting
            program, which stands on all of them.
    """

    slot: int
    island: int


@dataclass(frozen=True, slots=True)
class OperatorJob(SlotJob):
    """A slot in which an operator changes a program, without a model.

    Attributes:
        selection: The parent, and the programs that operators may mix in.
        chances: That of each operator to be drawn.
        leap: Whether to apply several operators at a time.
    """

    selection: Selection
    chances: Mapping[str, float]
    leap: bool = False


@dataclass(frozen=True, slots=True)
class TuningJob(SlotJob):
    """A slot in which the constants of a program are tuned.

    Attributes:
        start: The attempt whose program is tuned.
        tuner: As it is after all samples that are committed.
        evaluations: Evaluations that the slot uses.
    """

    start: Attempt
    tuner: Tuner
    evaluations: int


@dataclass(frozen=True, slots=True)
class ModelJob(SlotJob):
    """A slot in which a model plans a change and carries it out.

    Attributes:
        seat: Place among the slots of this kind.
        evaluations: Most evaluations that the slot may use.
        parts: Which model plays each role, and how.
        tools: Those that read the run, by name; none where the editor calls no tools.
    """

    seat: Seat
    evaluations: int
    parts: Mapping[str, Part] = field(default_factory=dict)
    tools: Mapping[str, Tool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InjectedJob(SlotJob):
    """A slot in which a program is evaluated that somebody put into the run.

    Attributes:
        start: The starting program, which it is compared with.
        program: The program.
        origin: Where it comes from, in words.
    """

    start: Attempt
    program: Program
    origin: str


@dataclass(frozen=True, slots=True)
class GenerationJob:
    """All that a generation depends on, besides replies and verdicts.

    Attributes:
        number: Of the generation.
        slots: What each slot does, in slot order.
        find_duplicate: Returns the committed attempt at a program with a fingerprint, if any.
        objective_of: Returns the objective of a committed attempt that has one.
        rules: How its programs are evaluated.
        digest: What prompts show; None without a model.
        parts: Which model plays each role that serves the whole generation, and how.
        summarizes: Whether its attempts are summarized.
    """

    number: int
    slots: tuple[SlotJob, ...]
    find_duplicate: Callable[[str], AttemptKey | None]
    objective_of: Callable[[AttemptKey], float | None]
    rules: Rules = PLAIN_RULES
    digest: Digest | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
    summarizes: bool = False
