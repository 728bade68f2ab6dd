"""Frozen records as rows: a table has a column for each field, so a new field is a new column.

Numbers and texts are columns as they are, the key of an attempt is three of them, a record inside
another one adds its own columns, and everything else is JSON. Long texts are compressed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from enum import StrEnum
from typing import Any

from evolve.records import AttemptKey
from evolve.records.plain import fields_of, from_plain, to_plain, without_none

_TYPES: dict[Any, str] = {int: "INTEGER", float: "REAL", str: "TEXT", bool: "INTEGER"}
# No text of a run is nearly as long; a few bytes of a stranger's may unpack to as many gigabytes.
_MOST_BYTES = 256 << 20


class RecordTable:
    """A table of the database, and how a record becomes a row of it.

    Args:
        name: Of the table.
        record: The type of the record.
        key: Its constraints, in SQL.
        leave_out: Fields of the record that are stored elsewhere, or not at all.
        packed: Fields that are long texts.
        more: Columns that are no fields, with their types.
        is_clustered: Whether rows are stored in the order of their keys; not for long ones.
    """

    def __init__(
        self,
        name: str,
        record: type,
        *,
        key: str = "PRIMARY KEY (generation, slot, number)",
        leave_out: frozenset[str] = frozenset(),
        packed: frozenset[str] = frozenset(),
        more: Mapping[str, str] | None = None,
        is_clustered: bool = True,
    ) -> None:
        self.name = name
        self._record = record
        self._leave_out = leave_out
        self._packed = packed
        columns = {**dict(self._describe(record)), **(more or {})}
        # What is read without its long texts is found before them.
        self.columns = sorted(columns, key=lambda column: columns[column].startswith("BLOB"))
        lines = [f"{column} {columns[column]}" for column in self.columns]
        lines += [key] if key else []
        options = " WITHOUT ROWID" if is_clustered else ""
        self.schema = f"CREATE TABLE {name} ({', '.join(lines)}){options};"
        values = ", ".join(f":{column}" for column in self.columns)
        self.insert = f"INTO {name} ({', '.join(self.columns)}) VALUES ({values})"

    def select(self, alias: str) -> str:
        """Returns the columns for a `SELECT`, in which the table has another name."""
        return ", ".join(f"{alias}.{column}" for column in self.columns)

    def dump(self, record: Any, **more: Any) -> dict[str, Any]:
        """Returns the row of a record by column, with the columns that are no fields."""
        return {**dict(self._dump(record)), **more}

    def load(self, row: Sequence[Any], **left_out: Any) -> Any:
        """Returns the record of a row that begins with the columns.

        Args:
            row: As `select` asks for it.
            left_out: Fields that are stored elsewhere.
        """
        return self._load(self._record, dict(zip(self.columns, row, strict=False)), left_out)

    def _fields(self, record: type) -> Iterator[tuple[str, Any, bool]]:
        for name, kind in fields_of(record).items():
            if name not in self._leave_out:
                yield name, *without_none(kind)

    def _describe(self, record: type) -> Iterator[tuple[str, str]]:
        for name, kind, is_optional in self._fields(record):
            null = "" if is_optional else " NOT NULL"
            if kind is AttemptKey:
                yield from ((column, f"INTEGER{null}") for column in _key_columns(name))
            elif is_dataclass(kind) and not is_optional:
                yield from self._describe(kind)  # type: ignore[arg-type]
            else:
                yield name, ("BLOB" if name in self._packed else _TYPES.get(kind, "TEXT")) + null

    def _dump(self, record: Any) -> Iterator[tuple[str, Any]]:
        for name, kind, is_optional in self._fields(type(record)):
            value = getattr(record, name)
            if kind is AttemptKey:
                yield from zip(_key_columns(name), value or (None, None, None), strict=True)
            elif is_dataclass(kind) and not is_optional:
                yield from self._dump(value)
            elif name in self._packed:
                yield name, pack(to_plain(value))
            elif value is None or kind in _TYPES or isinstance(value, StrEnum):
                yield name, value
            else:
                yield name, json.dumps(to_plain(value))

    def _load(self, record: type, row: Mapping[str, Any], left_out: Mapping[str, Any]) -> Any:
        made = {name: left_out[name] for name in fields_of(record) if name in left_out}
        for name, kind, is_optional in self._fields(record):
            if kind is AttemptKey:
                key = [row[column] for column in _key_columns(name)]
                made[name] = from_plain(AttemptKey, key) if key[0] is not None else None
            elif is_dataclass(kind) and not is_optional:
                made[name] = self._load(kind, row, left_out)  # type: ignore[arg-type]
            elif row[name] is None and is_optional:
                made[name] = None
            else:
                made[name] = self._load_value(name, kind, row[name])
        return record(**made)

    def _load_value(self, name: str, kind: Any, value: Any) -> Any:
        if name in self._packed:
            return from_plain(kind, unpack(value))
        if kind in _TYPES or (isinstance(kind, type) and issubclass(kind, StrEnum)):
            return from_plain(kind, value)
        return from_plain(kind, json.loads(value))


def pack(value: Any) -> bytes:
    """Returns plain data as a compressed text."""
    return zlib.compress(json.dumps(value).encode())


def unpack(data: bytes) -> Any:
    """Returns the plain data that a compressed text holds.

    Raises:
        zlib.error: It is damaged, cut short, or longer than any text of a run.
        ValueError: It is not JSON.
    """
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, _MOST_BYTES)
    if not unpacker.eof:
        raise zlib.error("a compressed text is cut short, or longer than any")
    return json.loads(text)


def _key_columns(field: str) -> list[str]:
    prefix = "" if field == "key" else f"{field}_"
    return [prefix + part for part in AttemptKey._fields]
