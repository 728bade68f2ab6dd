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
    """
    CREATE TABLE dictionaries (       -- what texts of a kind are compressed against
        number INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,           -- `program`, or the role of a call
        data BLOB NOT NULL            -- zlib
    );
    CREATE INDEX dictionaries_by_kind ON dictionaries (kind, number);
    CREATE TABLE sources (            -- apart from `programs`, which is read whole on a resume
        number INTEGER PRIMARY KEY,
        dictionary INTEGER,           -- null when compressed on its own
        data BLOB NOT NULL            -- zlib of JSON: [[path, text], ...]
    );
    CREATE TABLE identities (
        id TEXT PRIMARY KEY,          -- hash of the content
        fingerprint TEXT NOT NULL,    -- hash of the normal form
        source INTEGER                -- null when it was pruned
    ) WITHOUT ROWID;
    INSERT INTO sources (data) SELECT source FROM programs ORDER BY id;
    INSERT INTO identities
        SELECT id, fingerprint, ROW_NUMBER() OVER (ORDER BY id) FROM programs;
    DROP TABLE programs;
    ALTER TABLE identities RENAME TO programs;
    CREATE TABLE artifacts (          -- of an evaluation that has any
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        data BLOB NOT NULL,           -- zlib of JSON
        UNIQUE (generation, slot, sequence)
    );
    INSERT INTO artifacts SELECT generation, slot, sequence, artifacts FROM evaluations;
    ALTER TABLE evaluations RENAME TO old_evaluations;
    CREATE TABLE evaluations (        -- durable as soon as they are finished
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        program TEXT NOT NULL REFERENCES programs(id),
        status TEXT NOT NULL,
        objective REAL,
        metrics TEXT NOT NULL,        -- JSON
        measures TEXT NOT NULL,       -- JSON
        seconds REAL NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (generation, slot, sequence)
    ) WITHOUT ROWID;
    INSERT INTO evaluations SELECT generation, slot, sequence, program, status, objective,
        metrics, measures, seconds, reason FROM old_evaluations;
    DROP TABLE old_evaluations;
    ALTER TABLE calls RENAME TO old_calls;
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
        completion_tokens INTEGER NOT NULL,
        cost_usd REAL,                -- null when the price is unknown
        seconds REAL NOT NULL,
        dictionary INTEGER,           -- of the request; null when compressed on its own
        request BLOB NOT NULL,        -- zlib of JSON
        reply BLOB NOT NULL,          -- zlib of text
        UNIQUE (generation, slot, sequence)
    );
    INSERT INTO calls SELECT generation, slot, sequence, request_hash, role, model, error,
        finish_reason, prompt_tokens, completion_tokens, cost_usd, seconds, NULL, request, reply
        FROM old_calls;
    DROP TABLE old_calls;
    CREATE TABLE snapshots (          -- derived; may be deleted at any time
        generation INTEGER PRIMARY KEY,
        version TEXT NOT NULL,        -- of what folded it: another one passes it over
        tally TEXT NOT NULL,          -- JSON: use of models and outcomes up to the generation
        population BLOB NOT NULL      -- zlib of JSON
    );
    """,
    """
    ALTER TABLE lessons ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
    ALTER TABLE lessons ADD COLUMN next_step TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE launches (           -- each start and each resume of the run
        number INTEGER PRIMARY KEY,   -- from 1
        started TEXT NOT NULL,        -- UTC, ISO 8601; empty when it was not written down
        pid INTEGER,
        host TEXT NOT NULL,
        version TEXT NOT NULL,        -- of this tool
        generation INTEGER NOT NULL,  -- the first that nothing had been paid for
        changes TEXT NOT NULL         -- JSON: settings changed from there on: {key: [old, new]}
    );
    INSERT INTO launches
        SELECT j.key + 1, '', NULL, '', '', json_extract(j.value, '$[0]'), CASE j.key WHEN 0
            THEN '{}' ELSE json_object('loop.generations', json_array(
                LAG(json_extract(j.value, '$[1]')) OVER (ORDER BY j.key),
                json_extract(j.value, '$[1]'))) END
        FROM facts, json_each(facts.value) j WHERE facts.name = 'horizons' ORDER BY j.key;
    DELETE FROM facts WHERE name = 'horizons';
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
    """,
    """
    ALTER TABLE calls ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE expenses (           -- what was paid, or may have been, beside the calls
        number INTEGER PRIMARY KEY,
        generation INTEGER NOT NULL,  -- the first that was not committed, where none asked for it
        slot INTEGER NOT NULL,
        role TEXT NOT NULL,           -- that of the call, or `preflight`
        model TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cost_usd REAL,                -- null when the price is unknown
        lost TEXT NOT NULL            -- why no answer came, so that all are upper estimates
    );
    CREATE INDEX expenses_by_generation ON expenses (generation);
    DELETE FROM snapshots;            -- their tallies have other columns
    """,
    """
    CREATE TABLE seals (              -- checksums; what an older schema wrote has none
        generation INTEGER PRIMARY KEY, -- -1 for facts and launches
        rows INTEGER,                 -- sum of the CRC-32 of its rows, but for compressed texts
        told INTEGER,                 -- CRC-32 of what the population is told of it
        uses INTEGER                  -- CRC-32 of what its calls used
    );
    DROP TABLE snapshots;
    CREATE TABLE snapshots (          -- derived; may be deleted at any time
        generation INTEGER PRIMARY KEY,
        version TEXT NOT NULL,        -- of what folded it: another one passes it over
        tally BLOB NOT NULL,          -- zlib of JSON: use of models and outcomes up to where
        population BLOB NOT NULL      -- zlib of JSON
    );
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
