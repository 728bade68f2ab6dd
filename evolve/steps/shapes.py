"""The shapes of structured replies, as JSON schemas for providers that enforce one.

Every text is bounded: a small model under a grammar otherwise writes on until its limit of tokens.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any


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
    return {"type": "array", "items": items, "maxItems": most}


_TAGS = _list(_text(40), 4)
_IDS = _list(_text(20), 6)
SUMMARY = json.dumps(
    _object(
        verdict=_text(500),
        lessons=_list(
            _object(
                claim=_text(1000),
                evidence=_text(600),
                scope=_text(400),
                works={"type": "boolean"},
                tags=_TAGS,
            ),
            3,
        ),
        outdated=_IDS,
    )
)


@cache
def plans(count: int, *, follows_lessons: bool) -> str:
    """Returns the shape of so many plans in one reply."""
    plan = _object(
        base=_text(20),
        change=_text(8000),
        why=_text(1000),
        tags=_TAGS,
        expect={"type": "number"},
        **({"lessons": _IDS} if follows_lessons else {}),
    )
    return json.dumps(_object(plans=_list(plan, count)))
