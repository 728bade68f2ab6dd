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
from evolve.records.plain import fields_of, maker_of, to_plain, without_none

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
        self._parts: dict[type, tuple[_Part, ...]] = {}
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
        self._dump(record, more)
        return more

    def load(self, row: Sequence[Any], **left_out: Any) -> Any:
        """Returns the record of a row that begins with the columns.

        Args:
            row: As `select` asks for it.
            left_out: Fields that are stored elsewhere.
        """
        return self._load(self._record, dict(zip(self.columns, row, strict=False)), left_out)

    def _list_parts(self, record: type) -> tuple[_Part, ...]:
        """Returns how each field of a record is stored; records inside it have parts, too."""
        if record not in self._parts:
            self._parts[record] = tuple(
                _Part(name, *without_none(kind), is_packed=name in self._packed)
                for name, kind in fields_of(record).items()
                if name not in self._leave_out
            )
        return self._parts[record]

    def _describe(self, record: type) -> Iterator[tuple[str, str]]:
        for part in self._list_parts(record):
            if part.is_record:
                yield from self._describe(part.kind)
            else:
                null = "" if part.is_optional else " NOT NULL"
                yield from ((column, part.type + null) for column in part.columns)

    def _dump(self, record: Any, row: dict[str, Any]) -> None:
        for part in self._list_parts(record.__class__):
            value = getattr(record, part.name)
            if part.is_key:
                row.update(zip(part.columns, value or (None, None, None), strict=True))
            elif part.is_record:
                self._dump(value, row)
            elif part.is_packed:
                row[part.name] = pack(to_plain(value))
            elif part.is_scalar or value is None:
                row[part.name] = value
            else:
                row[part.name] = json.dumps(to_plain(value))

    def _load(self, record: type, row: Mapping[str, Any], left_out: Mapping[str, Any]) -> Any:
        made = {name: left_out[name] for name in fields_of(record) if name in left_out}
        for part in self._list_parts(record):
            if part.is_record:
                made[part.name] = self._load(part.kind, row, left_out)
            elif part.is_optional and row[part.columns[0]] is None:
                made[part.name] = None
            elif part.is_key:
                made[part.name] = part.make([row[column] for column in part.columns])
            elif part.is_packed:
                made[part.name] = part.make(unpack(row[part.name]))
            else:
                value = row[part.name]
                made[part.name] = part.make(value if part.is_scalar else json.loads(value))
        return record(**made)


class _Part:
    """How a field of a record is stored.

    Args:
        name: Of the field.
        kind: Its type, without `None`.
        is_optional: Whether it may be `None`.
        is_packed: Whether it is a long text.
    """

    def __init__(self, name: str, kind: Any, is_optional: bool, *, is_packed: bool) -> None:  # noqa: FBT001 - as `without_none` returns it
        self.name, self.kind = name, kind
        self.is_optional, self.is_packed = is_optional, is_packed
        self.is_key = kind is AttemptKey
        self.is_record = is_dataclass(kind) and not is_optional
        self.is_scalar = kind in _TYPES or (isinstance(kind, type) and issubclass(kind, StrEnum))
        prefix = "" if name == "key" else f"{name}_"
        self.columns = [prefix + part for part in AttemptKey._fields] if self.is_key else [name]
        self.type = "INTEGER" if self.is_key else "BLOB" if is_packed else _TYPES.get(kind, "TEXT")
        self.make = maker_of(kind)


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
