"""Models that an evaluation asks: an evaluator as a judge, or a program.

The evaluator's process has no keys and no network of its own use: what is asked goes to the run,
which asks the model within its caps, records the answer, and answers equal questions from the
record.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evolve.errors import AskError
from evolve.problem import AskRules
from evolve.records.chat import Message, Request

PROGRAM, EVALUATOR = "program", "evaluator"
"""On whose behalf a model is asked, which is the role of the call."""

_OPTIONS = {"system": str, "max_tokens": int, "temperature": float, "seed": int}
_MOST_CHARACTERS = 400_000


class AskChannel:
    """Asks from within one evaluation at a time; safe to use from many threads.

    Args:
        rules: Who may ask, and how much.
        exchange: Sends questions to the run, and returns text and error of each answer.

    Attributes:
        counts: How many questions of the evaluation each role has asked.
    """

    def __init__(
        self,
        rules: Mapping[str, AskRules],
        exchange: Callable[[list[Request]], Sequence[tuple[str, str]]],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._rules = rules
        self._exchange = exchange
        self._lock = threading.Lock()

    def ask(self, role: str, prompts: object, options: Mapping[str, Any]) -> list[str]:
        """Returns the answers to prompts.

        Raises:
            AskError: The role may not ask, or no more; or a prompt has no usable answer.
            TypeError: A prompt or an option has another type.
        """
        asked = check_prompts(prompts)
        given = check_options(options)
        rules = self._rules.get(role)
        if rules is None:
            raise AskError(
                f"ask: problem.toml names no model for this: expected `model` or `calls` under "
                f"[{role}]"
            )
        if not asked:
            return []
        with self._lock:
            # What the cache answers counts, too: a verdict must not depend on what it holds.
            if self.counts[role] + len(asked) > rules.calls:
                raise AskError(
                    f"ask: more than the {rules.calls} questions of an evaluation, [{role}] `calls`"
                )
            self.counts[role] += len(asked)
            requests = [_make_request(role, one, rules.max_tokens, **given) for one in asked]
            answers = self._exchange(requests)
        for _, error in answers:
            if error:
                raise AskError(f"ask: the model gave no usable answer: {error}")
        return [text for text, _ in answers]

    def answer_program(self, asked: Any) -> list[str]:
        """Answers what a program asks, of which nothing can be trusted; raises as `ask`."""
        if not isinstance(asked, dict) or not isinstance(asked.get("options"), dict):
            raise TypeError("ask: expected prompts and options")
        return self.ask(PROGRAM, asked.get("prompts"), asked["options"])


channels: list[AskChannel] = []
"""What the functions of this module ask: none, or that of the evaluator's process."""


def ask(prompt: str, **options: Any) -> str:
    """Asks the model that judges for an evaluator: `[evaluator] model` of `problem.toml`.

    Args:
        prompt: The question.
        **options: `system`, a text before it; `max_tokens`, `temperature` and `seed`, sent where
            they are given.

    Returns:
        The answer; the same one for the same question and options, all through a run.

    Raises:
        AskError: No model may be asked, the cap of an evaluation is reached, or no usable answer
            came.
        TypeError: The prompt or an option has another type.
    """
    return ask_all([prompt], **options)[0]


def ask_all(prompts: Sequence[str], **options: Any) -> list[str]:
    """Asks several questions at a time, as `ask` does, and returns the answers in their order."""
    return ask_as(EVALUATOR, prompts, options)


def ask_as(role: str, prompts: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """Asks on behalf of a role; raises as `ask`."""
    if not channels:
        raise AskError("ask: a model can be asked only while evolve evaluates a program")
    return channels[0].ask(role, prompts, options)


def count_asked(role: str) -> int:
    """Returns how many questions of the present evaluation a role has asked."""
    return channels[0].counts[role] if channels else 0


def check_prompts(prompts: object) -> Sequence[str]:
    """Returns prompts, once they are checked.

    Raises:
        TypeError: They are no list of texts that can be sent.
    """
    if not isinstance(prompts, list | tuple):
        raise TypeError(f"ask_all: expected a list of texts, got {type(prompts).__name__}")
    for prompt in prompts:
        if type(prompt) is not str or not prompt.strip() or len(prompt) > _MOST_CHARACTERS:
            raise TypeError(
                f"ask: expected a text of 1 to {_MOST_CHARACTERS} characters, got {prompt!r:.80}"
            )
    return prompts


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that are given, once all is of the right type.

    Raises:
        TypeError: Something is not.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        kind = _OPTIONS.get(name)
        if kind is None:
            raise TypeError(f"ask: unknown option `{name}`; known: {', '.join(_OPTIONS)}")
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise TypeError(f"ask: `{name}`: expected {kind.__name__}, got {value!r:.80}")
    if given.get("max_tokens", 1) < 1 or not 0.0 <= given.get("temperature", 0.0) <= 2.0:
        raise TypeError("ask: expected `max_tokens` of at least 1 and a `temperature` of 0 to 2")
    return given


def _make_request(
    role: str, prompt: str, most_tokens: int, *, system: str = "", max_tokens: int | None = None,
    **sampling: Any,
) -> Request:  # fmt: skip
    messages = [Message("system", system)] if system else []
    tokens = min(max_tokens or most_tokens, most_tokens)
    return Request(role, (*messages, Message("user", prompt)), tokens, **sampling)
