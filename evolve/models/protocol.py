"""What every language model offers.

A `Model` answers one `Request` with one `Reply` within a deadline, retries included; it can be
called from many threads at a time. What goes wrong comes in three kinds:

- `ModelError`: the model cannot be used at all (key, name, quota); the run stops.
- `ModelUnavailableError`: it did not answer within the deadline, however often it was asked.
- `ReplyError`: it answered with nothing that can be used; a step turns this into `Rejected`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from evolve.chat import Reply, Request

BYTES_PER_TOKEN = 3
"""English has about 4, code about 3.3, Chinese 3: counting with 3 errs on the safe side."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs.

    Attributes:
        prompt_usd: US dollars per token read.
        completion_usd: US dollars per token written.
    """

    prompt_usd: float
    completion_usd: float


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
    """A language model."""

    name: str

    def complete(self, request: Request, deadline_seconds: float) -> Reply:
        """Answers a request.

        Args:
            request: What is asked.
            deadline_seconds: Wall time for the answer, all retries and waits included.

        Raises:
            ModelError: The model cannot be used.
            ModelUnavailableError: No answer came within the deadline.
            ReplyError: The answer cannot be used.
        """
        ...

    def preflight(self, deadline_seconds: float = 20.0) -> None:
        """Asks for one token, to find a wrong key, name or address before the run begins.

        Raises:
            ModelError: The model cannot be used; the message has the remedy.
            ModelUnavailableError: Nothing answers at its address.
        """
        ...

    def find_price(self) -> Price | None:
        """Gives what the model costs, or `None` when that is unknown."""
        ...

    def close(self) -> None:
        """Wakes calls that wait for a retry, which then raise; safe to call twice."""
        ...


def estimate_prompt_tokens(request: Request) -> int:
    """Gives an upper estimate of the tokens of a request's messages."""
    size = sum(len(message.text.encode("utf-8", "replace")) for message in request.messages)
    return size // BYTES_PER_TOKEN + 8 * len(request.messages) + 8
