"""The tables of a run's database: records as rows and back, and which version reads them.

A table has a column for each field of a record, so a new field is a new column. Numbers and texts
are columns as they are, the key of an attempt is three of them, a record inside another one adds
its own columns, and everything else is JSON. Long texts are compressed.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from enum import StrEnum
from typing import Any

from evolve.errors import UsageError
from evolve.files import inside
from evolve.records import (
    Attempt,
    AttemptKey,
    Evaluation,
    EvaluationPlace,
    Plan,
    Program,
    SourceFile,
    StageResult,
    Status,
)
from evolve.records.plain import fields_of, from_plain, maker_of, to_plain, without_none
from evolve.records.results import (
    Call,
    Evaluated,
    Expense,
    Generation,
    LightAttempt,
    ModelUse,
    Steer,
)
from evolve.settings import Invocation

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


INVOCATIONS = RecordTable("invocations", Invocation, key="PRIMARY KEY (number)")
# A row is the checkpoint: its generation is committed.
GENERATIONS = RecordTable(
    "generations", Generation, key="PRIMARY KEY (number)", leave_out=frozenset({"slots", "cut_by"})
)
# Written with the commit of their generation. `evaluation` is the number of one in `evaluations`;
# what was rejected without any has a reason and a detail instead.
ATTEMPTS = RecordTable(
    "attempts",
    Attempt,
    leave_out=frozenset({"program", "evaluation", "evaluated"}),
    more={
        "program": "TEXT REFERENCES programs(id)",
        "evaluation": "INTEGER",
        "reason": "TEXT NOT NULL",
        "detail": "TEXT NOT NULL",
    },
)
# Evaluations, calls and expenses are durable as soon as they are finished.
EVALUATIONS = RecordTable(
    "evaluations",
    Evaluated,
    leave_out=frozenset({"program", "artifacts"}),
    more={"program": "TEXT NOT NULL REFERENCES programs(id)"},
)
CALLS = RecordTable(
    "calls",
    Call,
    key="UNIQUE (generation, slot, number)",
    packed=frozenset({"messages", "text"}),
    is_clustered=False,
)
EXPENSES = RecordTable("expenses", Expense, key="", is_clustered=False)
# Written by other processes than the run's own, too; the run notes from when on a row counts.
STEERING = RecordTable(
    "steering", Steer, key="PRIMARY KEY (number)", packed=frozenset({"files"}), is_clustered=False
)
SCHEMA = f"""
    {INVOCATIONS.schema} {GENERATIONS.schema} {ATTEMPTS.schema} {EVALUATIONS.schema}
    {CALLS.schema} {EXPENSES.schema} {STEERING.schema}
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE programs (id TEXT, fingerprint TEXT NOT NULL, source BLOB, PRIMARY KEY (id));
    CREATE TABLE artifacts (
        generation INTEGER, slot INTEGER, number INTEGER, texts BLOB NOT NULL,
        UNIQUE (generation, slot, number)
    );
    -- A resume reads these columns of every program and every call, and not their texts.
    CREATE INDEX fingerprints ON programs (id, fingerprint);
    CREATE INDEX uses ON calls (
        generation, slot, number, role, model, cost_usd, prompt_tokens, completion_tokens,
        cached_tokens, thinking_tokens
    );
    CREATE INDEX expenses_by_generation ON expenses (generation);
"""
# Nothing brings a database of another schema up to this one.
VERSION = zlib.crc32(SCHEMA.encode()) >> 1


def create_schema(connection: sqlite3.Connection) -> None:
    """Creates the tables in an empty database, all of them or none."""
    connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")


def has_schema(connection: sqlite3.Connection, where: str) -> bool:
    """Returns whether a database has its tables; a new one is still empty.

    Raises:
        UsageError: Another version of evolve made them.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return True
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if version == tables == 0:
        return False
    raise UsageError(
        f"{where}: expected a database with the tables of this version, got others, written by "
        f"{_find_writer(connection)}; use that version of `evolve` for this run"
    )


def _find_writer(connection: sqlite3.Connection) -> str:
    """Names the version of evolve that began a run."""
    # It may have known no facts, or others.
    with suppress(sqlite3.Error, ValueError, TypeError):
        row = connection.execute("SELECT value FROM facts WHERE name = 'version'").fetchone()
        return f"evolve {json.loads(row[0])}"
    return "another version of evolve"


_STATUS: dict[str | None, Status] = {None: Status.REJECTED, **{str(one): one for one in Status}}
_new = tuple.__new__
_load_stages = maker_of(tuple[StageResult, ...])
_load_plan = maker_of(Plan)
_scan = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[attr-defined]


def load_attempt(row: Sequence[Any]) -> Attempt:
    """Returns the attempt of a row, whole."""
    texts, program_id, source = row[-3:]
    *_, program, sequence, reason, detail = row[: len(ATTEMPTS.columns)]
    if sequence is None:
        artifacts = {"detail": detail} if detail else {}
        evaluation = Evaluation(Status.REJECTED, artifacts=artifacts, reason=reason)
    else:
        evaluation = _evaluation(row[len(ATTEMPTS.columns) :], texts, program=None).evaluation
    is_pruned = program_id is not None and source is None
    made = None if program is None or is_pruned else _program(source, program)
    own = None if sequence is None else AttemptKey(row[0], row[1], sequence)
    place = None if own is None else EvaluationPlace(own, own)
    attempt: Attempt = ATTEMPTS.load(row, program=made, evaluation=evaluation, evaluated=place)
    return attempt


def load_evaluated(row: Sequence[Any]) -> Evaluated:
    """Returns the finished evaluation of a row."""
    texts, program_id, source = row[-3:]
    return _evaluation(row, texts, program=_program(source, program_id))


def _evaluation(row: Sequence[Any], texts: bytes | None, **left_out: Any) -> Evaluated:
    artifacts = {} if texts is None else from_plain(dict[str, str], unpack(texts))
    found: Evaluated = EVALUATIONS.load(row, artifacts=artifacts, **left_out)
    return found


def _program(source: bytes | None, expected: str) -> Program:
    """Returns the program of a stored source.

    Raises:
        DatabaseError: There is none, or it is another one than expected.
    """
    if source is None:
        raise sqlite3.DatabaseError(f"the source of program {expected} is missing")
    try:
        files = from_plain(tuple[SourceFile, ...], unpack(source))
        found = Program(tuple(SourceFile(str(inside(path)), text) for path, text in files))
    except (zlib.error, ValueError, TypeError, AttributeError) as error:
        raise sqlite3.DatabaseError(f"damaged: program {expected}: {error}") from error
    if found.id != expected:
        raise sqlite3.DatabaseError(f"damaged: in place of program {expected} there is {found.id}")
    return found


def load_light_attempt(row: Sequence[Any], uses: tuple[ModelUse, ...]) -> LightAttempt:
    """Returns the attempt of a row without its source."""
    (
        generation, slot, number, island, parent_generation, parent_slot, parent_number, depth,
        plan, program_id, fingerprint, status, objective, measures, metrics, instances,
        stages, evaluations, seconds, reason,
    ) = row  # fmt: skip
    parent = None
    if parent_generation is not None:
        parent = _new(AttemptKey, (parent_generation, parent_slot, parent_number))
    # A resume reads every attempt: what `json.loads` and the record do around these takes longer.
    return _new(
        LightAttempt,
        (
            _new(AttemptKey, (generation, slot, number)),
            island,
            parent,
            depth,
            None if plan is None else _load_plan(_scan(plan, 0)[0]),
            program_id,
            fingerprint,
            _STATUS[status],
            objective,
            _scan(measures, 0)[0] if measures else {},
            _scan(metrics, 0)[0] if metrics else {},
            _scan(instances, 0)[0] if instances else {},
            # Most programs have none.
            () if stages in {None, "[]"} else _load_stages(json.loads(stages)),
            evaluations or 1,
            seconds or 0.0,
            reason or "",
            uses,
        ),
    )
