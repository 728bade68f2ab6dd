"""What a program or its evaluator asks a language model: who may, how much, in which form."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evolve.evaluation.evaluator import ANSWERS, ASKED, Answered
from evolve.problem import AskRules
from evolve.records.chat import Message, Request
from evolve.records.plain import from_plain, to_plain
from evolve.scoring.handle import PROGRAM, AskError, check_options


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
            if self._counts[role] + len(prompts) > rules.calls:
                raise AskError(
                    f"ask: more than the {rules.calls} questions of an evaluation, [{role}] `calls`"
                )
            self._counts[role] += len(prompts)
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


def answer_program(channel: AskChannel, asked: Any) -> list[str]:
    """Answers what a program asks, of which nothing can be trusted.

    Raises:
        TypeError: It has another form than a question.
        AskError: As `AskChannel.ask`.
    """
    if not isinstance(asked, dict) or not isinstance(asked.get("options"), dict):
        raise TypeError("ask: expected prompts and options")
    options = check_options(asked.get("prompts"), asked["options"])
    return channel.ask(PROGRAM, asked["prompts"], options)
