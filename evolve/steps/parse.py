"""Structured replies: the JSON object that a model was asked for, found and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from typing import Any

_MOST_OBJECTS = 64
_MOST_MENDED = 50
_DEEPEST = 4
# Of an object that was cut off no more is looked at: replies may be of any length.
_LONGEST_CUT = 100_000
_GAP = r"(?:\s|//[^\n]*|/\*.{0,2000}?\*/|\#[^\n]*)*"
# Where an object begins that has at least one key.
_KEYED = re.compile(rf"\{{{_GAP}(?:\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[A-Za-z_]\w*)\s*:", re.DOTALL)
# What is written in an object like one of JSON, of JavaScript or of Python.
_TOKEN = re.compile(
    r"(?P<text>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|(?P<comment>//[^\n]*|/\*.*?\*/|\#[^\n]*)"
    rf"|(?P<name>[A-Za-z_]\w*)|(?P<extra>,(?={_GAP}[}}\]])|\+(?=[\d.]))|(?P<mark>[{{}}\[\]])",
    re.DOTALL,
)
_NAMES = {"True": "true", "False": "false", "None": "null"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
# Commands of LaTeX that begin like escapes of JSON which nobody writes there.
_COMMAND = re.compile(r"\\(?:[bf][a-z]|(?:theta|times|rho|right|rangle|nabla)\b)")


def find_objects(text: str, fits: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Returns the objects of the right shape in a reply, in order, whatever stands around them.

    They may be in others; keys are in lower case. Comments, single quotes, lone backslashes and
    commas too many are forgiven.

    Args:
        text: The reply.
        fits: Whether an object, with its keys in lower case, has the right shape.
    """
    found = islice(_objects_in(text), _MOST_OBJECTS)
    return [one for outer in found for one in select_objects(outer, fits)]


def select_objects(
    value: object, fits: Callable[[dict[str, Any]], bool], depth: int = 0
) -> Iterator[dict[str, Any]]:
    """Yields the outermost objects of the right shape in a value, with keys in lower case."""
    if isinstance(value, dict):
        lowered = {str(key).strip().lower(): item for key, item in value.items()}
        if fits(lowered):
            yield lowered
            return
        value = list(lowered.values())
    if isinstance(value, list) and depth < _DEEPEST:
        for item in value:
            yield from select_objects(item, fits, depth + 1)


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
    mended = end = 0
    for opening in _KEYED.finditer(text):
        start, value = opening.start(), None
        if start < end:
            continue
        try:
            value, end = decoder.raw_decode(text, start)
            if _COMMAND.search(text, start, end):
                value = json.loads(_mend(text[start:end]), strict=False)
        except (ValueError, RecursionError):
            if mended < _MOST_MENDED:
                mended += 1
                value, end = _read_mended(text, start)
        if isinstance(value, dict) and value:
            yield value


def _read_mended(text: str, start: int) -> tuple[Any, int]:
    """Returns the value that is not quite JSON at a place, and its end; None where it is none."""
    depth = 0
    for token in _TOKEN.finditer(text, start, start + _LONGEST_CUT):
        if token["mark"] is not None:
            depth += 1 if token["mark"] in "{[" else -1
        if depth == 0:
            try:
                return json.loads(_mend(text[start : token.end()]), strict=False), token.end()
            except (ValueError, RecursionError):
                break
    return None, start + 1


def _mend(text: str) -> str:
    """Returns what was meant as JSON as JSON."""
    return _TOKEN.sub(_mend_token, text)


def _mend_token(token: re.Match[str]) -> str:
    if token["text"] is not None:
        body = token["text"][1:-1]
        if token["text"][0] == "'":
            body = re.sub(r"\\'|\"", lambda found: "'" if len(found[0]) > 1 else '\\"', body)
        return f'"{_ESCAPE.sub(_mend_escape, body)}"'
    if token["name"] is not None:
        return _NAMES.get(token["name"]) or (
            token["name"]
            if token["name"] in {"true", "false", "null", "NaN", "Infinity"}
            else json.dumps(token["name"])
        )
    return token["mark"] or ""


def _mend_escape(found: re.Match[str]) -> str:
    is_command = _COMMAND.match(found.string, found.start()) is not None
    is_known = found[1][0] in '"\\/bfnrt' or len(found[1]) > 1
    return found[0] if is_known and not is_command else f"\\{found[0]}"


def as_words(value: object) -> str:
    """Returns a field as text: items of a list and entries of an object a line each."""
    if isinstance(value, dict):
        return "\n".join(f"{key}: {as_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "\n".join(map(as_words, value))
    return "" if value is None else str(value)


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
