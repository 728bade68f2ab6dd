"""The tables of a run's database, and which database a version of evolve reads."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import suppress

from evolve.errors import UsageError
from evolve.records import Attempt
from evolve.records.results import Call, Evaluated, Expense, Generation
from evolve.records.steering import Steer
from evolve.settings.history import Invocation
from evolve.store.columns import RecordTable

INVOCATIONS = RecordTable("invocations", Invocation, key="PRIMARY KEY (number)")
# A row is the checkpoint: its generation is committed.
GENERATIONS = RecordTable(
    "generations", Generation, key="PRIMARY KEY (number)", leave_out=frozenset({"slots"})
)
# Written with the commit of their generation. `evaluation` is the number of one in `evaluations`;
# what was rejected without any has a reason and a detail instead.
ATTEMPTS = RecordTable(
    "attempts",
    Attempt,
    leave_out=frozenset({"program", "evaluation"}),
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
    CREATE TABLE snapshots (version TEXT NOT NULL, population BLOB NOT NULL);
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
