"""The models of a run: opened, priced, asked first whether they answer, and chosen for roles.

The choice is Thompson sampling with discounted counts. Rewards are asymmetric and cost counts, as
in ShinkaEvolve (Lange et al. 2025): only gains on the parent are rewarded. They are rewarded by
rank, so that the scale of the objective does not matter.
"""

from __future__ import annotations

import shlex
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from numpy.random import Generator

from evolve.archive.credit import Credit
from evolve.errors import EvolveError, UsageError
from evolve.models.budget import Price
from evolve.models.command_models import PREFIX, CommandModel, WorkspaceModel, is_address
from evolve.models.endpoint import Endpoint
from evolve.models.gate import Gate
from evolve.models.litellm_model import LiteLLMModel
from evolve.models.model import Model
from evolve.models.offline_models import MANUAL, ManualModel, ScriptedModel, load_script
from evolve.records.chat import Reply, Request
from evolve.records.results import Expense, ModelUse
from evolve.settings import Settings
from evolve.settings.sections import WORKSPACE, Candidate

# Any gain is worth half a reward; how it ranks among the last ones is worth the other half.
_GAIN = 0.5
_GAINS_KEPT = 128
_DECAY = 0.98
# Slots of a model that say what the next one will cost.
_COSTS_KEPT = 64
# This share of the choices follows the weights alone, so that no model is given up.
_EVEN = 0.1
# How much cost counts when models are chosen: 0 not at all, 1 by reward per cost.
_THRIFT = 0.5
# A free model counts as if it cost this part of the mean.
_COST_FLOOR = 0.05
# What a summarizer is good for shows only generations later.
_UNREWARDED = frozenset({"summarizer"})


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
        UsageError: A model's name has an address in it that the user has not named, or it can be
            seen from a name or setting that nothing will answer.
    """
    models = settings.models
    roster = {} if models.replay else models.roster()
    names = [candidate.name for candidates in roster.values() for candidate in candidates]
    names += [] if models.replay else models.asked.values()
    works = settings.steps.executor == WORKSPACE
    editors = [candidate.name for candidate in roster.get("editor", ()) if works]
    endpoints: dict[str, Endpoint] = {}
    for name in dict.fromkeys(names):
        entry = {**settings.endpoints.get("*", {}), **settings.endpoints.get(name, {})}
        address = entry.pop("api_base", "") or models.api_base or None
        if named is not None and is_address(name) and name not in named:
            raise UsageError(
                f"model {name!r}: its name has an address that you have not named; if you want "
                "it asked, name the model yourself, as in --model NAME"
            )
        changes: dict[str, Any] = {
            key: entry.pop(key) for key in ("drop", "rename", "extra") if key in entry
        }
        if name in editors:
            model: Model = WorkspaceModel(name.removeprefix(PREFIX), settings, folder)
        else:
            changes |= {"api_base": address, "idle_seconds": models.idle_seconds}
            changes["sends_key"] = named is None or address is None or address in named
            model = open_model(name, folder / MANUAL, tell, **changes)
        model.name = name
        # What is left of the entry limits the rate.
        seconds = models.request_seconds
        gate = Gate(f"model {name!r}", **entry, outage_seconds=seconds, tell=tell)
        price = _read_price(settings, name)
        endpoints[name] = Endpoint(model, gate=gate, price=price, request_seconds=seconds)
    return endpoints


def _read_price(settings: Settings, name: str) -> Price | None:
    """Returns the price in the settings, if there is one."""
    entry = settings.prices.get(name)
    if entry is None:
        return None
    if not {"prompt", "completion"} <= set(entry):
        raise UsageError(
            f"prices: `{name}`: expected `prompt` and `completion`, US dollars per million "
            f"tokens, got {', '.join(entry) or 'nothing'}"
        )
    return Price(**{f"{name}_usd": usd / 1e6 for name, usd in entry.items()})


def open_model(
    name: str,
    folder: Path = Path(MANUAL),
    tell: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Model:
    """Returns the model behind a name; nothing is imported or asked yet.

    Args:
        name: `scripted`, `scripted:SCRIPT.json`, `cmd:COMMAND`, `manual`, or a name LiteLLM
            knows: `provider/model`.
        folder: Where a person finds prompts.
        tell: Called with what a person is waited for, and with settings that are left out.
        options: Those of `LiteLLMModel`.

    Raises:
        UsageError: The name is empty, or there is no such script or command.
    """
    kind, _, argument = name.partition(":")
    if kind == "scripted":
        return load_script(Path(argument)) if argument else ScriptedModel()
    if name.startswith(PREFIX):
        return CommandModel(argument)
    if name == MANUAL:
        return ManualModel(folder, tell=tell)
    if not name.strip():
        raise UsageError("model: expected a name like `openai/gpt-4o-mini`, got an empty one")
    return LiteLLMModel(name, tell=tell, **options)


def show_price_setting(name: str) -> str:
    """Returns the option that sets a model's price, with a price as an example."""
    option = shlex.quote(f"prices.{name}={{prompt = 0.15, completion = 0.6}}")
    return f"--set {option} (US dollars per 1e6 tokens)"


def ask_first_words(
    endpoints: Mapping[str, Endpoint],
    generation: int,
    *,
    is_capped: bool,
    tell: Callable[[str], None],
) -> list[Expense]:
    """Asks each model for a few tokens, and reports which prices are unknown.

    Args:
        endpoints: The models of the run, by name.
        generation: The first one that is not committed.
        is_capped: Whether there is a cap on money, which needs known prices.
        tell: Called with a line for people.

    Returns:
        What the answers cost.

    Raises:
        UsageError: There is a cap on money, and a model whose price is unknown; or nobody knows
            who serves a model.
        ModelError: A model cannot be used.
    """
    replies = _ask_all(endpoints.values())
    unpriced = sorted(name for name, one in endpoints.items() if one.find_price() is None)
    if unpriced and is_capped:
        raise UsageError(
            f"budget.max_cost_usd: the cap cannot be held, since the price of {unpriced[0]!r} is "
            f"unknown; set it (0 for a free one): {show_price_setting(unpriced[0])}"
        )
    if unpriced:
        tell(
            f"price unknown, so its calls are counted apart: {', '.join(unpriced)}; to set it: "
            f"{show_price_setting(unpriced[0])}"
        )
    return [
        Expense(
            generation, 0, "preflight", reply.model, reply.prompt_tokens, reply.cached_tokens,
            reply.completion_tokens, reply.cost_usd, thinking_tokens=reply.thinking_tokens,
        )
        for reply in replies
    ]  # fmt: skip


def _ask_all(endpoints: Iterable[Endpoint]) -> list[Reply]:
    """Returns the first replies of models, in the order of their names.

    Raises:
        EvolveError: A model cannot be used.
    """
    outcomes: dict[str, Reply | EvolveError | None] = {}

    def ask(endpoint: Endpoint) -> None:
        try:
            outcomes[endpoint.name] = endpoint.preflight()
        except EvolveError as error:
            outcomes[endpoint.name] = error

    # An interrupt ends the waiting, which no pool of threads allows.
    threads = [threading.Thread(target=ask, args=(one,), daemon=True) for one in endpoints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ordered = [outcomes[name] for name in sorted(outcomes)]
    for outcome in ordered:
        if isinstance(outcome, EvolveError):
            raise outcome
    return [outcome for outcome in ordered if isinstance(outcome, Reply)]


@dataclass(frozen=True, slots=True)
class Part:
    """Who plays a role in a slot, and how.

    Attributes:
        model: Name of the model.
        temperature: Sent when it is set.
        effort: Reasoning effort, sent when it is set.
        max_tokens: Most tokens of a reply, sent when it is set.
    """

    model: str
    temperature: float | None = None
    effort: str = ""
    max_tokens: int | None = None

    def tune(self, request: Request) -> Request:
        """Returns the request as this part asks it."""
        return replace(
            request, temperature=self.temperature, effort=self.effort, max_tokens=self.max_tokens
        )


class ModelStats:
    """How well models have done in their roles; a fold over the slots of a run."""

    def __init__(self) -> None:
        self._credit = defaultdict[str, Credit](lambda: Credit(decay=_DECAY))
        self._costs = defaultdict[tuple[str, str], deque[tuple[float | None, int]]](
            lambda: deque(maxlen=_COSTS_KEPT)
        )
        self._gains: deque[float] = deque(maxlen=_GAINS_KEPT)

    def record(self, uses: Sequence[ModelUse], gain: float) -> None:
        """Adds a slot.

        Args:
            uses: Its calls in order.
            gain: What its best program gained on its parent, 0 or less for nothing.
        """
        reward = self._rank(gain)
        by_model: dict[tuple[str, str], list[ModelUse]] = {}
        for use in uses:
            by_model.setdefault((use.role, use.model), []).append(use)
        for (role, model), calls in by_model.items():
            self._credit[role].record(model, reward)
            costs = [use.cost_usd for use in calls if use.cost_usd is not None]
            cost_usd = sum(costs) if len(costs) == len(calls) else None
            self._costs[role, model].append((cost_usd, sum(use.tokens for use in calls)))

    def choose(self, role: str, candidates: Sequence[Candidate], rng: Generator) -> str:
        """Returns the name of the model that plays a role.

        Args:
            role: The role.
            candidates: At least one.
            rng: Where chance comes from.
        """
        if len(candidates) == 1 or role in _UNREWARDED or rng.random() < _EVEN:
            return draw_by_weight(candidates, rng)
        costs = self._relative_costs(role, candidates)
        values = {
            item.name: item.weight * self._credit[role].sample_rate(item.name, rng) / cost**_THRIFT
            for item, cost in zip(candidates, costs, strict=True)
        }
        return max(values, key=values.__getitem__)

    def _rank(self, gain: float) -> float:
        """Returns the reward of a gain, from 0 for none to 1 for the largest of late."""
        if gain <= 0.0:
            return 0.0
        self._gains.append(gain)
        below = sum(other < gain for other in self._gains)
        equal = sum(other == gain for other in self._gains)
        return _GAIN + (1.0 - _GAIN) * (below + 0.5 * equal) / len(self._gains)

    def _relative_costs(self, role: str, candidates: Sequence[Candidate]) -> list[float]:
        """Returns what a slot costs with each model, in parts of the mean; 1 where unknown.

        Counts money where all prices are known, else tokens.
        """
        slots = [self._costs[role, item.name] for item in candidates]
        is_priced = all(cost is not None for costs in slots for cost, _ in costs)
        means = [
            fmean((cost or 0.0) if is_priced else tokens for cost, tokens in costs)
            if costs
            else None
            for costs in slots
        ]
        known = [mean for mean in means if mean is not None]
        overall = fmean(known) if known else 0.0
        if not overall:
            return [1.0] * len(means)
        floor = _COST_FLOOR * overall
        return [1.0 if mean is None else (mean + floor) / (overall + floor) for mean in means]


def draw_by_weight(candidates: Sequence[Candidate], rng: Generator) -> str:
    """Returns the name of a model drawn with chances that follow the weights."""
    point = rng.random() * sum(candidate.weight for candidate in candidates)
    for candidate in candidates:
        point -= candidate.weight
        if point < 0.0:
            return candidate.name
    return candidates[-1].name
