"""The schema of the run's database, and its version."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress

from evolve.errors import UsageError

# Another version for each change of `SCHEMA`: nothing brings an older database up to it.
VERSION = 9
SCHEMA = """
    CREATE TABLE facts (              -- what is known when a run starts, and how it stopped
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL           -- JSON
    ) WITHOUT ROWID;
    CREATE TABLE launches (           -- each start and each resume of the run
        number INTEGER PRIMARY KEY,   -- from 1
        started TEXT NOT NULL,        -- UTC, ISO 8601
        pid INTEGER NOT NULL,
        host TEXT NOT NULL,
        version TEXT NOT NULL,        -- of this tool
        generation INTEGER NOT NULL,  -- the first that nothing had been paid for
        changes TEXT NOT NULL         -- JSON: settings changed from there on: {key: [old, new]}
    );
    CREATE TABLE generations (        -- a row is the checkpoint: its generation is committed
        generation INTEGER PRIMARY KEY,
        seconds REAL NOT NULL,        -- running time of the whole run when it was committed
        summary TEXT,                 -- JSON; null where there is none
        plans TEXT NOT NULL           -- JSON: the first plan of each slot that a model served
    );
    CREATE TABLE programs (           -- read whole on a resume, so without their sources
        id TEXT PRIMARY KEY,          -- hash of the content
        fingerprint TEXT NOT NULL,    -- hash of the normal form
        source INTEGER                -- null when it was pruned
    ) WITHOUT ROWID;
    CREATE TABLE sources (
        number INTEGER PRIMARY KEY,
        data BLOB NOT NULL            -- zlib of JSON: [[path, text], ...]
    );
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
        instances TEXT NOT NULL,      -- JSON: objectives of its instances, by name
        seconds REAL NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (generation, slot, sequence)
    ) WITHOUT ROWID;
    CREATE TABLE artifacts (          -- of an evaluation that has any
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        data BLOB NOT NULL,           -- zlib of JSON
        UNIQUE (generation, slot, sequence)
    );
    CREATE TABLE artifact_files (     -- artifacts too large for `artifacts`, which holds a null
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,         -- of the text, and the name of the file in `artifacts/`
        bytes INTEGER NOT NULL,
        start TEXT NOT NULL,          -- JSON: what is shown of it when the file is missing
        end TEXT NOT NULL,
        PRIMARY KEY (generation, slot, sequence, name)
    ) WITHOUT ROWID;
    CREATE INDEX artifact_files_by_hash ON artifact_files (sha256);
    CREATE TABLE calls (              -- durable as soon as they are paid for
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        request_hash TEXT NOT NULL,
        role TEXT NOT NULL,
        model TEXT NOT NULL,
        error TEXT NOT NULL,          -- why the reply cannot be used; empty when it can
        finish_reason TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        thinking_tokens INTEGER NOT NULL, -- of these, as far as the provider reports them
        cost_usd REAL,                -- null when the price is unknown
        seconds REAL NOT NULL,
        request BLOB NOT NULL,        -- zlib of JSON
        reply BLOB NOT NULL,          -- zlib of text
        UNIQUE (generation, slot, sequence)
    );
    CREATE TABLE expenses (           -- what was paid, or may have been, beside the calls
        number INTEGER PRIMARY KEY,
        generation INTEGER NOT NULL,  -- the first that was not committed, where none asked for it
        slot INTEGER NOT NULL,
        role TEXT NOT NULL,           -- that of the call, or `preflight`
        model TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        thinking_tokens INTEGER NOT NULL, -- of these, as far as the provider reports them
        cost_usd REAL,                -- null when the price is unknown
        lost TEXT NOT NULL            -- why no answer came, so that all are upper estimates
    );
    CREATE INDEX expenses_by_generation ON expenses (generation);
    CREATE TABLE snapshots (          -- derived; may be deleted at any time
        generation INTEGER PRIMARY KEY,
        version TEXT NOT NULL,        -- of what folded it: another one skips it
        tally BLOB NOT NULL,          -- zlib of JSON: use of models and outcomes up to where
        population BLOB NOT NULL      -- zlib of JSON
    );
"""


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
        f"{where}: expected a database of version {VERSION}, got version {version}, written by "
        f"{_find_writer(connection)}; use that version of `evolve` for this run"
    )


def _find_writer(connection: sqlite3.Connection) -> str:
    """Names the version of evolve that began a run."""
    # It may have known no facts, or others.
    with suppress(sqlite3.Error, ValueError, TypeError):
        row = connection.execute("SELECT value FROM facts WHERE name = 'version'").fetchone()
        return f"evolve {json.loads(row[0])}"
    return "another version of evolve"
