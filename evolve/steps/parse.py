"""Structured replies: the JSON object that a model was asked for, found and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

_MOST_OBJECTS = 16
# Of an object that was cut off no more is looked at: replies may be of any length.
_LONGEST_CUT = 100_000


def find_object(text: str) -> dict[str, Any] | None:
    """Returns the first JSON object in a reply, whatever stands around it.

    Returns:
        The object, or None when there is none that parses.
    """
    return next(_objects_in(text), None)


def find_objects(text: str) -> list[dict[str, Any]]:
    """Returns the JSON objects in a reply, those inside another one left out."""
    return list(islice(_objects_in(text), _MOST_OBJECTS))


def finish_object(text: str) -> dict[str, Any] | None:
    """Returns what was written of an object whose end was cut off, its last text as far as it goes.

    Not for edits: half of one would be another one.
    """
    start = text.find("{")
    if start < 0:
        return None
    written = text[start : start + _LONGEST_CUT]
    missing, comma = _find_end(written)
    for complete in (written + missing, written[:comma] + _find_end(written[:comma])[0]):
        try:
            value = json.loads(complete, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and value:
            return value
    return None


def _find_end(written: str) -> tuple[str, int]:
    """Returns the marks missing at the end, and the place of the last comma outside text."""
    closing: list[str] = []
    comma = 0
    is_text = is_escaped = False
    for index, mark in enumerate(written):
        if is_text:
            is_text = is_escaped or mark != '"'
            is_escaped = mark == "\\" and not is_escaped
        elif mark == '"':
            is_text = True
        elif mark in "{[":
            closing.append("}" if mark == "{" else "]")
        elif mark in "}]" and closing:
            closing.pop()
        elif mark == ",":
            comma = index
    # A backslash without what it stands before is taken for itself.
    return "\\" * is_escaped + '"' * is_text + "".join(reversed(closing)), comma


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
    """Returns a text field on one line, cut at a sentence where it is long; empty for others."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    end = max(cut.rfind(mark) for mark in (". ", "; ", "! ", "? "))
    return cut[: end + 1] if end > limit // 2 else cut


def as_tags(value: object) -> tuple[str, ...]:
    """Returns at most six short lower-case tags."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        return ()
    tags = (as_text(item, 40).lower() for item in items)
    return tuple(dict.fromkeys(tag for tag in tags if tag))[:6]


def as_names(value: object) -> tuple[str, ...]:
    """Returns at most six short names as they stand."""
    items = value if isinstance(value, list) else [value]
    names = (as_text(item, 40).strip("[]") for item in items)
    return tuple(dict.fromkeys(name for name in names if name))[:6]


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
def plans_shape(count: int, *, follows_lessons: bool) -> str:
    """Returns the shape of so many plans in one reply."""
    plan = _object(
        base=_text(20),
        change=_text(8000),
        why=_text(1000),
        tags=_TAGS,
        **({"lessons": _IDS} if follows_lessons else {}),
    )
    return json.dumps(_object(plans=_list(plan, count)))
