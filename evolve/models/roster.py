"""The models of a run: opened by their names, priced, and asked first whether they answer."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from evolve.errors import EvolveError, UsageError
from evolve.models.accepted import RequestChanges
from evolve.models.budget import Price
from evolve.models.coding_agents import WorkspaceModel
from evolve.models.endpoint import Endpoint
from evolve.models.gate import Gate, RateLimits
from evolve.models.litellm_model import LiteLLMModel
from evolve.models.model import Model
from evolve.models.scripted import ScriptedModel, load_script
from evolve.models.text_models import MANUAL, PREFIX, CommandModel, ManualModel, is_address
from evolve.records.chat import Reply
from evolve.records.results import Expense
from evolve.settings import Settings
from evolve.settings.sections import WORKSPACE


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
    editors = [candidate.name for candidate in roster.get("editor", ())]
    endpoints: dict[str, Endpoint] = {}
    for name in dict.fromkeys([*names, *(models.fallbacks if roster else ())]):
        entry = {**settings.endpoints.get("*", {}), **settings.endpoints.get(name, {})}
        address = entry.pop("api_base", "") or models.api_base or None
        if named is not None and is_address(name) and name not in named:
            raise UsageError(
                f"model {name!r}: its name has an address that you have not named; if you want "
                "it asked, name the model yourself, as in --model NAME"
            )
        if works and name in editors:
            endpoints[name] = _open_workspace(settings, name, folder, tell)
            continue
        model = open_model(
            name,
            api_base=address,
            sends_key=named is None or address is None or address in named,
            folder=folder / MANUAL,
            idle_seconds=models.idle_seconds,
            changes=RequestChanges(
                entry.pop("drop", ()), entry.pop("rename", {}), entry.pop("extra", {})
            ),
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


def _open_workspace(
    settings: Settings, name: str, folder: Path, tell: Callable[[str], None]
) -> Endpoint:
    """Returns the command that works in workspaces.

    Raises:
        UsageError: The command cannot be found, or a variable that it gets is not set.
    """
    steps, seconds = settings.steps, settings.models.request_seconds
    lacking = [one for one in steps.workspace_variables if one not in os.environ]
    if lacking:
        raise UsageError(
            f"steps.workspace_variables: expected {lacking[0]} to be set, got nothing; "
            f"`export {lacking[0]}=...`"
        )
    model = WorkspaceModel(
        name.removeprefix(PREFIX),
        passed=steps.workspace_variables,
        shown=steps.workspace_shows,
        hidden=(folder.resolve(),),
        seconds=seconds,
        allow_weak=settings.sandbox.allow_weak,
    )
    gate = Gate(f"model {name!r}", limits=RateLimits(), outage_seconds=seconds, tell=tell)
    return Endpoint(
        model, name=name, gate=gate, price=_read_price(settings, name), request_seconds=seconds
    )


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
    cached = entry.get("cached")
    return Price(
        entry["prompt"] / 1e6, entry["completion"] / 1e6, None if cached is None else cached / 1e6
    )


def open_model(
    name: str,
    *,
    api_base: str | None = None,
    sends_key: bool = True,
    folder: Path | None = None,
    idle_seconds: float = 120.0,
    changes: RequestChanges | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Model:
    """Returns the model behind a name; nothing is imported or asked yet.

    Args:
        name: `scripted`, `scripted:SCRIPT.json`, `cmd:COMMAND`, `manual`, or a name LiteLLM
            knows: `provider/model`.
        api_base: Address of the provider, when it is not its usual one.
        sends_key: Whether the provider's key may go to that address.
        folder: Where a person finds prompts; the current folder's `manual` by default.
        idle_seconds: Longest silence within an answer that has begun.
        changes: What requests have otherwise than usual.
        tell: Called with what a person is waited for, and with settings that are left out.

    Raises:
        UsageError: The name is empty, or there is no such script or command.
    """
    kind, _, argument = name.partition(":")
    if kind == "scripted":
        return load_script(Path(argument)) if argument else ScriptedModel()
    if name.startswith(PREFIX):
        return CommandModel(argument)
    if name == MANUAL:
        return ManualModel(folder or Path(MANUAL), tell=tell)
    if not name.strip():
        raise UsageError("model: expected a name like `openai/gpt-4o-mini`, got an empty one")
    return LiteLLMModel(
        name,
        api_base=api_base,
        sends_key=sends_key,
        idle_seconds=idle_seconds,
        changes=changes or RequestChanges(),
        tell=tell,
    )


def show_price_setting(name: str) -> str:
    """Returns the option that sets a model's price, with a price as an example."""
    option = shlex.quote(f"prices.{name}={{prompt = 0.15, completion = 0.6}}")
    return f"--set {option} (US dollars per 1e6 tokens)"


class Preflight:
    """Asks each model for a few tokens during the first evaluation.

    Args:
        endpoints: The models of the run, by name.
        is_capped: Whether there is a cap on money, which needs known prices.
        on_error: Called when a model cannot be used, from any thread.
    """

    def __init__(
        self, endpoints: Mapping[str, Endpoint], *, is_capped: bool, on_error: Callable[[], None]
    ) -> None:
        self._is_capped = is_capped
        self._on_error = on_error
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
            UsageError: There is a cap on money, and a model whose price is unknown; or nobody
                knows who serves a model.
            ModelError: A model cannot be used.
        """
        for thread in self._threads:
            thread.join()
        self.expect_usable()
        if self._unpriced:
            names = sorted(self._unpriced)
            tell(
                f"price unknown, so its calls are counted apart: {', '.join(names)}; to set it: "
                f"{show_price_setting(names[0])}"
            )

    def expect_usable(self) -> None:
        """Checks the models that have answered so far.

        Raises:
            UsageError: As for `wait`.
            ModelError: A model cannot be used.
        """
        for name in sorted(self._errors):
            raise self._errors[name]

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
            self._on_error()
