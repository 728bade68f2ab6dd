"""The shapes of structured replies, as JSON schemas for providers that enforce one.

Every text is bounded: a small model under a grammar otherwise writes on until its limit of tokens.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

CAUSES = ("idea", "implementation", "time", "noise")


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
