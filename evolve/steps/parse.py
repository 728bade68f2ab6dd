"""Structured replies: the JSON object that a model was asked for, found and checked."""

from __future__ import annotations

import json
import math
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_OBJECTS = 16
EXAMPLES = frozenset(
    {
        "why it should help",
        "what to change, precisely enough to be carried out",
        "what may go wrong",
        "one line on the outcome",
        "what in the outcome shows it",
        "what to remember",
        "what to try next",
        "what you do, in one sentence",
    }
)
"""What the prompts say in the place of each answer; small models repeat it."""


def find_object(text: str) -> dict[str, Any] | None:
    """Finds the first JSON object in a reply, whatever stands around it.

    Returns:
        The object, or None when there is none that parses.
    """
    return next(_objects_in(text), None)


def find_objects(text: str) -> list[dict[str, Any]]:
    """Finds the JSON objects in a reply, those inside another one left out."""
    return list(islice(_objects_in(text), _MOST_OBJECTS))


def _objects_in(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(strict=False)
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and value:
            yield value
        start = text.find("{", end)


def as_text(value: object, limit: int = 2000) -> str:
    """Gives a text field, empty when it is none or only repeats the prompt's example."""
    text = " ".join(value.split())[:limit] if isinstance(value, str) else ""
    return "" if text in EXAMPLES else text


def as_number(value: object) -> float | None:
    """Gives a finite number, also from text such as `"+0.02"`; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_tags(value: object) -> tuple[str, ...]:
    """Gives at most six short lower-case tags."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        return ()
    tags = (as_text(item, 40).lower() for item in items)
    return tuple(dict.fromkeys(tag for tag in tags if tag))[:6]


def as_names(value: object) -> tuple[str, ...]:
    """Gives at most six short names as they stand."""
    items = value if isinstance(value, list) else [value]
    names = (as_text(item, 40).strip("[]") for item in items)
    return tuple(dict.fromkeys(name for name in names if name))[:6]
