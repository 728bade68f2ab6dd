"""What a run will cost before it begins, and how many slots a budget buys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evolve.errors import UsageError
from evolve.models.budget import GENEROUS_TOKENS, estimate_tokens, prompt_cap
from evolve.records.results import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evolve.models.budget import Price
    from evolve.records.chat import Message
    from evolve.settings import Settings
    from evolve.store import Store

# Typical replies, in tokens, and repair turns a slot, where no earlier run is given.
TYPICAL_TOKENS = {"planner": 1500, "editor": 1500, "summarizer": 400}
TYPICAL_REPAIRS = 0.3
_STEPS = {"planner": "plan", "editor": "edit", "summarizer": "summarize"}
# An upper estimate of tokens is about so much above what is counted.
_EXCESS = 1.5


@dataclass(frozen=True, slots=True)
class Use:
    """What a role uses in a slot.

    Attributes:
        calls: Calls in a slot.
        prompt_tokens: Tokens read in a slot.
        completion_tokens: Tokens written in a slot.
    """

    calls: float
    prompt_tokens: float
    completion_tokens: float


@dataclass(frozen=True, slots=True)
class RoleEstimate:
    """What a role will use and cost in a slot.

    Attributes:
        role: The role.
        models: Its models.
        expected: What is to be expected.
        most: What the settings allow.
        cost_usd: Price of what is to be expected, `None` when it is unknown.
        most_usd: Price of what the settings allow, with the dearest model.
    """

    role: str
    models: tuple[str, ...]
    expected: Use
    most: Use
    cost_usd: float | None
    most_usd: float | None


def estimate_roles(
    settings: Settings,
    prompts: Mapping[str, tuple[Message, ...]],
    find_price: Callable[[str], Price | None],
    like: Mapping[str, Use] | None = None,
) -> list[RoleEstimate]:
    """Returns what each role of a slot will use and cost.

    Args:
        settings: Complete, with models.
        prompts: Messages of a first slot by step.
        find_price: Returns what a model costs.
        like: What each role used in a slot of another run; None for typical numbers.
    """
    roster = settings.models.roster()
    estimates = []
    for role in _find_roles(settings):
        expected, most = _find_uses(settings, role, prompts[_STEPS[role]])
        if like is not None:
            expected = like.get(role, Use(0, 0, 0))
        weights = {item.name: item.weight for item in roster[role]}
        prices = {name: find_price(name) for name in weights}
        costs = [_cost(price, expected) for price in prices.values()]
        dear = [_cost(price, most) for price in prices.values()]
        known = [cost for cost in costs if cost is not None]
        is_known = len(known) == len(costs)
        total = sum(weights.values())
        shares = [weight / total for weight in weights.values()]
        estimates.append(
            RoleEstimate(
                role,
                tuple(weights),
                expected,
                most,
                sum(map(float.__mul__, shares, known)) if is_known else None,
                max(cost for cost in dear if cost is not None) if is_known else None,
            )
        )
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
        tokens = sum(one.expected.prompt_tokens + one.expected.completion_tokens for one in roles)
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


def measure_uses(store: Store) -> dict[str, Use]:
    """Returns what each role used in a slot of a run, on average."""
    slots = max(store.count_slots(), 1)
    totals: dict[str, Totals] = {}
    for role, _, used in store.usage():
        totals[role] = totals.get(role, Totals()) + used
    return {
        role: Use(used.calls / slots, used.prompt_tokens / slots, used.completion_tokens / slots)
        for role, used in totals.items()
    }


def _find_roles(settings: Settings) -> list[str]:
    kept = {
        "planner": settings.models.plans_apart,
        "summarizer": "summaries" not in settings.search.without,
    }
    return [role for role in TYPICAL_TOKENS if kept.get(role, True)]


def _find_uses(settings: Settings, role: str, messages: tuple[Message, ...]) -> tuple[Use, Use]:
    """Returns what is to be expected of a role in a slot, and the most that settings allow."""
    models, steps = settings.models, settings.steps
    read = sum(estimate_tokens(message.text) for message in messages)
    written = TYPICAL_TOKENS[role]
    limit = models.max_tokens or GENEROUS_TOKENS
    # Later prompts show more: up to their cap.
    most_read = max(read, prompt_cap(models, role))
    if role != "editor":
        # One call serves all slots of a generation.
        part = 1 / settings.loop.slots
        expected = Use(part, part * read / _EXCESS, part * min(written, limit))
        return expected, Use(part, part * most_read, part * limit)
    turns = 1 + TYPICAL_REPAIRS * bool(steps.repairs)
    expected = Use(turns, turns * read / _EXCESS, turns * min(written, limit))
    calls = steps.most_evaluations
    # A repair reads the turns before it, too.
    repeated = calls * steps.repairs * limit
    most = Use(calls, calls * most_read + repeated, calls * limit)
    if steps.agent_turns:
        most = Use(
            max(calls, steps.agent_turns),
            max(most.prompt_tokens, steps.agent_tokens),
            max(most.completion_tokens, steps.agent_tokens),
        )
    return expected, most


def _cost(price: Price | None, use: Use) -> float | None:
    if price is None:
        return None
    return use.prompt_tokens * price.prompt_usd + use.completion_tokens * price.completion_usd
