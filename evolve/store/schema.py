"""The schema of the run's database, its version, and the steps from older versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.errors import UsageError

if TYPE_CHECKING:
    import sqlite3

# Each entry takes a database from the version that is its index to the next one. A released entry
# is never changed: a new version is a new entry.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE facts (              -- what is known when a run starts, and how it stopped
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL           -- JSON
    ) WITHOUT ROWID;
    CREATE TABLE generations (        -- a row is the checkpoint: its generation is committed
        generation INTEGER PRIMARY KEY,
        seconds REAL NOT NULL         -- running time of the whole run when it was committed
    );
    CREATE TABLE programs (
        id TEXT PRIMARY KEY,          -- hash of the content
        fingerprint TEXT NOT NULL,    -- hash of the normal form
        source BLOB NOT NULL          -- zlib of JSON: [[path, text], ...]
    ) WITHOUT ROWID;
    CREATE TABLE attempts (           -- written with the commit of their generation
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        number INTEGER NOT NULL,
        island INTEGER NOT NULL,
        parent_generation INTEGER,
        parent_slot INTEGER,
        parent_number INTEGER,
        depth INTEGER NOT NULL,
        plan TEXT,                    -- JSON
        program TEXT REFERENCES programs(id),
        evaluation INTEGER,           -- sequence in `evaluations`; null when none was paid for
        reason TEXT NOT NULL,         -- why it was rejected; the evaluation has its own
        detail TEXT NOT NULL,
        PRIMARY KEY (generation, slot, number)
    ) WITHOUT ROWID;
    CREATE INDEX attempts_by_parent
        ON attempts (parent_generation, parent_slot, parent_number);
    CREATE TABLE evaluations (        -- durable as soon as they are finished
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        program TEXT NOT NULL REFERENCES programs(id),
        status TEXT NOT NULL,
        objective REAL,
        metrics TEXT NOT NULL,        -- JSON
        measures TEXT NOT NULL,       -- JSON
        artifacts BLOB NOT NULL,      -- zlib of JSON
        seconds REAL NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (generation, slot, sequence)
    ) WITHOUT ROWID;
    CREATE TABLE calls (              -- durable as soon as they are paid for
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        request_hash TEXT NOT NULL,
        role TEXT NOT NULL,
        model TEXT NOT NULL,
        request BLOB NOT NULL,        -- zlib of JSON
        reply BLOB NOT NULL,          -- zlib of text
        error TEXT NOT NULL,          -- why the reply cannot be used; empty when it can
        finish_reason TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cost_usd REAL,                -- null when the price is unknown
        seconds REAL NOT NULL,
        PRIMARY KEY (generation, slot, sequence)
    ) WITHOUT ROWID;
    CREATE TABLE lessons (            -- one a slot, written with the commit of its generation
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        verdict TEXT NOT NULL,
        cause TEXT NOT NULL,
        lesson TEXT NOT NULL,
        tags TEXT NOT NULL,           -- JSON
        PRIMARY KEY (generation, slot)
    ) WITHOUT ROWID;
    """,
)

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, where: str) -> None:
    """Brings a database to the newest schema, in one transaction.

    Raises:
        UsageError: It was written by a newer version.
    """
    version = check_version(connection, where)
    if version == VERSION:
        return
    script = "\n".join(MIGRATIONS[version:])
    connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {VERSION}; COMMIT;")


def check_version(connection: sqlite3.Connection, where: str) -> int:
    """Gives the version of a database's schema.

    Raises:
        UsageError: It was written by a newer version.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise UsageError(
            f"{where}: expected a database of version {VERSION} or older, got version {version}; "
            "it was written by a newer `evolve`: install that version"
        )
    return int(version)
