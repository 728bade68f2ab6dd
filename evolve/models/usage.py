"""What calls use: tokens, estimated or counted, and what they cost."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from evolve.records.chat import Reply, Request
from evolve.records.results import Totals

if TYPE_CHECKING:
    from evolve.settings.sections import ModelSettings

GENEROUS_TOKENS = 32_000
"""Tokens of a reply, thinking included, that a bound of ours leaves room for where it can."""
_PIECE = re.compile(r"[A-Za-z]+|[ \t\r\n]+|.", re.DOTALL)
# Longest run of letters, and of spaces, that a tokenizer surely takes as one token.
_LETTERS, _SPACES = 3, 4
_BEYOND_ASCII = 2
_KEPT = 4096
_LARGEST_PROMPT, _UNKNOWN_PROMPT = 40_000, 12_000
_OFFLINE = ("scripted", "cmd", "manual")


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs.

    Attributes:
        prompt_usd: US dollars per token read.
        completion_usd: US dollars per token written.
        cached_usd: US dollars per token read from the provider's cache; None for the full price.
    """

    prompt_usd: float
    completion_usd: float
    cached_usd: float | None = None

    def cost_of(self, prompt_tokens: float, completion_tokens: float, cached: int = 0) -> float:
        """Returns the price of a call in US dollars."""
        cached_usd = self.prompt_usd if self.cached_usd is None else self.cached_usd
        return (
            (prompt_tokens - cached) * self.prompt_usd
            + cached * cached_usd
            + completion_tokens * self.completion_usd
        )


FREE = Price(0.0, 0.0)


def usage_of(reply: Reply) -> Totals:
    """Returns what one answered call used."""
    return Totals(
        calls=1,
        prompt_tokens=reply.prompt_tokens,
        cached_tokens=reply.cached_tokens,
        completion_tokens=reply.completion_tokens,
        cost_usd=reply.cost_usd or 0.0,
        unpriced_calls=int(reply.cost_usd is None),
        thinking_tokens=reply.thinking_tokens,
    )


def add_usage(reply: Reply, others: list[Reply]) -> Reply:
    """Returns the reply with the usage of other replies to the same call added."""
    total = sum(map(usage_of, others), usage_of(reply))
    return replace(
        reply,
        prompt_tokens=total.prompt_tokens,
        completion_tokens=total.completion_tokens,
        cached_tokens=total.cached_tokens,
        thinking_tokens=total.thinking_tokens,
        cost_usd=None if total.unpriced_calls else total.cost_usd,
    )


class TokenCounter:
    """Counts for the models of a role, the one with the most tokens deciding; each text once.

    Args:
        models: Their names as LiteLLM knows them; for other kinds the estimate is the count.
    """

    def __init__(self, models: Iterable[str]) -> None:
        self._models = [name for name in models if name.partition(":")[0] not in _OFFLINE]

    def bound(self, text: str) -> int:
        """Returns at least the tokens of a text, in microseconds."""
        return estimate_tokens(text)

    def count(self, text: str) -> int:
        """Returns the tokens of a text, with the model's tokenizer where LiteLLM has it offline."""
        counts = [_count_tokens(model, text) for model in self._models]
        return max(counts, default=estimate_tokens(text))


def count_for(settings: ModelSettings, role: str) -> TokenCounter:
    """Returns the counter for the models that play a role."""
    return TokenCounter(candidate.name for candidate in settings.candidates_for(role))


def prompt_cap(settings: ModelSettings, role: str) -> int:
    """Returns the most tokens of a prompt for the models that play a role.

    That is `models.digest_tokens` where it is set, else what the smallest context window among
    the models allows: a third of it, at most 40,000. The window of a model that LiteLLM's table
    lacks, such as one on a server of the user's own, is taken to be small.
    """
    if settings.digest_tokens is not None:
        return settings.digest_tokens
    names = [candidate.name for candidate in settings.candidates_for(role)]
    return min((_cap_of(name) for name in names), default=_LARGEST_PROMPT)


@lru_cache(maxsize=_KEPT)
def _cap_of(model: str) -> int:
    from evolve.models.litellm_model import import_litellm

    if model.partition(":")[0] in _OFFLINE:
        return _LARGEST_PROMPT
    known = import_litellm().model_cost
    entry = known.get(model) or known.get(model.partition("/")[2]) or {}
    window = entry.get("max_input_tokens") or entry.get("max_tokens")
    return min(_LARGEST_PROMPT, int(window) // 3) if window else _UNKNOWN_PROMPT


@lru_cache(maxsize=_KEPT)
def _count_tokens(model: str, text: str) -> int:
    """Counts tokens with LiteLLM's tokenizer for a model, without asking the network for one."""
    from evolve.models.litellm_model import import_litellm

    litellm = import_litellm()
    litellm.disable_hf_tokenizer_download = True
    return int(litellm.token_counter(model=model, text=text))


@lru_cache(maxsize=_KEPT)
def estimate_tokens(text: str) -> int:
    """Returns at least the tokens of a text: digits and signs are split one by one at most."""
    total = 0
    for piece in _PIECE.findall(text):
        if not piece.isascii():
            total += _BEYOND_ASCII
        elif piece.isalpha():
            total += -(-len(piece) // _LETTERS)
        elif piece != " ":  # a single space is taken with the word after it
            total += -(-len(piece) // _SPACES)
    return total


PICTURE_TOKENS = 1600
"""About the most that a provider counts for a picture."""


def estimate_prompt_tokens(request: Request) -> int:
    """Returns at least the tokens of a request's messages."""
    tokens = sum(estimate_tokens(message.text) for message in request.messages)
    tokens += sum(PICTURE_TOKENS * len(message.pictures) for message in request.messages)
    return tokens + 8 * len(request.messages) + 8
