"""How many tokens a text has: a cheap bound, and a count where the bound is not enough."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from evolve.models.loading import import_litellm
from evolve.models.roster import parse_candidate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evolve.settings.models import ModelSettings

_PIECE = re.compile(r"[A-Za-z]+|[ \t\r\n]+|.", re.DOTALL)
# Longest run of letters, and of spaces, that a tokenizer surely takes as one token.
_LETTERS, _SPACES = 3, 4
_BEYOND_ASCII = 2
_KEPT = 4096
_LARGEST_PROMPT, _UNKNOWN_PROMPT = 40_000, 12_000
_OFFLINE = ("scripted", "cmd", "manual")


class TokenCounter:
    """Counts for the models of a role, the one with the most tokens deciding; each text once.

    Args:
        models: Their names as LiteLLM knows them; for other kinds the bound is the count.
    """

    def __init__(self, models: Iterable[str]) -> None:
        self._models = [name for name in models if name.partition(":")[0] not in _OFFLINE]

    def bound(self, text: str) -> int:
        """Returns at least the tokens of a text, in microseconds."""
        return bound_tokens(text)

    def count(self, text: str) -> int:
        """Returns the tokens of a text, with the model's tokenizer where LiteLLM has it offline."""
        if not self._models:
            return bound_tokens(text)
        return max(count_tokens(model, text) for model in self._models)


def count_for(settings: ModelSettings, role: str) -> TokenCounter:
    """Returns the counter for the models that play a role."""
    return TokenCounter(parse_candidate(name).name for name in settings.names_for(role))


def prompt_cap(settings: ModelSettings, role: str) -> int:
    """Returns the most tokens of a prompt for the models that play a role.

    That is `models.digest_tokens` where it is set, else what the smallest context window among
    the models allows: a third of it, at most 40,000. The window of a model that LiteLLM's table
    lacks, such as one on a server of the user's own, is taken to be small.
    """
    if settings.digest_tokens is not None:
        return settings.digest_tokens
    names = [parse_candidate(name).name for name in settings.names_for(role)]
    return min((_cap_of(name) for name in names), default=_LARGEST_PROMPT)


@lru_cache(maxsize=_KEPT)
def _cap_of(model: str) -> int:
    if model.partition(":")[0] in _OFFLINE:
        return _LARGEST_PROMPT
    known = import_litellm().model_cost
    entry = known.get(model) or known.get(model.partition("/")[2]) or {}
    window = entry.get("max_input_tokens") or entry.get("max_tokens")
    return min(_LARGEST_PROMPT, int(window) // 3) if window else _UNKNOWN_PROMPT


@lru_cache(maxsize=_KEPT)
def bound_tokens(text: str) -> int:
    """Returns at least the tokens of a text: digits and signs are split one by one at most."""
    total = 0
    for piece in _PIECE.findall(text):
        if piece.isascii():
            size = len(piece)
            if piece.isalpha():
                total += -(-size // _LETTERS)
            elif piece.isspace():
                # A single space is taken with the word after it.
                total += 0 if piece == " " else -(-size // _SPACES)
            else:
                total += 1
        else:
            total += _BEYOND_ASCII
    return total


@lru_cache(maxsize=_KEPT)
def count_tokens(model: str, text: str) -> int:
    """Counts tokens with LiteLLM's tokenizer for a model, without asking the network for one."""
    litellm = import_litellm()
    litellm.disable_hf_tokenizer_download = True
    return int(litellm.token_counter(model=model, text=text))
