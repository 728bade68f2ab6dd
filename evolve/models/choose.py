"""A model's name to the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evolve.errors import ModelError
from evolve.models.litellm_model import LiteLLMModel
from evolve.models.scripted import ScriptedModel, load_script

if TYPE_CHECKING:
    from evolve.models.protocol import Model


def open_model(name: str, *, api_base: str | None = None) -> Model:
    """Finds the model behind a name; nothing is imported or asked yet.

    Args:
        name: `scripted`, `scripted:SCRIPT.json`, or a name LiteLLM knows: `provider/model`.
        api_base: Address of the provider, when it is not its usual one.

    Raises:
        ModelError: The name is empty, or a script cannot be read.
    """
    kind, _, argument = name.partition(":")
    if kind == "scripted":
        return load_script(Path(argument)) if argument else ScriptedModel()
    if not name.strip():
        raise ModelError("model: expected a name like `openai/gpt-4o-mini`, got an empty one")
    return LiteLLMModel(name, api_base=api_base)
