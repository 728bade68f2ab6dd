"""Settings to parts: defaults that depend on each other, models, evaluators, the budget."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.display import say_error
from evolve.errors import ProblemError, UsageError
from evolve.evaluation.evaluator import EvaluatorConfig
from evolve.evaluation.pool import Evaluators, LocalEvaluators
from evolve.problem import Problem
from evolve.records import AttemptKey, Evaluation
from evolve.records.chat import Request
from evolve.records.results import Call
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
    WORKSPACE,
    Defaults,
)
from evolve.source import holds_values, is_text
from evolve.store import Store

if TYPE_CHECKING:
    from evolve.models.budget import Budget

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
    wrong = [name for name in editors if not name.startswith("cmd:")] or (
        [] if editors else ["none"]
    )
    if wrong and not settings.models.replay:
        raise UsageError(
            f"steps.executor: `{WORKSPACE}` needs commands as editors, such as --editor "
            f'"cmd:mini -y", got {wrong[0]}'
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


def explain_no_tuning(problem: Problem, settings: Settings, seconds: float) -> str:
    """Returns why nothing is tuned in a run with a model; empty where something is.

    Args:
        problem: What is solved.
        settings: Complete.
        seconds: What the evaluation of the starting program took.
    """
    cap, files = settings.budget.max_evaluations, [path for path, _ in problem.initial.files]
    if problem.asks:
        return "each evaluation asks a model"
    if all(is_text(path) and not holds_values(path) for path in files):
        return "the program is text"
    if seconds > SLOW_SECONDS:
        return f"an evaluation takes longer than {SLOW_SECONDS:g} s"
    if cap is not None and cap < LEAST_WITH_MODEL:
        return f"the cap on evaluations is below {LEAST_WITH_MODEL}"
    return ""


def settle_tuning(problem: Problem, settings: Settings, seconds: float) -> Settings:
    """Fills in the share of tuning in a run with a model, where nobody asked for one.

    While models think, evaluators have nothing to do: in each generation so many evaluations tune
    constants as fit into that time. A cap on evaluations is shared with the slots evenly. Where
    evaluations ask models, which costs money, or programs are prose, nothing is tuned.

    Args:
        problem: What is solved.
        settings: Complete but for this.
        seconds: What the evaluation of the starting program took.
    """
    if settings.tuning.share is not None:
        return settings
    slots = settings.loop.slots
    count = min(MOST_TUNING, int(TUNING_SECONDS / max(seconds, 1e-3)))
    if settings.budget.max_evaluations is not None:
        count = min(count, slots)
    if explain_no_tuning(problem, settings, seconds):
        count = 0
    changes = {"tuning.share": count / (count + slots)}
    return change_settings(settings, changes, where="defaults")


def open_evaluators(
    problem: Problem, settings: Settings, tell: Callable[[str], None] = say_error
) -> Evaluators:
    """Returns where a problem's evaluations run; nothing is started yet.

    Args:
        problem: What is evaluated.
        settings: Complete.
        tell: Called with a line on what happens to the machines of a cluster, from any thread.

    Raises:
        ProblemError: A variable of the environment that the evaluator needs is not set, or there
            is no GPU for programs that need one.
        UsageError: A cluster is asked for, and cannot be used from here.
    """
    config = EvaluatorConfig(
        folder=problem.folder,
        evaluators=problem.world,
        parameters=settings.parameters,
        backend=settings.sandbox.backend,
        allow_weak=settings.sandbox.allow_weak,
        fresh=settings.sandbox.fresh,
        image=settings.sandbox.image,
        devices=settings.sandbox.devices,
        seconds=problem.evaluator_seconds,
        memory_mb=settings.sandbox.evaluator_memory_mb,
        environment={} if settings.cluster.address else _take_environment(problem),
    )
    if settings.cluster.address:
        from evolve.evaluation.cluster import RayEvaluators

        return RayEvaluators(problem, config, settings.cluster, tell)
    if problem.limits.get("gpus") and not settings.sandbox.devices:
        raise ProblemError(
            f"{problem.folder / 'problem.toml'}: [limits]: `gpus`: expected GPUs to show to "
            "programs, got none; `--cluster` asks a cluster for them, and `--set "
            "sandbox.devices=all` shows those of this machine (not in `native`)"
        )
    return LocalEvaluators(config, _count_processes(settings), problem.initial)


def count_threads(settings: Settings, slots_in_flight: int) -> int:
    """Returns how many slots run at a time: as many as models and evaluators can serve."""
    if settings.cluster.address:
        # Nobody knows how many nodes will join.
        return slots_in_flight
    workers = settings.loop.workers or WORKERS
    return min(slots_in_flight, 2 * workers + max(16, _count_processes(settings)))


def _count_processes(settings: Settings) -> int:
    return settings.sandbox.processes or len(os.sched_getaffinity(0))


def _take_environment(problem: Problem) -> dict[str, str]:
    """Returns the environment variables that the problem's evaluator needs."""
    lacking = [name for name in problem.environment if name not in os.environ]
    if lacking:
        raise ProblemError(
            f"{problem.folder / 'problem.toml'}: [evaluator]: `environment`: expected "
            f"{lacking[0]} to be set, got nothing; `export {lacking[0]}=...`"
        )
    return {name: os.environ[name] for name in problem.environment}


def open_recording(settings: Settings) -> Callable[[AttemptKey, Request], Call] | None:
    """Returns what answers in place of models, None where models do.

    Raises:
        UsageError: The recorded run is not there any more.
    """
    from evolve.runs.replay import Recording

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
