"""TOML tables read strictly into typed records, and values written: messages name the place."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from evolve.errors import UsageError

NAME = (r"[A-Za-z0-9][A-Za-z0-9_-]*", "letters, digits, - and _")
IDENTIFIER = (r"[^\W\d]\w*", "a Python name")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KIND_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    tuple: "a text or a list of texts",
}
_Record = TypeVar("_Record")
# Slow, and asked for every key.
_read_hints = cache(typing.get_type_hints)


def key(default: Any = dataclasses.MISSING, about: str = "", **bounds: Any) -> Any:
    """Returns a field of a record, with what a table may say for it.

    Args:
        default: What holds where the key is missing; it is required without one. Each record
            has an empty table of its own.
        about: What it is, in words.
        **bounds: `low` and `high`, which a number or the length of a list may reach; `above`,
            which it has to pass; `choices` of a text; `form` of one, as a pattern and in words;
            `clean`, which returns a text as it is kept, and `parse`, which does so with a whole
            value; `short`, the key of a table that a bare value stands for; `entries`, the record
            whose fields a table may give some of.
    """
    metadata = {"about": about, **bounds}
    if default == {}:
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read_record(kind: type[_Record], values: object, where: str) -> _Record:
    """Returns a table as a record whose fields are the keys that may occur.

    Raises:
        UsageError: A key is unknown or missing, or a value does not fit its field.
    """
    given = read_given(kind, values, where)
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        is_required = {item.default, item.default_factory} == {dataclasses.MISSING}
        if item.name not in given and is_required:
            expected = _describe(_read_hints(kind)[item.name])  # type: ignore[arg-type]
            raise UsageError(f"{where}: `{item.name}`: expected {expected}, got nothing")
    return kind(**given)


def read_given(kind: type, values: object, where: str) -> dict[str, Any]:
    """Returns those fields of a record that a table gives, each checked.

    Raises:
        UsageError: A key is unknown, or a value does not fit its field.
    """
    known = {item.name: item for item in dataclasses.fields(kind)}
    if not isinstance(values, Mapping):
        raise UsageError(
            f"{where}: expected a table, which may have {_quote(known)}, got {values!r:.200}"
        )
    for name in values:
        if name not in known:
            raise UsageError(f"{where}: unknown key `{name}`; {suggest(name, known)}")
    return {name: read_value(value, kind, known[name], where) for name, value in values.items()}


def read_value(
    value: Any, kind: type, item: dataclasses.Field[Any], where: str, name: str = ""
) -> Any:
    """Returns a value as a field of a record takes it.

    A whole number serves as a number, and one text as a list of texts; an empty one is none.

    Args:
        value: From a file, the environment or an option.
        kind: The record.
        item: The field, with its bounds.
        where: Named in errors.
        name: By which errors name the field, if not by its own name.

    Raises:
        UsageError: It has the wrong type or is out of range.
    """
    hint = _read_hints(kind)[item.name]
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return value
    if "parse" in item.metadata:
        return item.metadata["parse"](value, f"{where}: `{item.name}`")
    return _read(value, options[0], item.metadata, where, name or item.name)


def _read(value: Any, hint: Any, bounds: Mapping[str, Any], where: str, name: str) -> Any:
    place, origin = f"{where}: `{name}`", typing.get_origin(hint)
    if "entries" in bounds:
        return read_given(bounds["entries"], value, f"{where}: [{name}]")
    if dataclasses.is_dataclass(hint):
        is_short = "short" in bounds and not isinstance(value, Mapping)
        table = {bounds["short"]: value} if is_short else value
        return read_record(hint, table, f"{where}: [{name}]")  # type: ignore[arg-type]
    if origin is tuple and typing.get_args(hint)[0] is not str:
        expect(isinstance(value, list), "a list of tables", value, place)
        entry = typing.get_args(hint)[0]
        tables = enumerate(value, start=1)
        return tuple(read_record(entry, one, f"{where}: [[{name}]] {at}") for at, one in tables)
    if origin is tuple:
        return _read_texts(value, bounds, place)
    if origin is Mapping:
        expect(isinstance(value, Mapping), "a table", value, place)
        for one in value:
            expect(_is_plain(value[one]), "plain data", value[one], f"{where}: [{name}]: `{one}`")
        return dict(value)
    if issubclass(hint, StrEnum):
        return hint(_read_scalar(value, str, {"choices": tuple(hint)}, place))
    return _read_scalar(value, hint, bounds, place)


def _read_scalar(value: Any, kind: type, bounds: Mapping[str, Any], place: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    expect(type(value) is kind, _KIND_NAMES[kind], value, place)
    if kind is str:
        return _check_text(value, bounds, place)
    if kind is not bool:
        _check_number(value, _KIND_NAMES[kind], bounds, place)
    return value


def _read_texts(value: Any, bounds: Mapping[str, Any], place: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    is_list = isinstance(items, list | tuple) and all(isinstance(one, str) for one in items)
    expect(is_list, _KIND_NAMES[tuple], value, place)
    texts = tuple(one.strip() for one in items if one.strip())
    if items is value and len(texts) < len(value):
        # As where a shell puts in a variable that is not set.
        raise UsageError(f"{place}: expected a text, got an empty one; leave it out for none")
    expect(len(set(texts)) == len(texts), "different names", value, place)
    expect(len(texts) >= bounds.get("low", 0), "at least one", value, place)
    return tuple(_check_text(text, bounds, place) for text in texts)


def _check_text(text: str, bounds: Mapping[str, Any], place: str) -> str:
    if choices := bounds.get("choices"):
        expect(text in choices, f"one of {', '.join(choices)}", text, place)
    if form := bounds.get("form"):
        expect(re.fullmatch(form[0], text), form[1], text, place)
    clean = bounds.get("clean")
    try:
        return str(clean(text, place)) if clean else text
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check_number(number: float, name: str, bounds: Mapping[str, Any], place: str) -> None:
    low, high = bounds.get("low", -math.inf), bounds.get("high", math.inf)
    above = bounds.get("above", -math.inf)
    ends = " that is finite"
    if "above" in bounds:
        ends = f" above {above:g}"
    elif "low" in bounds:
        ends = f" from {low} to {high}" if "high" in bounds else f" of at least {low}"
    fits = math.isfinite(number) and low <= number <= high and number > above
    expect(fits, f"{name}{ends}", number, place)


def suggest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Returns which of the known names was probably meant, or all of them, or another advice."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4 if otherwise else 0.6)
    return f"did you mean `{near[0]}`?" if near else otherwise or f"known are {_quote(known)}"


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


def expect(fits: object, expected: str, value: Any, where: str) -> None:
    """Checks a value that a user gave.

    Raises:
        UsageError: It does not fit.
    """
    if not fits:
        raise UsageError(f"{where}: expected {expected}, got {value!r:.200}")


def _describe(hint: Any) -> str:
    is_choice = isinstance(hint, type) and issubclass(hint, StrEnum)
    return f"one of {', '.join(hint)}" if is_choice else _KIND_NAMES[hint]


def _quote(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, bool | int | float | str)
