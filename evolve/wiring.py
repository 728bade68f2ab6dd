"""Settings to parts: defaults that depend on each other, models, evaluators, the budget."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from typing import TYPE_CHECKING

from evolve.errors import EvolveError, UsageError
from evolve.evaluation.link import EvaluatorConfig
from evolve.evaluation.pool import Evaluators
from evolve.models.roster import make_roster
from evolve.population import DEFAULT_STALL
from evolve.sandbox.choose import NAMES
from evolve.strategies import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evolve.models.budget import Budget
    from evolve.models.protocol import Model
    from evolve.problem import Problem
    from evolve.sandbox.protocol import Isolation
    from evolve.settings import Settings
    from evolve.store import Store

_GENERATIONS_WITH_MODEL = 30
_GENERATIONS_WITHOUT = 1000
_STALL_WITH_MODEL = 16
_SECONDS_WITHOUT_MODEL = 150.0
_TUNING_SHARE_WITH_MODEL = 0.5
_TUNING_SHARE_WITHOUT = 0.25
# Evaluations with which a session hardly begins.
_LEAST_TUNING = 50


def complete_settings(settings: Settings) -> Settings:
    """Fills in the defaults that depend on whether there is a model.

    Raises:
        UsageError: Some roles have a model and others none; no backend has that name.
    """
    if settings.sandbox.backend not in NAMES:
        names = ", ".join(NAMES)
        raise UsageError(f"--sandbox: expected one of {names}, got {settings.sandbox.backend!r}")
    named = bool(make_roster(settings.models))
    loop, budget = settings.loop, settings.budget
    if loop.generations is None:
        generations = _GENERATIONS_WITH_MODEL if named else _GENERATIONS_WITHOUT
        loop = dataclasses.replace(loop, generations=generations)
        # A limit of time is only set for people who asked for nothing.
        if budget.max_seconds is None and not named:
            budget = dataclasses.replace(budget, max_seconds=_SECONDS_WITHOUT_MODEL)
    search = settings.search
    if search.stall_after is None:
        stall_after = _STALL_WITH_MODEL if named else DEFAULT_STALL
        search = dataclasses.replace(search, stall_after=stall_after)
    if STRATEGIES[search.strategy].is_baseline:
        # Nothing comes from archives: several would only show the same programs apart.
        search = dataclasses.replace(search, islands=1)
    tuning = settings.tuning
    if tuning.share is None:
        tuning = dataclasses.replace(tuning, share=_tuning_share(settings, with_model=bool(named)))
    return dataclasses.replace(settings, loop=loop, budget=budget, search=search, tuning=tuning)


def _tuning_share(settings: Settings, *, with_model: bool) -> float:
    share = _TUNING_SHARE_WITH_MODEL if with_model else _TUNING_SHARE_WITHOUT
    is_short = share * (settings.budget.max_evaluations or math.inf) < _LEAST_TUNING
    return 0.0 if is_short or STRATEGIES[settings.search.strategy].is_baseline else share


def open_evaluators(problem: Problem, settings: Settings) -> Evaluators:
    """Gives the pool of evaluator processes for a problem; none is started yet."""
    config = EvaluatorConfig(
        folder=problem.folder,
        evaluators=problem.evaluator.parent,
        parameters=settings.parameters,
        backend=settings.sandbox.backend,
        allow_weak=settings.sandbox.allow_weak,
        fresh=settings.sandbox.fresh,
        image=settings.sandbox.image,
        seconds=problem.evaluator_seconds,
        memory_mb=settings.sandbox.evaluator_memory_mb,
    )
    return Evaluators(config, settings.sandbox.processes or len(os.sched_getaffinity(0)))


def open_models(settings: Settings) -> dict[str, Model]:
    """Gives the model of each role, one object a name; none without a model."""
    from evolve.models.choose import open_model

    opened: dict[str, Model] = {}
    models: dict[str, Model] = {}
    for role, candidates in make_roster(settings.models).items():
        name = candidates[0].name
        if name not in opened:
            opened[name] = open_model(name, api_base=settings.models.api_base or None)
        models[role] = opened[name]
    return models


def restore_budget(store: Store, settings: Settings) -> Budget:
    """Gives the caps of the settings, with what the run has used so far counted."""
    from evolve.models.budget import Budget

    caps = settings.budget
    budget = Budget(
        max_cost_usd=caps.max_cost_usd,
        max_evaluations=caps.max_evaluations,
        max_calls=caps.max_calls,
        max_tokens=caps.max_tokens,
    )
    for role, model, used in store.usage():
        budget.restore(role, model, used)
    budget.restore_evaluations(store.spent()["evaluations"])
    return budget


def describe_isolation(isolation: Isolation, *, fresh: bool) -> str:
    """Gives one line on what the sandbox enforces and what it does not.

    Args:
        isolation: What the canary saw.
        fresh: Whether each program has a new sandbox.
    """
    name = f"{isolation.backend}, new for each program" if fresh else isolation.backend
    line = f"sandbox: {name} (enforced: {', '.join(isolation.enforced) or 'nothing'})"
    return line + (f"; missing: {'; '.join(isolation.missing)}" if isolation.missing else "")


class Preflight:
    """Asks each model for a token beside the first evaluation."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._errors: list[EvolveError] = []
        self._threads = [
            threading.Thread(target=self._check, args=(model,), daemon=True)
            for model in set(models.values())
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Waits for the answers.

        Raises:
            ModelError: A model cannot be used.
        """
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _check(self, model: Model) -> None:
        try:
            model.preflight()
        except EvolveError as error:
            self._errors.append(error)
