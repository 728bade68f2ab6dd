"""Asking a language model from an evaluator: as a judge, or on behalf of a program.

The evaluator's process has no keys and no network of its own use: what is asked goes to the run,
which asks the model within its caps, records the answer, and answers equal questions from the
record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

PROGRAM, EVALUATOR = "program", "evaluator"
"""On whose behalf a model is asked, which is the role of the call."""

Channel = Callable[[str, Sequence[str], dict[str, Any]], list[str]]
_OPTIONS = {"system": str, "max_tokens": int, "temperature": float, "seed": int}
_MOST_CHARACTERS = 400_000
_channel: Channel | None = None
_count: Callable[[str], int] | None = None


class AskError(RuntimeError):
    """A model cannot be asked: the problem allows none, the cap is reached, or no answer came."""


def connect(channel: Channel, count: Callable[[str], int]) -> None:
    """Sets what is called for questions, with role, prompts and options, and what counts them."""
    global _channel, _count
    _channel, _count = channel, count


def count_asked(role: str) -> int:
    """Returns how many questions of the present evaluation a role has asked."""
    return 0 if _count is None else _count(role)


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


def ask_as(role: str, prompts: Sequence[str], options: dict[str, Any]) -> list[str]:
    """Asks on behalf of a role; raises as `ask`."""
    if _channel is None:
        raise AskError("ask: a model can be asked only while evolve evaluates a program")
    return _channel(role, list(prompts), check_options(prompts, options))


def check_options(prompts: object, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options that are given, once all is of the right type.

    Raises:
        TypeError: Something is not.
    """
    if not isinstance(prompts, list | tuple):
        raise TypeError(f"ask_all: expected a list of texts, got {type(prompts).__name__}")
    for prompt in prompts:
        if type(prompt) is not str or not prompt.strip() or len(prompt) > _MOST_CHARACTERS:
            raise TypeError(
                f"ask: expected a text of 1 to {_MOST_CHARACTERS} characters, got {prompt!r:.80}"
            )
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
