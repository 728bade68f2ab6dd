"""The shapes of structured replies, as JSON schemas for providers that enforce one.

Every text is bounded: a small model under a grammar otherwise writes on until its limit of tokens.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CAUSES = ("idea", "implementation", "time", "noise")
PLAN_KEYS = {
    "hypothesis": "why the change should help",
    "change": "what to change, precisely enough to be carried out",
    "predicted_gain": "the gain to expect, a number in the units of the objective; positive is "
    "better",
    "risk": "what may go wrong",
    "tags": "a list of one to four words that name the idea",
    "lessons": "a list of the ids of the lessons that the change follows, often empty",
}
SUMMARY_KEYS = {
    "verdict": "one line on the outcome",
    "cause": "what decided the outcome, one of `idea` (the change itself is right or wrong), "
    "`implementation` (it was carried out badly), `time` (the program ran out of time), `noise` "
    "(the difference means nothing)",
    "evidence": "what in the outcome shows it",
    "lesson": "what to remember",
    "tags": "a list of one to four words that name the idea",
    "next": "what to try next",
}
MEANINGS = frozenset(
    meaning.lower() for keys in (PLAN_KEYS, SUMMARY_KEYS) for meaning in keys.values()
)
"""What prompts say of each key; small models repeat it as their answer."""


def list_keys(keys: Mapping[str, str]) -> str:
    """Gives keys and what they hold, as a list in Markdown.

    An example of the whole object would do as well for a large model; small ones copy it.
    """
    return "\n".join(f"- `{key}`: {meaning}" for key, meaning in keys.items())


def _text(most: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": most}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


_TAGS = _list(_text(30), 4)
SUMMARY = json.dumps(
    _object(
        verdict=_text(300),
        cause={"type": "string", "enum": list(CAUSES)},
        evidence=_text(300),
        lesson=_text(500),
        tags=_TAGS,
        next=_text(300),
    )
)
_PLAN = _object(
    hypothesis=_text(400),
    change=_text(900),
    predicted_gain={"type": "number"},
    risk=_text(300),
    tags=_TAGS,
    lessons={"type": "array", "items": _text(20), "maxItems": 4},
)
PLAN = json.dumps(_PLAN)


@cache
def plans(count: int) -> str:
    """Gives the shape of several plans in one reply."""
    return json.dumps(_object(plans={**_list(_PLAN, count), "minItems": count}))


def line_edits(first: int, last: int) -> str:
    """Gives the shape of edits that name lines by their numbers, both ends included."""
    number = {"type": "integer", "minimum": first, "maximum": last}
    lines = {"type": "array", "items": _text(160), "maxItems": 60}
    edit = _object(first=number, last=number, lines=lines)
    return json.dumps(_object(idea=_text(300), edits=_list(edit, 6)))
