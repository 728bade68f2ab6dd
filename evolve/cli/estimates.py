"""What `evolve check --estimate` prints."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from evolve.display import say

if TYPE_CHECKING:
    from pathlib import Path

    from evolve.evaluation.pool import Evaluators
    from evolve.problem import Problem
    from evolve.records import Evaluation
    from evolve.run.estimate import RoleEstimate
    from evolve.settings import Settings


def print_estimate(
    problem: Problem,
    settings: Settings,
    evaluation: Evaluation,
    evaluators: Evaluators,
    like: Path | None,
) -> None:
    """Prints what a run will cost, by role, and how many slots a budget buys."""
    from evolve.run.estimate import (
        TYPICAL_REPAIRS,
        TYPICAL_TOKENS,
        estimate_roles,
        measure_uses,
    )
    from evolve.run.wiring import open_endpoints
    from evolve.search.previews import preview_prompts
    from evolve.store import Store

    if not settings.models.is_configured:
        say("estimate  no model is configured: a run costs no money")
        return
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
    say(f"estimate  from {basis}")
    for role in roles:
        use = role.expected
        say(
            f"  {role.role:<10}  {', '.join(role.models)}  {use.calls:.1f} calls  "
            f"{use.prompt_tokens:.0f} read  {use.completion_tokens:.0f} written  "
            f"{_money(role.cost_usd)} a slot, at most {_money(role.most_usd)}"
        )
    _print_totals(roles, settings)


def _print_totals(roles: list[RoleEstimate], settings: Settings) -> None:
    slots = (settings.loop.generations or 0) * settings.loop.slots
    tokens = sum(role.expected.prompt_tokens + role.expected.completion_tokens for role in roles)
    costs = [role.cost_usd for role in roles if role.cost_usd is not None]
    dear = [role.most_usd for role in roles if role.most_usd is not None]
    is_known = len(costs) == len(roles)
    cost_usd, most_usd = (sum(costs), sum(dear)) if is_known else (None, None)
    say(
        f"  a run of {slots} slots: {slots * tokens:.0f} tokens, "
        f"{_money(None if cost_usd is None else slots * cost_usd)}, "
        f"at most {_money(None if most_usd is None else slots * most_usd)}"
    )
    cap = settings.budget.max_cost_usd
    if cost_usd is None:
        from evolve.run.wiring import show_price_setting

        names = [name for role in roles if role.cost_usd is None for name in role.models]
        say(f"  a model's price is unknown: set it, as in {show_price_setting(names[0])}")
    elif most_usd is not None and cap is not None and cost_usd:
        say(f"  ${cap:g} buys about {cap / cost_usd:.0f} slots, at least {cap // most_usd:.0f}")


def _money(cost_usd: float | None) -> str:
    return "an unknown price" if cost_usd is None else f"${cost_usd:.4f}"
