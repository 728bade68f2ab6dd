"""Values of settings: checked against their fields, read from text, written as TOML."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from evolve.errors import UsageError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KIND_NAMES = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple: "a text or a list of texts",
}


def setting(default: Any, about: str, **bounds: Any) -> Any:
    """Returns a field that carries its description and bounds (`low`, `high`, `choices`)."""
    return dataclasses.field(default=default, metadata={"about": about, **bounds})


# Slow, and asked for every key.
_read_hints = cache(typing.get_type_hints)


def check_value(value: Any, item: dataclasses.Field[Any], section: type, where: str) -> Any:
    """Returns the value as its field takes it.

    A whole number serves as a number, and one text as a list of texts.

    Args:
        value: From a file, the environment or an option.
        item: The field, with its bounds.
        section: The class that has the field.
        where: Named in errors.

    Raises:
        UsageError: It has the wrong type or is out of range.
    """
    hint = _read_hints(section)[item.name]
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = next(kind for kind in kinds if kind is not type(None))
    if typing.get_origin(kind) is tuple:
        return _check_texts(value, where)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UsageError(f"{where}: expected {_KIND_NAMES[kind]}, got {value!r:.200}")
    low, high = item.metadata.get("low"), item.metadata.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        ends = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{where}: expected a value {ends}, got {value!r}")
    # Neither can be written into the run's settings.
    if kind is float and not math.isfinite(value):
        raise UsageError(f"{where}: expected a finite number, got {value!r}")
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        raise UsageError(f"{where}: expected one of {', '.join(choices)}, got {value!r}")
    return value


def _check_texts(value: Any, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise UsageError(f"{where}: expected {_KIND_NAMES[tuple]}, got {value!r:.200}")
    if items is value and not all(item.strip() for item in items):
        # As where a shell puts in a variable that is not set.
        raise UsageError(f"{where}: expected a text, got an empty one; leave it out for none")
    return tuple(item.strip() for item in items if item.strip())


def check_entry(value: Any, kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    """Returns a table in which each key is known; numbers are finite and not negative.

    Args:
        value: What was set.
        kinds: What each key takes: `float`, `str`, or `list` for texts.
        where: Named in errors.

    Raises:
        UsageError: It is no table, a key is unknown, or a value does not fit.
    """
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected a table {_describe(kinds)}, got {value!r:.200}")
    checked: dict[str, Any] = {}
    for key, item in value.items():
        if key not in kinds:
            raise UsageError(f"{where}: unknown key `{key}`; expected a table {_describe(kinds)}")
        if kinds[key] is list:
            checked[key] = list(_check_texts(item, f"{where}: `{key}`"))
            continue
        if kinds[key] is str:
            fits = isinstance(item, str)
        else:
            is_number = isinstance(item, int | float) and not isinstance(item, bool)
            fits = is_number and math.isfinite(item) and item >= 0
        if not fits:
            what = "text" if kinds[key] is str else "a number of at least 0"
            raise UsageError(f"{where}: `{key}`: expected {what}, got {item!r:.200}")
        checked[key] = item if kinds[key] is str else float(item)
    return checked


def read_value(text: str) -> Any:
    """Reads a value as TOML; anything that is not valid TOML is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def write_value(value: Any) -> str:
    """Writes a value as TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{write_key(k)} = {write_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write_value(item) for item in value) + "]"
    # TOML has no pairs of surrogates, and takes no control characters as they are.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_key(name: str) -> str:
    """Writes a key as TOML."""
    return name if _BARE_KEY.fullmatch(name) else write_value(name)


def suggest_key(key: str, known: list[str]) -> str:
    """Names the known key that was probably meant."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    by_name = [candidate for candidate in known if candidate.endswith("." + key)]
    if by_name or near:
        return f"did you mean `{(by_name or near)[0]}`?"
    return "docs/settings.md lists all"


def _describe(kinds: Mapping[str, type]) -> str:
    return "{" + ", ".join(f"{key} = ..." for key in kinds) + "}"
