"""What a language model is, and what can go wrong when one is asked.

A `Model` answers one `Request` with one `Reply`, by one request; an `Endpoint` retries. Failures
come in four kinds:

- `ModelError`: the model cannot be used at all (key, name, quota); the run stops.
- `ModelUnavailableError`: it stayed down for longer than it is waited for.
- `RetryableError`: one request failed in a way that another one may not.
- `ReplyError`: it answered with nothing usable; a step turns this into `Rejected`.

Thinking that a model writes into its reply is no part of the answer. Only what stands at the head
of a reply is thinking: a program may hold such tags as text.
"""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass

from evolve.models.budget import Price
from evolve.records.chat import Message, Reply, Request

_NAMES = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reflection|reason)"
_OPEN = re.compile(
    rf"\s*(?:<{_NAMES}>|\[{_NAMES}\]|\u25c1{_NAMES}\u25b7|<\|begin_of_thought\|>"
    r"|<\|channel\|>(?:analysis|commentary)\b[^<]*<\|message\|>)",
    re.IGNORECASE,
)
_TAG = re.compile(
    rf"(?P<open><{_NAMES}>|\[{_NAMES}\]|\u25c1{_NAMES}\u25b7|<\|begin_of_thought\|>)"
    rf"|(?P<close></{_NAMES}>|\[/{_NAMES}\]|\u25c1/{_NAMES}\u25b7|<\|end_of_thought\|>"
    r"|<\|channel\|>final\b[^<]*<\|message\|>)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,}|<{5,9}|>{5,9})", re.MULTILINE)
_QUOTES = "\"'`"
_TAGS = ("<think>", "<thinking>", "<thought>", "<reasoning>", "<reflection>")


class ReplyError(Exception):
    """A model answered, but with nothing usable: the attempt is rejected.

    Args:
        reason: One line that says what came.
        reply: Its usage, which counts all the same; `None` when the provider reported none.
    """

    def __init__(self, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply


@dataclass(eq=False)
class RetryableError(Exception):
    """One request failed in a way that another one may not.

    Args:
        reason: One line that says what happened.
        retry_after_seconds: The provider's wish; `None` when it has none.
        is_outage: Whether it suggests that the model is down.
        may_be_charged: Whether the provider may charge for it all the same.
        is_loading: Whether the model will answer as soon as its server has loaded it.
    """

    reason: str
    _: KW_ONLY
    retry_after_seconds: float | None = None
    is_outage: bool = True
    may_be_charged: bool = False
    is_loading: bool = False


class RefusedSettingError(Exception):
    """The provider refused a setting, which is left out from now on: ask again at once."""


class Incoming:
    """Counts what a model sends while it answers; safe to use from many threads.

    Attributes:
        answers: How many answers are coming in now.
        characters: How many characters have come in so far, thinking included.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answers = 0
        self.characters = 0

    @contextmanager
    def answer(self) -> Iterator[Callable[[int], None]]:
        """Counts an answer from its first part to its end; yields what to call for each part."""
        has_begun = False

        def add(characters: int) -> None:
            nonlocal has_begun
            with self._lock:
                self.answers += not has_begun
                self.characters += characters
            has_begun = True

        try:
            yield add
        finally:
            with self._lock:
                self.answers -= has_begun


class Model(ABC):
    """A language model that can be asked from many threads at a time.

    Attributes:
        name: In ledgers and reports.
        is_patient: Whether it answers in its own time, as people do: no deadline holds.
        incoming: What it is sending right now.
    """

    is_patient = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.incoming = Incoming()

    @abstractmethod
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

    @property
    def address(self) -> str:
        """Returns where it is asked, for messages: empty, or ` at ` and an address."""
        return ""

    @property
    def remedy(self) -> str:
        """Returns what a user can do when nothing answers."""
        return ""

    def prepare(self) -> Request | None:
        """Returns what to ask first, to see whether the model answers; None for nothing.

        Raises:
            ModelError: The model cannot be used; the message has the remedy.
        """
        return None

    def find_most_tokens(self) -> int | None:
        """Returns the most tokens of a reply, or `None` when that is unknown."""
        return None

    def find_price(self) -> Price | None:
        """Returns what the model costs, or `None` when that is unknown."""
        return None

    def close(self) -> None:  # noqa: B027 (most models have nothing to wake)
        """Wakes requests that wait; safe to call twice."""


def format_prompt(messages: Sequence[Message]) -> str:
    """Returns a chat as one text; roles are named where there is more than one question."""
    if sum(message.role != "system" for message in messages) <= 1:
        return "\n\n".join(message.text for message in messages) + "\n"
    parts = [
        message.text if message.role == "system" else f"[{message.role}]\n\n{message.text}"
        for message in messages
    ]
    return "\n\n".join([*parts, "[assistant]"]) + "\n"


def split_thinking(text: str) -> tuple[str, bool]:
    """Returns the answer in a reply, and whether thinking ended in it that was not opened in it.

    Thinking begins with a tag such as `<think>` at the head of the reply, or at the very start
    where a server keeps the opening tag to itself; then only its closing tag is there. A tag in
    quotes is text, and so is one within a line of a fenced program, or elsewhere than at the head.
    """
    answer, is_unopened = text, False
    while True:
        opening = _OPEN.match(answer)
        start = 0 if opening is None else opening.end()
        close = _find_close(answer, start, is_open=opening is not None)
        if close is None:
            return ("" if opening is not None else answer), is_unopened
        is_unopened = is_unopened or opening is None
        answer = answer[close:].lstrip()


def begins_thinking(text: str) -> bool:
    """Returns whether a reply that was cut off holds no more than the start of an opening tag."""
    head = text.strip().lower()
    return bool(head) and any(tag.startswith(head) for tag in _TAGS)


def _find_close(text: str, start: int, *, is_open: bool) -> int | None:
    """Returns where the tag that ends the thinking ends, or None when there is none.

    Args:
        text: The reply.
        start: Where to begin to look.
        is_open: Whether there was an opening tag, which the first closing one ends; else a pair
            of tags in the text ends nothing.
    """
    fences = [found.start() for found in _FENCE.finditer(text)]
    opened = 0
    for tag in _TAG.finditer(text, start):
        passed = bisect_left(fences, tag.start())
        if _is_text(text, tag, is_code=passed % 2 == 1 and passed < len(fences)):
            continue
        if tag["close"] and (is_open or not opened):
            return tag.end()
        opened += 1 if tag["open"] else -1
    return None


def _is_text(text: str, tag: re.Match[str], *, is_code: bool) -> bool:
    """Returns whether a tag is part of what a program or sentence says, not a mark."""
    before, after = text[tag.start() - 1 : tag.start()], text[tag.end() : tag.end() + 1]
    if (before and before in _QUOTES) or (after and after in _QUOTES):
        return True
    if not is_code:
        return False
    line_start = text.rfind("\n", 0, tag.start()) + 1
    line_end = text.find("\n", tag.end())
    line = text[line_start : line_end if line_end >= 0 else len(text)]
    return line.strip() != tag.group()
