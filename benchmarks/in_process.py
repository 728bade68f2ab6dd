"""Runs the search in this process, without a sandbox or a store: for benchmarks only.

Everything that decides is the product's own: population, jobs, operators, tuning. Programs
are run by `exec`, so nothing but the model-free operators' own programs may be run like this.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from evolve.population import Population
from evolve.population.population import light_attempts
from evolve.problem import Purpose, load_problem
from evolve.records import AttemptKey, Evaluation, Status
from evolve.records.results import EvaluationPlace, Generation, first_generation
from evolve.runs.wiring import complete_settings
from evolve.scoring import Infeasible
from evolve.search.generation import GenerationRunner, Inline, reject_known
from evolve.search.schedule import Schedule, size_of
from evolve.search.select import JobMaker
from evolve.settings.history import SettingsHistory
from evolve.source import built_in_measures

ROOT = Path(__file__).parents[1]
SECONDS = 0.5


class Memory:
    """What jobs ask of a store, kept in memory."""

    def __init__(self):
        self.attempts = {}

    def facts(self):
        return {}

    def load_attempt(self, key):
        return self.attempts[key]

    def add(self, generation):
        for result in generation.slots:
            self.attempts |= {placed.attempt.key: placed.attempt for placed in result.attempts}


class SlotJournal:
    """What generations and slots ask of a journal: evaluates at once, in this thread."""

    uses = ()

    def __init__(self, evaluate, generation=0, slot=0):
        self._evaluate = evaluate
        self._place = generation, slot
        self._number = 0

    def open_slot(self, generation, slot, _parts=None, _confirmation=None):
        return SlotJournal(self._evaluate, generation, slot)

    def evaluate(self, program):
        key = AttemptKey(*self._place, self._number)
        self._number += 1
        return self._evaluate(program), EvaluationPlace(key, key)

    def evaluate_all(self, programs):
        for program in programs:
            yield self.evaluate(program)


class Silent:
    """What generations report to."""

    def on_plans(self, generation, plans): ...

    def on_slot(self, generation, result): ...


class Handle:
    """A program as evaluators see it, run by `exec`."""

    def __init__(self, program):
        self._names = {"__name__": "program"}
        exec(compile(program.entry.text, "<program>", "exec"), self._names)

    def call(self, name, *arguments):
        return self._names[name](*arguments)

    def call_many(self, name, arguments):
        function = self._names[name]
        return [function(*one) for one in arguments]


class OutOfTimeError(BaseException):
    """Not an `Exception`, so that programs cannot catch it."""


def _expire(_number, _frame):
    raise OutOfTimeError


def make_evaluate(problem):
    """Returns what evaluates a program in this thread, which must be the main one."""
    spec = importlib.util.spec_from_file_location(problem.evaluator.stem, problem.evaluator)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(problem.evaluator.parent))
    spec.loader.exec_module(module)
    score = getattr(module, problem.functions[Purpose.SEARCH])
    signal.signal(signal.SIGALRM, _expire)
    warnings.simplefilter("ignore")

    def evaluate(program):
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            found = score(Handle(program), **problem.parameters)
        except Infeasible as error:
            return Evaluation(Status.INFEASIBLE, reason=str(error))
        except OutOfTimeError:
            return Evaluation(Status.TIMEOUT, reason="time")
        except Exception as error:  # noqa: BLE001 - whatever a program does is its verdict
            return Evaluation(Status.ERROR, reason=repr(error))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        measures = built_in_measures(program, problem.initial) | dict(found.measures)
        return Evaluation(Status.OK, found.objective, measures=measures)

    return evaluate


def search(problem, settings, evaluate, evaluations):
    """Returns the population at the end and the champion's objective after each evaluation."""
    settings = complete_settings(settings)
    memory, population = Memory(), Population(problem, settings.search)
    history = SettingsHistory(settings)
    maker = JobMaker(problem, population, memory, history)
    runner = GenerationRunner(
        problem,
        seed=settings.loop.seed,
        steps=settings.steps,
        models=settings.models,
        journal=SlotJournal(evaluate),
        workers=Inline(),
        reporter=Silent(),
    )
    size = size_of(settings)._replace(max_evaluations=evaluations)
    schedule = Schedule(generations=10**9, size_at=lambda _: size)
    curve, best = [], None
    waiting = [first_generation(problem.initial, evaluate(problem.initial), 0.0)]
    while waiting:
        generation = waiting.pop(0)
        if generation.number:
            generation = reject_known(generation, population)
        memory.add(generation)
        attempts = light_attempts(generation)
        population.add(generation.number, attempts)
        for attempt in attempts:
            value = attempt.objective
            if value is not None and (best is None or problem.direction.is_better(value, best)):
                best = value
            if attempt.status is not Status.REJECTED:
                curve.append(best)
        while turn := schedule.next(population.generation, population.evaluations):
            result = runner.run(maker.make_job(turn))
            waiting.append(Generation(turn.generation, result.slots, 0.0))
    return population, memory, curve


def load(name):
    return load_problem(ROOT / "problems" / name)
