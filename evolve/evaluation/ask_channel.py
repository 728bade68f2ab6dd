"""The way from an evaluator's process to the models of the run, within the caps of a problem."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from evolve.problem import AskRules
from evolve.records.chat import Message, Request
from evolve.records.plain import from_plain, to_plain
from evolve.scoring.asking import AskError

ASKED, ANSWERS = "asked", "answers"
"""What a process says when it asks, and what it is answered with."""


class Answered(NamedTuple):
    """What came of a question.

    Attributes:
        text: The answer.
        error: Why there is none; empty where there is one.
    """

    text: str
    error: str = ""


Answer = Callable[[Sequence[Request]], Sequence[Answered]]
"""Answers questions, in the process that holds the models."""


class AskChannel:
    """Asks from within one evaluation at a time; safe to use from many threads.

    Args:
        rules: Who may ask, and how much.
        exchange: Sends a message and returns the answer to it.
    """

    def __init__(
        self,
        rules: Mapping[str, AskRules],
        exchange: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self._rules = rules
        self._exchange = exchange
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def begin(self) -> None:
        """Begins an evaluation: the caps are whole again."""
        self._counts.clear()

    def count(self, role: str) -> int:
        """Returns how many questions of the evaluation a role has asked."""
        return self._counts[role]

    def ask(self, role: str, prompts: Sequence[str], options: dict[str, Any]) -> list[str]:
        """Returns the answers to prompts.

        Raises:
            AskError: The role may not ask, or no more; or a prompt has no usable answer.
        """
        rules = self._rules.get(role)
        if rules is None:
            raise AskError(
                f"ask: problem.toml names no model for this: expected `model` or `calls` under "
                f"[{role}]"
            )
        if not prompts:
            return []
        with self._lock:
            # What the cache answers counts, too: a verdict must not depend on what it holds.
            self._counts[role] += len(prompts)
            if self._counts[role] > rules.calls:
                raise AskError(
                    f"ask: more than the {rules.calls} questions of an evaluation, [{role}] `calls`"
                )
            asked = [make_request(role, prompt, options, rules) for prompt in prompts]
            found = self._exchange({ASKED: to_plain(asked)})
        answers = from_plain(tuple[Answered, ...], found[ANSWERS])
        for one in answers:
            if one.error:
                raise AskError(f"ask: the model gave no usable answer: {one.error}")
        return [one.text for one in answers]


def make_request(role: str, prompt: str, options: Mapping[str, Any], rules: AskRules) -> Request:
    """Returns what a model is asked."""
    system = options.get("system", "")
    messages = (Message("system", system),) if system else ()
    request = Request(
        role,
        (*messages, Message("user", prompt)),
        max_tokens=min(options.get("max_tokens", rules.max_tokens), rules.max_tokens),
        seed=options.get("seed"),
    )
    temperature = options.get("temperature")
    return request if temperature is None else replace(request, temperature=float(temperature))


def refuse(requests: Sequence[Request]) -> Sequence[Answered]:
    """Answers nothing: where no model is connected."""
    return [Answered("", "no model is connected here") for _ in requests]
