"""Frozen records as plain data, and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

R = TypeVar("R")


def to_plain(value: Any) -> Any:
    """Returns what JSON can hold of a record, or of a collection of records."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: to_plain(getattr(value, name)) for name in fields_of(value.__class__)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[R], data: Any) -> R:
    """Returns the record that `to_plain` was given.

    Args:
        kind: The type of the record, or a collection such as `tuple[Plan, ...]`.
        data: What JSON held; fields that are missing get their defaults.

    Raises:
        TypeError: The data does not have this form.
        ValueError: A value is outside of its range.
    """
    made: R = _make(kind, data)
    return made


@cache
def fields_of(record: type) -> dict[str, Any]:
    """Returns the type of each field that a record is made from, by name."""
    hints = get_type_hints(record)
    return {item.name: hints[item.name] for item in fields(record) if item.init}


def without_none(kind: Any) -> tuple[Any, bool]:
    """Returns a type without `None`, and whether it allowed that."""
    if get_origin(kind) not in {Union, UnionType}:
        return kind, False
    kinds = [one for one in get_args(kind) if one is not NoneType]
    return kinds[0], len(kinds) < len(get_args(kind))


def _make(kind: Any, data: Any) -> Any:
    kind, is_optional = without_none(kind)
    if kind is Any or (data is None and is_optional):
        return data
    if is_dataclass(kind):
        return _make_record(kind, data)
    if get_origin(kind) is not None:
        return _make_collection(get_origin(kind), get_args(kind), data)
    if issubclass(kind, tuple) and isinstance(data, list):
        return kind(*map(_make, get_type_hints(kind).values(), data))
    if kind is float and type(data) is int:
        return float(data)
    if issubclass(kind, str) and kind is not str:
        return kind(data)
    return _expect(data, kind)


def _make_record(kind: Any, data: Any) -> Any:
    kinds = fields_of(kind)
    items = _expect(data, dict).items()
    return kind(**{name: _make(kinds.get(name, Any), item) for name, item in items})


def _make_collection(origin: type, kinds: tuple[Any, ...], data: Any) -> Any:
    if origin is tuple:
        if kinds[-1] is not Ellipsis:
            return tuple(map(_make, kinds, _expect(data, list)))
        return tuple(_make(kinds[0], item) for item in _expect(data, list))
    return {key: _make(kinds[1], item) for key, item in _expect(data, dict).items()}


def _expect(data: Any, kind: type) -> Any:
    if not isinstance(data, kind):
        raise TypeError(f"expected {kind.__name__}, got {data!r:.100}")
    return data
