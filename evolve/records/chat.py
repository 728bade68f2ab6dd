"""The frozen records of what is asked of language models and what they answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import zip_longest

_SHOWN_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat: `role` is `system`, `user` or `assistant`.

    Attributes:
        role: Who says it.
        text: What is said.
        pictures: What goes with it, as `data:` addresses.
    """

    role: str
    text: str
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a language model.

    Attributes:
        role: What the call is for: `planner`, `editor`, `summarizer` or `leap`.
        messages: The chat so far.
        max_tokens: Upper bound on the reply, thinking included; None for no bound of ours.
        temperature: Sent only when set.
        seed: Sent only when set; providers that ignore it are none the worse.
        schema: JSON schema of the reply, as JSON; sent only where the provider takes one, so that
            the messages must say the same in words.
        effort: How hard a model is to think, in its provider's words; sent only when set.
    """

    role: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    schema: str = ""
    effort: str = ""

    @property
    def hash(self) -> str:
        """Returns 32 hexadecimal digits that identify what is asked."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a language model answered, with its usage.

    Attributes:
        text: The reply.
        model: The model that answered.
        prompt_tokens: Tokens read, as the provider counts them.
        completion_tokens: Tokens written.
        cost_usd: Price in US dollars; `None` when it is unknown.
        seconds: Wall time of the call, retries included.
        finish_reason: `stop`, `length` or the provider's own word.
        cached_tokens: Of the tokens read, those that came from the provider's cache.
        thinking_tokens: Of the tokens written, those of thinking, as far as the provider says.
    """

    text: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0
    finish_reason: str = "stop"
    cached_tokens: int = 0
    thinking_tokens: int = 0


def describe_difference(recorded: Request, now: Request) -> str:
    """Names the first thing in which two requests differ."""
    pairs = zip_longest(recorded.messages, now.messages)
    for number, (before, after) in enumerate(pairs, start=1):
        if before is None or after is None:
            return f"{len(recorded.messages)} messages recorded, {len(now.messages)} now"
        if before.role != after.role:
            return f"message {number} was of the {before.role}, is of the {after.role}"
        lines = zip_longest(before.text.splitlines(), after.text.splitlines(), fillvalue="")
        for line, (old, new) in enumerate(lines, start=1):
            if old != new:
                return f"message {number}, line {line}: recorded {_cut(old)}, now {_cut(new)}"
    for name in ("role", "max_tokens", "temperature", "seed", "schema", "effort"):
        old, new = getattr(recorded, name), getattr(now, name)
        if old != new:
            return f"`{name}`: recorded {_cut(old)}, now {_cut(new)}"
    return "its form"


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
