"""A model's name to the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evolve.errors import ModelError
from evolve.models.command_model import PREFIX, CommandModel
from evolve.models.litellm_model import LiteLLMModel
from evolve.models.manual_model import NAME as MANUAL
from evolve.models.manual_model import ManualModel
from evolve.models.scripted import ScriptedModel, load_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from evolve.models.protocol import Model


def open_model(
    name: str,
    *,
    api_base: str | None = None,
    sends_key: bool = True,
    folder: Path | None = None,
    idle_seconds: float = 120.0,
    drop: Iterable[str] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Model:
    """Finds the model behind a name; nothing is imported or asked yet.

    Args:
        name: `scripted`, `scripted:SCRIPT.json`, `cmd:COMMAND`, `manual`, or a name LiteLLM
            knows: `provider/model`.
        api_base: Address of the provider, when it is not its usual one.
        sends_key: Whether the provider's key may go to that address.
        folder: Where a person finds prompts; the current folder's `manual` by default.
        idle_seconds: Longest silence within an answer that has begun.
        drop: Settings that are never sent.
        tell: Called with what a person is waited for, and with settings that are left out.

    Raises:
        ModelError: The name is empty, or a script or command cannot be read.
    """
    kind, _, argument = name.partition(":")
    if kind == "scripted":
        return load_script(Path(argument)) if argument else ScriptedModel()
    if name.startswith(PREFIX):
        return CommandModel(argument)
    if name == MANUAL:
        return ManualModel(folder or Path(MANUAL), tell=tell)
    if not name.strip():
        raise ModelError("model: expected a name like `openai/gpt-4o-mini`, got an empty one")
    return LiteLLMModel(
        name,
        api_base=api_base,
        sends_key=sends_key,
        idle_seconds=idle_seconds,
        drop=drop,
        tell=tell,
    )
