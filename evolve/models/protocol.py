"""What every language model offers.

A `Model` answers one `Request` with one `Reply`, by one request; an `Endpoint` makes retries of
it. Both can be called from many threads at a time. What goes wrong comes in four kinds:

- `ModelError`: the model cannot be used at all (key, name, quota); the run stops.
- `ModelUnavailableError`: it is down, however long it was waited for.
- `RetryableError`: one request failed in a way that another one may not.
- `ReplyError`: it answered with nothing that can be used; a step turns this into `Rejected`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evolve.models.incoming import Incoming
    from evolve.records.chat import Reply, Request

GENEROUS_TOKENS = 32_000
"""Tokens of a reply, thinking included, that a bound of ours leaves room for where it can."""
BYTES_PER_TOKEN = 3
"""English has about 4, code about 3.3: counting with 3 errs on the safe side."""
_SINGLE = b"0123456789.,-" + bytes(range(128, 256))


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

    def cost_of(self, reply: Reply) -> float:
        """Returns the price of a reply in US dollars."""
        cached_usd = self.prompt_usd if self.cached_usd is None else self.cached_usd
        return (
            (reply.prompt_tokens - reply.cached_tokens) * self.prompt_usd
            + reply.cached_tokens * cached_usd
            + reply.completion_tokens * self.completion_usd
        )


class ReplyError(Exception):
    """A model answered, but with nothing that can be used: the attempt is rejected.

    Args:
        reason: One line that says what came.
        reply: The usage that was paid for all the same; `None` when none was told.
    """

    def __init__(self, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply


class Model(Protocol):
    """A language model.

    Attributes:
        name: In ledgers and reports.
        is_patient: Whether it answers in its own time, as people do: no deadline holds.
        incoming: What it is sending right now.
    """

    name: str
    is_patient: bool
    incoming: Incoming

    @property
    def address(self) -> str:
        """Returns where it is asked, for messages: empty, or ` at ` and an address."""
        ...

    @property
    def remedy(self) -> str:
        """Returns what a user can do when nothing answers."""
        ...

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        """Makes one request.

        Args:
            request: What is asked.
            timeout_seconds: Wall time for the answer.

        Raises:
            RetryableError: No answer; another request may get one.
            RefusedSettingError: The provider takes all but one of the settings.
            ModelError: The model cannot be used.
            ReplyError: The answer cannot be used.
        """
        ...

    def prepare(self) -> Request | None:
        """Returns what to ask first, to see whether the model answers; None for nothing.

        Raises:
            ModelError: The model cannot be used; the message has the remedy.
        """
        ...

    def find_most_tokens(self) -> int | None:
        """Returns the most tokens of a reply, or `None` when that is unknown."""
        ...

    def find_price(self) -> Price | None:
        """Returns what the model costs, or `None` when that is unknown."""
        ...

    def close(self) -> None:
        """Wakes requests that wait; safe to call twice."""
        ...


def estimate_prompt_tokens(request: Request) -> int:
    """Returns an upper estimate of the tokens of a request's messages."""
    tokens = sum(estimate_tokens(message.text) for message in request.messages)
    return tokens + 8 * len(request.messages) + 8


def estimate_tokens(text: str) -> int:
    """Returns an upper estimate of the tokens of a text.

    Some tokenizers cut numbers into single digits, and none makes more than a token of a byte
    of other alphabets, so these count one each.
    """
    data = text.encode("utf-8", "replace")
    others = len(data.translate(None, _SINGLE))
    return len(data) - others - (-others // BYTES_PER_TOKEN)
