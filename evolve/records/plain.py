"""Frozen records as plain data, and back."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache, partial
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

R = TypeVar("R")
_AS_THEY_ARE = frozenset({str, int, float, bool, NoneType})


def to_plain(value: Any) -> Any:
    """Returns what JSON can hold of a record, or of a collection of records."""
    if type(value) in _AS_THEY_ARE:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {name: to_plain(getattr(value, name)) for name in fields_of(value.__class__)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
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
    wanted: Any = kind
    made: R = maker_of(wanted)(data)
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


@cache
def maker_of(kind: Any) -> Callable[[Any], Any]:
    """Returns the function that makes a value of a type, as `from_plain` does."""
    inner, is_optional = without_none(kind)
    if is_optional:
        make = maker_of(inner)
        return lambda data: None if data is None else make(data)
    if kind is Any:
        return lambda data: data
    if is_dataclass(kind):
        return _record_maker(kind)
    if get_origin(kind) is not None:
        return _collection_maker(get_origin(kind), get_args(kind))
    if issubclass(kind, tuple):
        make = _tuple_maker(tuple(get_type_hints(kind).values()))
        return lambda data: kind(*make(data))
    return kind if issubclass(kind, StrEnum) else partial(_expect, kind)


def _record_maker(kind: Any) -> Callable[[Any], Any]:
    makers = {name: maker_of(one) for name, one in fields_of(kind).items()}

    def make(data: Any) -> Any:
        items = _expect(dict, data).items()
        return kind(
            **{name: makers[name](item) if name in makers else item for name, item in items}
        )

    return make


def _collection_maker(origin: Any, kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    if origin is not tuple:
        make = maker_of(kinds[1])
        return lambda data: {key: make(item) for key, item in _expect(dict, data).items()}
    if kinds[-1] is not Ellipsis:
        return _tuple_maker(kinds)
    make = maker_of(kinds[0])
    return lambda data: tuple(map(make, _expect(list, data)))


def _tuple_maker(kinds: tuple[Any, ...]) -> Callable[[Any], tuple[Any, ...]]:
    makers = [maker_of(kind) for kind in kinds]
    return lambda data: tuple(
        make(item) for make, item in zip(makers, _expect(list, data), strict=True)
    )


def _expect(kind: type, data: Any) -> Any:
    if kind is float and type(data) is int:
        return float(data)
    if not isinstance(data, kind):
        raise TypeError(f"expected {kind.__name__}, got {data!r:.100}")
    return data
