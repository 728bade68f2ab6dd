"""The shapes of structured replies, as JSON schemas for providers that enforce one.

Every text is bounded: a small model under a grammar otherwise writes on until its limit of tokens.
"""

from __future__ import annotations

import json
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
