"""Language models: the protocol, LiteLLM, a scripted one, and the budget of their calls."""

from evolve.models.budget import Budget, Reservation
from evolve.models.choose import open_model
from evolve.models.endpoint import Endpoint, Lost
from evolve.models.gate import Gate, Limits
from evolve.models.protocol import Model, Price, ReplyError, estimate_prompt_tokens
from evolve.models.scripted import ScriptedModel

__all__ = [
    "Budget",
    "Endpoint",
    "Gate",
    "Limits",
    "Lost",
    "Model",
    "Price",
    "ReplyError",
    "Reservation",
    "ScriptedModel",
    "estimate_prompt_tokens",
    "open_model",
]
