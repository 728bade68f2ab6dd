"""What a run will cost before it begins, and how many slots a budget buys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import UsageError
from evolve.models.budget import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evolve.models.budget import Price
    from evolve.records.chat import Message
    from evolve.settings import Settings

# Typical replies, in tokens, and repair turns a slot, where no earlier run is given.
TYPICAL_TOKENS = {"planner": 1500, "editor": 1500, "summarizer": 400}
TYPICAL_REPAIRS = 0.3
_STEPS = {"planner": "plan", "editor": "edit", "summarizer": "summarize"}
# An upper estimate of tokens is about so much above what is counted.
_EXCESS = 1.5


class Use(NamedTuple):
    """What a role uses in a slot, on average.

    Attributes:
        calls: Calls in a slot.
        prompt_tokens: Tokens read in a slot.
        completion_tokens: Tokens written in a slot.
    """

    calls: float
    prompt_tokens: float
    completion_tokens: float


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
    roster = settings.models.roster()
    estimates = []
    for role in _find_roles(settings):
        use = _expect_use(settings, role, prompts[_STEPS[role]])
        total = sum(item.weight for item in roster[role])
        costs: list[float] = []
        for item in roster[role]:
            if (price := find_price(item.name)) is not None:
                cost = use.prompt_tokens * price.prompt_usd
                cost += use.completion_tokens * price.completion_usd
                costs.append(item.weight / total * cost)
        cost_usd = sum(costs) if len(costs) == len(roster[role]) else None
        names = tuple(item.name for item in roster[role])
        estimates.append(RoleEstimate(role, names, *use, cost_usd))
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


def _expect_use(settings: Settings, role: str, messages: tuple[Message, ...]) -> Use:
    read = sum(estimate_tokens(message.text) for message in messages) / _EXCESS
    written = TYPICAL_TOKENS[role]
    # One call serves all slots of a generation, but for edits.
    calls = 1 / settings.loop.slots
    if role == "editor":
        calls = 1 + TYPICAL_REPAIRS * bool(settings.steps.repairs)
    return Use(calls, calls * read, calls * min(written, settings.models.max_tokens or written))
