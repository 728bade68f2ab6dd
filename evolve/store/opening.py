"""Connections to a run's database, and what is told when it cannot be used."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evolve.errors import DamagedStoreError, StoreError, UsageError
from evolve.store import seals
from evolve.store.schema import VERSION, check_version, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATABASE = "run.db"
# Words in errors of SQLite, and of ours, that tell of damage.
_DAMAGE = ("damaged", "malformed", "not a database", "missing", "no such", "user-defined", "decode")
# 64 MB: the table of 10^6 programs without their sources.
_CACHE = "PRAGMA cache_size = -65536"

# How long another process that holds the database (a backup, a browser of databases) is waited for.
_LOCKED_SECONDS = 30.0


def connect_to_write(folder: Path) -> sqlite3.Connection:
    """Opens or makes the database; the caller holds the run's lock.

    Raises:
        UsageError: It was written by a newer version.
        StoreError: It cannot be read or written.
    """
    with telling(folder):
        connection = sqlite3.connect(
            folder / DATABASE,
            isolation_level=None,
            check_same_thread=False,
            timeout=_LOCKED_SECONDS,
        )
        # Rows hold whole texts: small pages would be left half empty.
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_CACHE)
        migrate(connection, str(folder))
        seals.register(connection)
    return connection


def connect_to_read(folder: Path) -> sqlite3.Connection:
    """Opens the database of a run, also while it is written.

    Raises:
        UsageError: The folder is no run, or is of a newer version.
        StoreError: It cannot be read.
    """
    expect_run(folder)
    with telling(folder):
        connection = sqlite3.connect(f"{(folder / DATABASE).resolve().as_uri()}?mode=ro", uri=True)
        connection.execute(_CACHE)
        version = check_version(connection, str(folder))
        if version < VERSION:
            connection.close()
            connection = _migrated_copy(folder)
        seals.register(connection)
    return connection


def expect_run(folder: Path) -> None:
    """Checks that a folder holds a database.

    Raises:
        UsageError: It does not.
    """
    if not (folder / DATABASE).is_file():
        raise UsageError(f"{folder}: expected a run folder with `{DATABASE}`, found none")


@contextmanager
def telling(folder: Path) -> Iterator[None]:
    """Turns errors of SQLite and of compressed texts into ours, naming the run."""
    try:
        yield
    except sqlite3.Error as error:
        where = f"{folder / DATABASE}: {error}"
        if any(word in str(error) for word in _DAMAGE):
            raise DamagedStoreError(f"{where}; {_repair(folder)}") from error
        raise StoreError(f"{where}; {_advice(error, folder)}") from error
    except (zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        where = f"{folder / DATABASE}: damaged: {error}"
        raise DamagedStoreError(f"{where}; {_repair(folder)}") from error


def _migrated_copy(folder: Path) -> sqlite3.Connection:
    """Gives an older database as the newest schema has it, in memory: readers write nothing."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    source = sqlite3.connect(f"{(folder / DATABASE).resolve().as_uri()}?mode=ro", uri=True)
    try:
        source.backup(copy)
    finally:
        source.close()
    migrate(copy, str(folder))
    return copy


def _advice(error: sqlite3.Error, folder: Path) -> str:
    if "locked" in str(error):
        return (
            "another process holds the database, and what was committed is safe: end that one, "
            f"then `evolve resume {folder}`"
        )
    return (
        "what was committed is safe: free the disk or mend its permissions, "
        f"then `evolve resume {folder}`"
    )


def _repair(folder: Path) -> str:
    return f"`evolve repair {folder} --output DIR` saves the last good generation"
