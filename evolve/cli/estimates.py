"""What `evolve check --estimate` prints."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from evolve.display import TextTable, say
from evolve.errors import UsageError
from evolve.evaluation.pool import Evaluators
from evolve.models.roster import open_endpoints, show_price_setting
from evolve.problem import Problem
from evolve.records import Evaluation
from evolve.runs.estimate import (
    TYPICAL_REPAIRS,
    TYPICAL_TOKENS,
    RoleEstimate,
    estimate_roles,
    expect_two_generations,
    measure_uses,
)
from evolve.search.previews import preview_prompts
from evolve.settings import Settings
from evolve.store import Store


def estimate_costs(
    problem: Problem,
    settings: Settings,
    evaluation: Evaluation,
    evaluators: Evaluators,
    like: Path | None,
) -> tuple[list[str | TextTable], dict[str, Any]]:
    """Returns what a run will cost, by role, and how many slots a budget buys: shown and as data.

    Args:
        problem: Of the run.
        settings: Complete.
        evaluation: Of the starting program.
        evaluators: Running.
        like: Folder of a run whose slots are typical; None for typical numbers.
    """
    if not settings.models.is_configured:
        return ["estimate  no model is configured: a run costs no money"], {"roles": []}
    uses = None
    basis = ", ".join(f"{tokens} tokens of the {role}" for role, tokens in TYPICAL_TOKENS.items())
    basis = f"prompts of a first slot, {basis}, {TYPICAL_REPAIRS:g} repairs a slot"
    if like is not None:
        with closing(Store.open_to_read(like)) as store:
            uses = measure_uses(store)
        basis = f"a slot of {like}, on average"
    prompts = preview_prompts(problem, settings, evaluation, evaluators.evaluate)
    endpoints = open_endpoints(settings, problem.folder, say)
    roles = estimate_roles(settings, prompts, lambda name: endpoints[name].find_price(), uses)
    head = ("role", "models", "calls a slot", "read", "written", "a slot")
    table = TextTable(head, [_list_role(role) for role in roles])
    lines, totals = _describe_totals(roles, settings)
    lines += [
        f"what the {who} asks comes on top: at most {rules.calls} questions an evaluation, each "
        f"answered with at most {rules.max_tokens} tokens"
        for who, rules in problem.asks.items()
    ]
    data = {"basis": basis, "roles": [role._asdict() for role in roles], **totals}
    try:
        expect_two_generations(settings, lambda: roles)
    except UsageError as error:
        data["refused"] = str(error)
    return [f"estimate  from {basis}", table, *lines], data


def _list_role(role: RoleEstimate) -> list[str]:
    return [
        role.role,
        ", ".join(role.models),
        f"{role.calls:.1f}",
        f"{role.prompt_tokens:.0f}",
        f"{role.completion_tokens:.0f}",
        _money(role.cost_usd),
    ]


def _describe_totals(
    roles: list[RoleEstimate], settings: Settings
) -> tuple[list[str], dict[str, Any]]:
    slots = (settings.loop.generations or 0) * settings.loop.slots
    tokens = slots * sum(role.prompt_tokens + role.completion_tokens for role in roles)
    unpriced = [name for role in roles if role.cost_usd is None for name in role.models]
    cost = None if unpriced else sum(role.cost_usd or 0.0 for role in roles)
    total = None if cost is None else slots * cost
    lines = [f"a run of {slots} slots: {tokens:.0f} tokens, {_money(total)}"]
    cap = settings.budget.max_cost_usd
    if unpriced:
        example = show_price_setting(unpriced[0])
        lines.append(f"a model's price is unknown: set it, as in {example}")
    elif cap is not None and cost:
        lines.append(f"${cap:g} buys about {cap / cost:.0f} slots")
    return lines, {"slots": slots, "tokens": tokens, "cost_usd": total}


def _money(cost_usd: float | None) -> str:
    return "an unknown price" if cost_usd is None else f"${cost_usd:.4f}"
