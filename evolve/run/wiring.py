"""Settings to parts: defaults that depend on each other, models, evaluators, the budget."""

from __future__ import annotations

import math
import os
import shlex
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.errors import EvolveError, UsageError
from evolve.evaluation.evaluator import EvaluatorConfig
from evolve.evaluation.pool import Evaluators
from evolve.problem import Problem
from evolve.records import AttemptKey, Evaluation
from evolve.records.chat import Reply, Request
from evolve.records.results import Call, Expense
from evolve.run.trust import is_address
from evolve.sandbox.limits import NAMES, Isolation
from evolve.settings import Settings, change_settings
from evolve.settings.sections import (
    LEAST_TUNING,
    LEAST_WITH_MODEL,
    MOST_TUNING,
    SLOW_SECONDS,
    STRATEGIES,
    TUNING_SECONDS,
    WITH_MODEL,
    WITHOUT_MODEL,
    Defaults,
)
from evolve.store import Store

if TYPE_CHECKING:
    from evolve.models.budget import Budget
    from evolve.models.endpoint import Endpoint
    from evolve.models.usage import Price

MANUAL_FOLDER = "manual"
WORKERS = 8
"""Model calls at a time, where the settings say nothing."""


def show_price_setting(name: str) -> str:
    """Returns the option that sets a model's price, with a price as an example."""
    option = shlex.quote(f"prices.{name}={{prompt = 0.15, completion = 0.6}}")
    return f"--set {option} (US dollars per 1e6 tokens)"


def complete_settings(settings: Settings) -> Settings:
    """Fills in the defaults that depend on whether there is a model.

    Raises:
        UsageError: Some roles have a model and others none; no backend has that name.
    """
    if settings.sandbox.backend not in NAMES:
        names = ", ".join(NAMES)
        raise UsageError(f"--sandbox: expected one of {names}, got {settings.sandbox.backend!r}")
    defaults = WITH_MODEL if settings.models.is_configured else WITHOUT_MODEL
    changes: dict[str, Any] = {}
    if not settings.loop.slots:
        changes["loop.slots"] = defaults.slots
    if settings.loop.generations is None:
        changes["loop.generations"] = defaults.generations
        if settings.budget.max_seconds is None:
            changes["budget.max_seconds"] = defaults.max_seconds
    if settings.search.stall_after is None:
        changes["search.stall_after"] = defaults.stall_after
    if STRATEGIES[settings.search.strategy].is_baseline:
        # Nothing comes from archives: several would only show the same programs apart.
        changes["search.islands"] = 1
    if settings.tuning.share is None:
        changes["tuning.share"] = _tuning_share(settings, defaults)
    return change_settings(settings, changes, where="defaults")


def _tuning_share(settings: Settings, defaults: Defaults) -> float | None:
    """Returns the default; None where it depends on how long an evaluation takes."""
    if STRATEGIES[settings.search.strategy].is_baseline:
        return 0.0
    share = defaults.tuning_share
    if share is None:
        return None
    is_short = share * (settings.budget.max_evaluations or math.inf) < LEAST_TUNING
    return 0.0 if is_short else share


def settle_tuning(settings: Settings, seconds: float) -> Settings:
    """Fills in the share of tuning in a run with a model, where nobody asked for one.

    While models think, evaluators have nothing to do: in each generation so many evaluations tune
    constants as fit into that time. A cap on evaluations is shared with the slots evenly.

    Args:
        settings: Complete but for this.
        seconds: What the evaluation of the starting program took.
    """
    if settings.tuning.share is not None:
        return settings
    slots, cap = settings.loop.slots, settings.budget.max_evaluations
    count = min(MOST_TUNING, int(TUNING_SECONDS / max(seconds, 1e-3)))
    if cap is not None:
        count = min(count, slots) if cap >= LEAST_WITH_MODEL else 0
    if seconds > SLOW_SECONDS:
        count = 0
    changes = {"tuning.share": count / (count + slots)}
    return change_settings(settings, changes, where="defaults")


def open_evaluators(problem: Problem, settings: Settings) -> Evaluators:
    """Returns the pool of evaluator processes for a problem; none is started yet."""
    config = EvaluatorConfig(
        folder=problem.folder,
        evaluators=problem.evaluator.parent,
        parameters=settings.parameters,
        backend=settings.sandbox.backend,
        allow_weak=settings.sandbox.allow_weak,
        fresh=settings.sandbox.fresh,
        image=settings.sandbox.image,
        devices=settings.sandbox.devices,
        seconds=problem.evaluator_seconds,
        memory_mb=settings.sandbox.evaluator_memory_mb,
    )
    processes = settings.sandbox.processes or len(os.sched_getaffinity(0))
    return Evaluators(config, processes, problem.initial)


def open_endpoints(
    settings: Settings,
    folder: Path,
    tell: Callable[[str], None],
    named: Collection[str] | None = None,
) -> dict[str, Endpoint]:
    """Returns the models of a run by name; none without a model, or where a recording answers.

    Args:
        settings: Names, addresses, limits and prices.
        folder: The run's, where a person that serves as a model finds prompts.
        tell: Called with a line when a pause begins or ends, from any thread.
        named: The addresses that the user has named, which alone get keys; None for all of them.

    Raises:
        UsageError: A model's name has an address in it that the user has not named.
    """
    from evolve.models.endpoint import Endpoint
    from evolve.models.gate import Gate, RateLimits
    from evolve.models.roles import open_model

    models = settings.models
    roster = {} if models.replay else models.roster()
    names = [candidate.name for candidates in roster.values() for candidate in candidates]
    endpoints: dict[str, Endpoint] = {}
    for name in dict.fromkeys([*names, *(models.fallbacks if roster else ())]):
        entry = {**settings.endpoints.get("*", {}), **settings.endpoints.get(name, {})}
        address = entry.pop("api_base", "") or models.api_base or None
        if named is not None and is_address(name) and name not in named:
            raise UsageError(
                f"model {name!r}: its name has an address that you have not named; if you want "
                "it asked, name the model yourself, as in --model NAME"
            )
        model = open_model(
            name,
            api_base=address,
            sends_key=named is None or address is None or address in named,
            folder=folder / MANUAL_FOLDER,
            idle_seconds=models.idle_seconds,
            drop=entry.pop("drop", ()),
            tell=tell,
        )
        gate = Gate(
            f"model {name!r}",
            limits=RateLimits(**entry),
            outage_seconds=models.request_seconds,
            tell=tell,
        )
        endpoints[name] = Endpoint(
            model,
            name=name,
            gate=gate,
            price=_read_price(settings, name),
            request_seconds=models.request_seconds,
        )
    return endpoints


def _read_price(settings: Settings, name: str) -> Price | None:
    """Returns the price in the settings, if there is one."""
    from evolve.models.usage import Price

    entry = settings.prices.get(name)
    if entry is None:
        return None
    if not {"prompt", "completion"} <= set(entry):
        raise UsageError(
            f"prices: `{name}`: expected `prompt` and `completion`, US dollars per million "
            f"tokens, got {', '.join(entry) or 'nothing'}"
        )
    cached = entry.get("cached")
    return Price(
        entry["prompt"] / 1e6, entry["completion"] / 1e6, None if cached is None else cached / 1e6
    )


def open_recording(settings: Settings) -> Callable[[AttemptKey, Request], Call] | None:
    """Returns what answers in place of models, None where models do.

    Raises:
        UsageError: The recorded run is not there any more.
    """
    from evolve.run.replay import Recording

    return Recording(Path(settings.models.replay)).answer if settings.models.replay else None


def gather_experience(
    store: Store, problem: Problem, settings: Settings, evaluate: Callable[..., Evaluation]
) -> None:
    """Records what prompts show from the first generation on, where there are prompts.

    The prompts of a run that is answered from another one's record show what those showed.

    Raises:
        StoreError: A database cannot be read or written.
    """
    from evolve.search.digests import copy_experience, note_experience

    if settings.models.replay:
        copy_experience(store, Path(settings.models.replay))
    elif settings.models.is_configured:
        note_experience(store, problem, evaluate)


def restore_budget(store: Store, settings: Settings) -> Budget:
    """Returns the caps of the settings, with what the run has used so far counted."""
    from evolve.models.budget import Budget

    caps = settings.budget
    budget = Budget(
        max_cost_usd=caps.max_cost_usd,
        max_evaluations=caps.max_evaluations,
        max_calls=caps.max_calls,
        max_tokens=caps.max_tokens,
        shares=settings.loop.workers or WORKERS,
    )
    for role, model, used in store.usage():
        budget.restore(role, model, used)
    budget.restore_evaluations(store.spent()["evaluations"])
    return budget


def describe_isolation(isolation: Isolation, *, fresh: bool) -> str:
    """Returns one line on what the sandbox enforces and what it does not.

    Args:
        isolation: What the canary saw.
        fresh: Whether each program has a new sandbox.
    """
    name = f"{isolation.backend}, new for each program" if fresh else isolation.backend
    line = f"sandbox: {name} (enforced: {', '.join(isolation.enforced) or 'nothing'})"
    return line + (f"; missing: {'; '.join(isolation.missing)}" if isolation.missing else "")


class Preflight:
    """Asks each model for a few tokens during the first evaluation.

    Args:
        endpoints: The models of the run, by name.
        is_capped: Whether there is a cap on money, which needs known prices.
    """

    def __init__(self, endpoints: Mapping[str, Endpoint], *, is_capped: bool) -> None:
        self._is_capped = is_capped
        self._errors: dict[str, EvolveError] = {}
        self._unpriced: set[str] = set()
        self._replies: dict[str, Reply] = {}
        self._threads = [
            threading.Thread(target=self._check, args=(endpoint,), daemon=True)
            for endpoint in endpoints.values()
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, tell: Callable[[str], None]) -> None:
        """Waits for the answers, and reports which prices are unknown.

        Raises:
            UsageError: There is a cap on money, and a model whose price is unknown.
            ModelError: A model cannot be used.
        """
        for thread in self._threads:
            thread.join()
        for name in sorted(self._errors):
            raise self._errors[name]
        if self._unpriced:
            names = sorted(self._unpriced)
            tell(
                f"price unknown, so its calls are counted apart: {', '.join(names)}; to set it: "
                f"{show_price_setting(names[0])}"
            )

    def list_expenses(self, generation: int) -> list[Expense]:
        """Returns what the answers cost.

        Args:
            generation: The first one that is not committed.
        """
        return [
            Expense(
                generation, 0, "preflight", name, reply.prompt_tokens, reply.cached_tokens,
                reply.completion_tokens, reply.cost_usd, thinking_tokens=reply.thinking_tokens,
            )
            for name, reply in sorted(self._replies.items())
        ]  # fmt: skip

    def _check(self, endpoint: Endpoint) -> None:
        try:
            reply = endpoint.preflight()
            if reply is not None:
                self._replies[endpoint.name] = reply
            if endpoint.find_price() is None:
                self._unpriced.add(endpoint.name)
                if self._is_capped:
                    raise UsageError(
                        f"budget.max_cost_usd: the cap cannot be held, since the price of "
                        f"{endpoint.name!r} is unknown; set it (0 for a free one): "
                        f"{show_price_setting(endpoint.name)}"
                    )
        except EvolveError as error:
            self._errors[endpoint.name] = error
