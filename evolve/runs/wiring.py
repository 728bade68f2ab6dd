"""Settings to parts: defaults, evaluators, what they ask, budgets and what they buy."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evolve.display import say_error
from evolve.errors import BudgetExhaustedError, ProblemError, UsageError
from evolve.evaluation.pool import Evaluators, LocalEvaluators, count_processes
from evolve.models.budget import Budget, estimate_tokens
from evolve.problem import Problem
from evolve.records.results import Call
from evolve.sandbox.backends import NAMES, Isolation
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
    WORKSPACE,
    Defaults,
    parse_candidate,
)
from evolve.source.parsing import holds_values, is_text
from evolve.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evolve.models.budget import Price
    from evolve.records.chat import Message
    from evolve.settings import Settings

WORKERS = 8
"""Model calls at a time, where the settings say nothing."""


def complete_settings(settings: Settings) -> Settings:
    """Fills in the defaults that depend on whether there is a model.

    Raises:
        UsageError: Some roles have a model and others none; no backend has that name; no cluster
            can be asked for from here.
    """
    if settings.sandbox.backend not in NAMES:
        names = ", ".join(NAMES)
        raise UsageError(f"--sandbox: expected one of {names}, got {settings.sandbox.backend!r}")
    if settings.cluster.address:
        from evolve.evaluation.cluster import expect_cluster

        expect_cluster(settings.cluster)
    _expect_editor(settings)
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


def _expect_editor(settings: Settings) -> None:
    """Checks that somebody can work in workspaces, where slots are carried out there."""
    if settings.steps.executor != WORKSPACE:
        return
    editors = [one.name for one in settings.models.candidates_for("editor")]
    wrong = next((name for name in editors or ["none"] if not name.startswith("cmd:")), "")
    if wrong and not settings.models.replay:
        raise UsageError(
            f"steps.executor: `{WORKSPACE}` needs commands as editors, such as --editor "
            f'"cmd:mini -y", got {wrong}'
        )
    if settings.steps.agent_turns:
        raise UsageError(
            f"steps.agent_turns: expected 0 with `steps.executor = {WORKSPACE}`, which has agents "
            f"of its own, got {settings.steps.agent_turns}"
        )


def _tuning_share(settings: Settings, defaults: Defaults) -> float | None:
    """Returns the default; None where it depends on how long an evaluation takes."""
    if STRATEGIES[settings.search.strategy].is_baseline:
        return 0.0
    share = defaults.tuning_share
    if share is None:
        return None
    is_short = share * (settings.budget.max_evaluations or math.inf) < LEAST_TUNING
    return 0.0 if is_short else share


def plan_tuning(problem: Problem, settings: Settings, seconds: float) -> tuple[int, str]:
    """Returns how many evaluations a generation with models tunes constants with, or why none.

    While models think, evaluators have nothing to do: so many evaluations tune as fit into that
    time. A cap on evaluations is shared with the slots evenly.

    Args:
        problem: What is solved.
        settings: Complete but for this.
        seconds: What the evaluation of the starting program took.
    """
    cap, files = settings.budget.max_evaluations, [path for path, _ in problem.initial.files]
    if problem.asks:
        return 0, "each evaluation asks a model"
    if all(is_text(path) and not holds_values(path) for path in files):
        return 0, "the program is text"
    if seconds > SLOW_SECONDS:
        return 0, f"an evaluation takes longer than {SLOW_SECONDS:g} s"
    if cap is not None and cap < LEAST_WITH_MODEL:
        return 0, f"the cap on evaluations is below {LEAST_WITH_MODEL}"
    count = min(MOST_TUNING, int(TUNING_SECONDS / max(seconds, 1e-3)))
    return (count if cap is None else min(count, settings.loop.slots)), ""


def open_evaluators(problem: Problem, settings: Settings) -> Evaluators:
    """Returns where a problem's evaluations run; nothing is started yet.

    Args:
        problem: What is evaluated.
        settings: Complete.

    Raises:
        ProblemError: A variable of the environment that the evaluator needs is not set, or there
            is no GPU for programs that need one.
        UsageError: A cluster is asked for, and cannot be used from here.
    """
    if settings.cluster.address:
        from evolve.evaluation.cluster import RayEvaluators

        return RayEvaluators(problem, settings)
    if problem.limits.get("gpus") and not settings.sandbox.devices:
        raise ProblemError(
            f"{problem.folder / 'problem.toml'}: [limits]: `gpus`: expected GPUs to show to "
            "programs, got none; `--cluster` asks a cluster for them, and `--set "
            "sandbox.devices=all` shows those of this machine (not in `native`)"
        )
    _expect_environment(problem)
    return LocalEvaluators(problem, settings)


def count_threads(settings: Settings, slots_in_flight: int) -> int:
    """Returns how many slots run at a time: as many as models and evaluators can serve."""
    if settings.cluster.address:
        # Nobody knows how many nodes will join.
        return slots_in_flight
    workers = settings.loop.workers or WORKERS
    return min(slots_in_flight, 2 * workers + max(16, count_processes(settings)))


def _expect_environment(problem: Problem) -> None:
    """Checks that the environment variables that the problem's evaluator needs are set."""
    if lacking := [name for name in problem.environment if name not in os.environ]:
        raise ProblemError(
            f"{problem.folder / 'problem.toml'}: [evaluator]: `environment`: expected "
            f"{lacking[0]} to be set, got nothing; `export {lacking[0]}=...`"
        )


def restore_budget(store: Store | None, settings: Settings) -> Budget:
    """Returns the caps of the settings, with what a run has used so far counted; None for none."""
    budget = Budget(settings.budget, settings.loop.workers or WORKERS)
    if store is not None:
        for role, model, used in store.usage():
            budget.restore(role, model, used)
        budget.evaluations = store.spent()["evaluations"]
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


def settle_asked(problem: Problem, settings: Settings) -> Settings:
    """Fills in the models that evaluations ask: those of the problem, else the first of the run.

    Raises:
        UsageError: The problem's programs or its evaluator ask one, and there is none.
    """
    changes = {}
    for role, rules in problem.asks.items():
        first = next(iter(settings.models.model), "")
        named = settings.models.asked.get(role) or rules.model
        name = named or (parse_candidate(first).name if first else "")
        if not name:
            who = "programs ask" if role == "program" else "the evaluator asks"
            raise UsageError(
                f"{problem.name}: {who} a language model, and none is named: `--model NAME` names "
                f"one for all, `--set models.{role}=NAME` for this alone"
            )
        changes[f"models.{role}"] = name
    return change_settings(settings, changes, where="defaults") if changes else settings


@contextmanager
def evaluating(
    problem: Problem, settings: Settings, known: Iterable[Call] | None = None
) -> Iterator[Evaluators]:
    """Yields evaluators that are ready, outside of any run; models answer what they ask.

    Args:
        problem: What is evaluated.
        settings: Complete.
        known: Calls of a run that alone answer; None where models do.

    Raises:
        UsageError: The evaluations ask a model, and none is named; or a cap would be passed.
        SandboxError: Nothing isolates programs here.
        EvaluatorError: The evaluator cannot be imported.
    """
    with ExitStack() as stack:
        evaluators = stack.enter_context(closing(open_evaluators(problem, settings)))
        if problem.asks:
            from evolve.models.roster import open_endpoints
            from evolve.steps.asker import Asker

            settings = settle_asked(problem, settings)
            endpoints = {} if known is not None else open_endpoints(settings, Path(), say_error)
            for endpoint in endpoints.values():
                stack.callback(endpoint.close)
            evaluators.asker = Asker(
                endpoints=endpoints,
                models=settings.models,
                budget=restore_budget(None, settings),
                keep=lambda _: None,
                known=known or (),
            ).answer
        evaluators.start()
        evaluators.wait()
        try:
            yield evaluators
        except BudgetExhaustedError as error:
            raise UsageError(f"what evaluations ask would pass a cap: {error}") from error


# Typical replies, in tokens, and repair turns a slot, where no earlier run is given.
TYPICAL_TOKENS = {"planner": 1500, "editor": 1500, "summarizer": 400}
TYPICAL_REPAIRS = 0.3
_STEPS = {"planner": "plan", "editor": "edit", "summarizer": "summarize"}
# An upper estimate of tokens is about so much above what is counted.
_EXCESS = 1.5


class RoleEstimate(NamedTuple):
    """What a role will use and cost in a slot.

    Attributes:
        role: The role.
        models: Its models.
        calls: Calls in a slot.
        prompt_tokens: Tokens read in a slot.
        completion_tokens: Tokens written in a slot.
        cost_usd: Their price, `None` when it is unknown.
    """

    role: str
    models: tuple[str, ...]
    calls: float
    prompt_tokens: float
    completion_tokens: float
    cost_usd: float | None


def estimate_roles(
    settings: Settings,
    prompts: Mapping[str, tuple[Message, ...]],
    find_price: Callable[[str], Price | None],
) -> list[RoleEstimate]:
    """Returns what each role of a slot will use and cost.

    Args:
        settings: Complete, with models.
        prompts: Messages of a first slot by step.
        find_price: Returns what a model costs.
    """
    roster, estimates = settings.models.roster(), []
    for role in _find_roles(settings):
        # One call serves all slots of a generation, but for edits.
        calls = 1 / settings.loop.slots
        if role == "editor":
            calls = 1 + TYPICAL_REPAIRS * bool(settings.steps.repairs)
        texts = (message.text for message in prompts[_STEPS[role]])
        read = calls * sum(map(estimate_tokens, texts)) / _EXCESS
        usual = TYPICAL_TOKENS[role]
        written = calls * min(usual, settings.models.max_tokens or usual)
        total, cost = sum(item.weight for item in roster[role]), 0.0
        prices = [find_price(item.name) for item in roster[role]]
        for item, price in zip(roster[role], prices, strict=True):
            if price is not None:
                spent = read * price.prompt_usd + written * price.completion_usd
                cost += item.weight / total * spent
        names = tuple(item.name for item in roster[role])
        cost_usd = None if None in prices else cost
        estimates.append(RoleEstimate(role, names, calls, read, written, cost_usd))
    return estimates


def expect_two_generations(settings: Settings, estimate: Callable[[], list[RoleEstimate]]) -> None:
    """Checks that each cap buys two generations with models: fewer cannot build on one another.

    Args:
        settings: Complete.
        estimate: Returns what each role uses in a slot; asked only where a cap depends on it.

    Raises:
        UsageError: A cap buys fewer.
    """
    budget, slots = settings.budget, settings.loop.slots
    if not settings.models.is_configured or settings.models.replay:
        return
    # By cap: its value, and what one generation takes.
    needs: dict[str, tuple[float | None, float]] = {
        "max_calls": (budget.max_calls, slots + len(_find_roles(settings)) - 1),
        "max_evaluations": (budget.max_evaluations and budget.max_evaluations - 1, slots),
    }
    if budget.max_tokens is not None or budget.max_cost_usd is not None:
        roles = estimate()
        tokens = sum(one.prompt_tokens + one.completion_tokens for one in roles)
        cost = sum(one.cost_usd or 0.0 for one in roles)
        needs["max_tokens"] = (budget.max_tokens, slots * tokens)
        needs["max_cost_usd"] = (budget.max_cost_usd, slots * cost)
    for name, (cap, need) in needs.items():
        if cap is not None and cap < 2 * need:
            takes = f"{need:.0f}" if need >= 1 else f"{need:.4f}"
            raise UsageError(
                f"`budget.{name}`: expected enough for two generations, of which each takes about "
                f"{takes} (`loop.slots` is {slots}), got {getattr(budget, name):g}; raise it, or "
                "lower `loop.slots`; --force runs with it"
            )


def _find_roles(settings: Settings) -> list[str]:
    kept = {
        "planner": settings.models.plans_apart,
        "summarizer": "summaries" not in settings.search.without,
    }
    return [role for role in TYPICAL_TOKENS if kept.get(role, True)]
