"""What models are shown of a run, and what a run learns before and beyond its attempts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from evolve.archive import Elite
from evolve.evaluation.verdict import PROBE, Machine, read_machine
from evolve.files import lock_file, write_inside, write_named
from evolve.models.budget import estimate_tokens, prompt_cap
from evolve.problem import Problem, Purpose
from evolve.records import INITIAL, Attempt, AttemptKey, Direction, Evaluation, Plan, Status
from evolve.records.chat import Message
from evolve.records.plain import from_plain, to_plain
from evolve.records.results import UNSTEERED, Steering
from evolve.search.population import Population
from evolve.search.schedule import Turn, size_of
from evolve.settings import Settings, SettingsHistory
from evolve.settings.sections import ModelSettings
from evolve.steps.execute import edit_messages, repair_messages
from evolve.steps.jobs import Digest, RunStatus, Seat, Tool
from evolve.steps.memory import (
    KnownLesson,
    LessonBook,
    Memory,
    format_lessons,
    inherit_lessons,
    read_lesson_file,
)
from evolve.steps.page import PROGRAMS_SHARE
from evolve.steps.plan import plan_messages
from evolve.steps.prompt import plain, show_evaluation, show_program
from evolve.steps.slot import TOOLS
from evolve.steps.summarize import summary_messages
from evolve.store import Store

LESSONS_FILE = "lessons.json"
LESSONS_FACT, MACHINE_FACT = "inherited_lessons", "machine"
# The fact that names the file that keeps what a run learns.
_MEMORY_FACT = "memory"
_COUNTED = "memory_counts"
# From other problems come so many, those that proved worth most.
_FOREIGN = 8
_OTHER = "memory of "
_LESSONS = 16
_PLAN = Plan("(the planned change)", hypothesis="(why)", base=str(INITIAL))
_REASON = "(why the program failed)"
_MOST_ELITES = 20
_MOST_FOUND = 12


class DigestMaker:
    """Makes digests; what it reads of the store is read once.

    Args:
        store: May hold later generations, when a run is resumed; they are ignored.
        history: The settings of each generation.
        problem: What is solved.
    """

    def __init__(self, store: Store, history: SettingsHistory, problem: Problem) -> None:
        facts = store.facts()
        self._memory = Memory(problem.direction, read_inherited(facts))
        self._problem = problem
        self._store = store
        self._history = history
        machine = facts.get(MACHINE_FACT)
        self._machine = None if machine is None else from_plain(Machine, machine)
        self._read = -1
        self._cost_usd = 0.0

    def make(
        self,
        population: Population,
        turn: Turn,
        programs: Sequence[Attempt],
        *,
        pending: tuple[Plan, ...] = (),
        steering: Steering = UNSTEERED,
    ) -> Digest:
        """Returns the digest of a generation.

        Args:
            population: The state that the generation follows from.
            turn: The generation.
            programs: Those that are shown in full, the best first.
            pending: Plans of the generations in flight.
            steering: What people ask of it.

        Raises:
            StoreError: The database cannot be read.
        """
        self.advance(population.generation)
        settings = self._history.at(turn.generation)
        memory = self._memory
        is_baseline = population.islands.strategy.is_baseline
        hides = is_baseline or "lessons" in settings.search.without
        return Digest(
            self._problem,
            settings.steps,
            settings.models,
            status=self._describe_status(population, turn, programs[0]),
            programs=tuple(programs),
            # A baseline knows nothing of what came before.
            tried=() if is_baseline else memory.tried,
            tuned=() if is_baseline else memory.tuned,
            lessons=() if hides else memory.book.rank(turn.generation, _LESSONS),
            pending=() if is_baseline else pending,
            tuning=0 if is_baseline else size_of(settings).tuning,
            rewrites=memory.prefers_rewrites,
            hints=steering.hints,
            pins=steering.pins,
            machine=self._machine.describe() if self._machine else "",
            modules=frozenset(self._machine.modules) if self._machine else frozenset(),
        )

    def advance(self, horizon: int) -> None:
        """Reads what was committed up to a generation.

        Raises:
            StoreError: The database cannot be read.
        """
        if horizon <= self._read:
            return
        _advance(self._memory, self._store, self._read, horizon)
        self._cost_usd += self._store.cost_usd(self._read, horizon)
        self._read = horizon

    def _describe_status(self, population: Population, turn: Turn, champion: Attempt) -> RunStatus:
        budget, loop = (settings := self._history.at(turn.generation)).budget, settings.loop
        most, most_usd = budget.max_evaluations, budget.max_cost_usd
        used = population.evaluations
        best = [one.best for one in population.islands.archives]
        return RunStatus(
            generation=turn.generation,
            generations=loop.generations or turn.generation,
            evaluations=used,
            start=population.initial,
            champion=champion.key,
            objective=champion.objective,
            evaluations_left=None if most is None else max(0, most - used),
            cost_usd_left=None if most_usd is None else max(0.0, most_usd - self._cost_usd),
            islands=tuple(elite.objective for elite in best if elite is not None),
            references=tuple(population.references.items()),
        )


class RunLibrary:
    """Reads from a run's committed generations; each call opens the database for itself.

    Args:
        folder: The run folder.
        problem: Of the run.
        horizon: The last generation that may be read.
        elites: Those of all islands, in any order.
    """

    def __init__(
        self, folder: Path, problem: Problem, horizon: int, elites: Sequence[Elite]
    ) -> None:
        self._folder = folder
        self._problem = problem
        self._horizon = horizon
        sign = problem.direction.sign
        self._best = sorted(elites, key=lambda elite: (-sign * elite.objective, elite.key))

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Returns what agents may ask, by name; each takes the one argument of its call."""
        return {"elites": self.elites, "program": self.program, "search": self.search}

    def elites(self, _: str = "") -> str:
        """Returns the best programs of the island, one a line, with ids and objectives."""
        with closing(Store.open_to_read(self._folder)) as store:
            return "\n".join(
                self._show(store.load_attempt(elite.key)) for elite in self._best[:_MOST_ELITES]
            )

    def program(self, name: str) -> str:
        """Returns the files of a program and its verdict; empty when there is none of that id."""
        if not name:
            return ""
        with closing(Store.open_to_read(self._folder)) as store:
            keys = [key for key in store.attempts_of(name) if key.generation <= self._horizon]
            if not keys:
                return ""
            attempt = store.load_attempt(keys[0])
        files = "\n\n".join(f"{path}:\n{text}" for path, text in attempt.program_or_fail.files)
        return f"{files}\n\n{show_evaluation(attempt, self._problem, detail_characters=1000)}"

    def search(self, words: str) -> str:
        """Returns attempts whose plan has all the words in this order, newest first."""
        if not words.split():
            return ""
        with closing(Store.open_to_read(self._folder)) as store:
            found = store.attempts_like(words.split(), self._horizon, _MOST_FOUND)
            return "\n".join(self._show(store.load_attempt(key)) for key in found)

    def _show(self, attempt: Attempt) -> str:
        name = attempt.program.id if attempt.program is not None else "-"
        outcome = (
            str(attempt.evaluation.status)
            if attempt.objective is None
            else f"objective {attempt.objective:.10g}"
        )
        change = plain(attempt.plan.change)[:200] if attempt.plan else "the starting program"
        return f"{name}  {outcome}  {change}"


def find_misfit(problem: Problem, models: ModelSettings) -> list[str]:
    """Returns a line where no prompt holds the starting program, even without its frozen text."""
    most = int(PROGRAMS_SHARE * prompt_cap(models, "editor"))
    tokens = estimate_tokens(show_program(problem.initial, is_short=True))
    if tokens <= most:
        return []
    line = (
        f"warning: the program does not fit into a prompt, which holds {most} tokens of programs: "
        f"it takes about {tokens}, so its end is cut; raise `models.digest_tokens` (at least "
        f"{int(1.2 * tokens / PROGRAMS_SHARE)}, where the model can read as much), or put less "
        "between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END"
    )
    return [line]


def preview_prompts(
    problem: Problem,
    settings: Settings,
    evaluation: Evaluation,
    evaluate: Callable[..., Evaluation],
) -> Mapping[str, tuple[Message, ...]]:
    """Returns the messages of each step; what models and programs would say stands in brackets.

    Args:
        problem: What is solved.
        settings: Complete.
        evaluation: Of the starting program.
        evaluate: Evaluates a program for a purpose.
    """
    digest = _first_digest(problem, settings, evaluation, evaluate)
    slots = settings.loop.slots
    failed = Attempt(
        AttemptKey(1, 0, 0),
        0,
        INITIAL,
        1,
        _PLAN,
        problem.initial,
        Evaluation(Status.ERROR, artifacts={"traceback": "(its traceback)"}, reason=_REASON),
    )
    seat = Seat(0, slots)
    return {
        "edit": edit_messages(digest, seat, None),
        "leap": edit_messages(digest, Seat(0, slots, leap=True), None),
        "plan": plan_messages(digest, slots),
        "planned": edit_messages(digest, seat, _PLAN),
        "agent": edit_messages(digest, seat, None, tools=TOOLS),
        "repair": repair_messages(problem, failed),
        "summarize": summary_messages(digest, [[failed]]),
    }


def _first_digest(
    problem: Problem,
    settings: Settings,
    evaluation: Evaluation,
    evaluate: Callable[..., Evaluation],
) -> Digest:
    machine = find_machine(problem, evaluate)
    start = Attempt(INITIAL, 0, None, 0, None, problem.initial, evaluation)
    return Digest(
        problem,
        settings.steps,
        settings.models,
        status=RunStatus(
            generation=1,
            generations=settings.loop.generations or 1,
            evaluations=1,
            start=evaluation.objective,
            champion=INITIAL,
            objective=evaluation.objective,
            evaluations_left=settings.budget.max_evaluations,
            cost_usd_left=settings.budget.max_cost_usd,
            references=tuple(problem.references.items()),
        ),
        programs=(start,),
        tuning=size_of(settings).tuning,
        machine=machine.describe() if machine else "",
    )


def read_inherited(facts: Mapping[str, Any]) -> tuple[KnownLesson, ...]:
    """Returns the lessons that a run began with, from its facts."""
    return from_plain(tuple[KnownLesson, ...], facts.get(LESSONS_FACT) or [])


def read_lessons(store: Store) -> tuple[KnownLesson, ...]:
    """Returns all lessons of a run, the most useful first.

    Raises:
        StoreError: The database cannot be read.
    """
    facts = store.facts()
    inherited = read_inherited(facts)
    memory = Memory(Direction(facts.get("direction", "maximize")), inherited)
    last = store.last_generation() or 0
    _advance(memory, store, -1, last)
    return memory.book.rank(last, len(memory.book.lessons))


def _advance(memory: Memory, store: Store, after: int, upto: int) -> None:
    """Adds the attempts and summaries of the generations after one, up to another."""
    memory.add(store.light_attempts(after + 1, upto))
    for one in store.generations(after, upto):
        if one.summary is not None:
            memory.add_summary(one.number, one.summary)


def write_lessons(folder: Path, lessons: Sequence[KnownLesson], memory: Path | None) -> None:
    """Leaves lessons in the folder of a new run.

    Args:
        folder: Of the run.
        lessons: With their origins; of those that say the same the first is taken.
        memory: The file that keeps what the run learns; None for none.

    Raises:
        OSError: The folder cannot be written.
    """
    book = LessonBook()
    for one in inherit_lessons(lessons, ""):
        book.inherit(one)
    kept = {"lessons": to_plain(book.lessons), "memory": str(memory.resolve()) if memory else ""}
    write_inside(folder, LESSONS_FILE, json.dumps(kept, indent=1))


def note_experience(store: Store, problem: Problem, evaluate: Callable[..., Evaluation]) -> None:
    """Writes down what prompts tell from the first generation on.

    That is what programs find in the sandbox, and the lessons that `write_lessons` left.

    Args:
        store: Of the new run.
        problem: What is solved.
        evaluate: Evaluates a program for a purpose.

    Raises:
        StoreError: The database cannot be written.
    """
    path = store.folder / LESSONS_FILE
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    machine = find_machine(problem, evaluate)
    found = None if machine is None else to_plain(machine)
    store.set_facts(
        **{
            LESSONS_FACT: kept.get("lessons", []),
            _MEMORY_FACT: kept.get("memory", ""),
            MACHINE_FACT: found,
        }
    )


def copy_experience(store: Store, source: Path) -> None:
    """Writes down what the prompts of another run rest on: lessons, machine, money spent, steering.

    Args:
        store: Of the new run.
        source: Folder of the other one.

    Raises:
        StoreError: A database cannot be read or written.
    """
    with closing(type(store).open_to_read(source)) as other:
        facts, expenses, asked = other.facts(), other.expenses(), other.steering()
    store.keep(expenses)
    store.keep_steering([one for one in asked if one.generation is not None])
    store.set_facts(**{name: facts.get(name) for name in (LESSONS_FACT, MACHINE_FACT)})


def find_machine(problem: Problem, evaluate: Callable[..., Evaluation]) -> Machine | None:
    """Asks the sandbox what programs find in it.

    Args:
        problem: What is solved; of programs in other languages nothing is known.
        evaluate: Evaluates a program for a purpose.
    """
    if not problem.initial.entry.path.endswith(".py") or problem.recipe.build:
        return None
    return read_machine(evaluate(PROBE, Purpose.PROBE))


def recall(path: Path, problem: Problem) -> list[KnownLesson]:
    """Returns what a file knows for a problem: its own lessons, then some of other problems.

    A lesson of another problem is taken when one of its tags is a tag of this problem's lessons,
    or a word of its statement.

    Raises:
        UsageError: The file cannot be read.
    """
    known = read_lesson_file(path) if path.exists() else {}
    own = known.pop(problem.name, [])
    words = set(re.findall(r"[a-z]{3,}", problem.statement.lower()))
    words |= {tag for one in own for tag in one.lesson.tags}
    foreign = [
        replace(one, origin=f"{_OTHER}{name}")
        for name, lessons in known.items()
        for one in lessons
        if words & set(one.lesson.tags)
    ]
    foreign.sort(key=lambda one: -one.worth(0))
    return [replace(one, origin=f"{_OTHER}{problem.name}") for one in own] + foreign[:_FOREIGN]


def remember(store: Store, problem: Problem) -> str:
    """Adds what a run has learnt to its memory file, and returns a line on it; empty for none.

    A lesson has what it was worth in all runs: how often it was drawn, followed, and followed
    to a new best. What a run contradicted is dropped.

    Raises:
        UsageError: The file cannot be read.
        OSError: The file cannot be written.
    """
    facts = store.facts()
    if not facts.get(_MEMORY_FACT):
        return ""
    path = Path(facts[_MEMORY_FACT])
    inherited = {one.id: one for one in read_inherited(facts)}
    counted = {name: tuple(counts) for name, counts in facts.get(_COUNTED, {}).items()} or {
        name: _counts(one) for name, one in inherited.items()
    }
    learnt = read_lessons(store)
    names = {one.id for one in learnt}
    with _locked(path):
        known = read_lesson_file(path) if path.exists() else {}
        gone = [one for name, one in inherited.items() if name not in names]
        for one in gone:
            place = _place_of(one, problem)
            known[place] = _without(known.get(place, []), one)
        for one in learnt:
            place = _place_of(one, problem)
            counts = zip(_counts(one), counted.get(one.id, (0, 0, 0)), strict=True)
            more = [max(0, now - before) for now, before in counts]
            known[place] = _merge(known.get(place, []), one, more)
        write_named(path, format_lessons({name: found for name, found in known.items() if found}))
    store.set_facts(**{_COUNTED: {one.id: _counts(one) for one in learnt}})
    return f"memory: {len(known.get(problem.name, []))} lessons of {problem.name} in {path}"


def _counts(one: KnownLesson) -> tuple[int, int, int]:
    return one.taught, one.followed, one.new_bests


def _place_of(one: KnownLesson, problem: Problem) -> str:
    """Returns the problem under which a lesson is kept."""
    is_kept = one.origin.startswith(_OTHER)
    return one.origin.removeprefix(_OTHER) if is_kept else problem.name


def _merge(kept: list[KnownLesson], one: KnownLesson, more: Sequence[int]) -> list[KnownLesson]:
    """Adds a lesson with its record, or only the record where one says the same."""
    at = LessonBook(kept).find(one.lesson)
    taught, followed, new_bests = more
    origin = "" if one.origin.startswith(_OTHER) else one.origin
    if at is None:
        fresh = replace(one, taught=taught, followed=followed, new_bests=new_bests, origin=origin)
        return [*kept, fresh] if taught else kept
    old = kept[at]
    kept[at] = replace(
        old,
        lesson=one.lesson if taught else old.lesson,
        taught=old.taught + taught,
        followed=old.followed + followed,
        new_bests=old.new_bests + new_bests,
    )
    return kept


def _without(kept: list[KnownLesson], one: KnownLesson) -> list[KnownLesson]:
    at = LessonBook(kept).find(one.lesson)
    return [other for number, other in enumerate(kept) if number != at]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lets one run at a time change a file."""
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        lock_file(descriptor, waits=True)
        yield
    finally:
        os.close(descriptor)
