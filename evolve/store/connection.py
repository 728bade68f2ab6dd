"""Connections to a run's database, its one writer, and what errors say when it fails."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from evolve.errors import DamagedStoreError, StoreError, UsageError
from evolve.files import lock_file, open_plain, writing
from evolve.store.schema import create_schema, has_schema

DATABASE = "run.db"
LOCK_FILE = "run.lock"
# Words in errors of SQLite, and of ours, that mean damage.
_DAMAGE = ("damaged", "malformed", "not a database", "missing", "no such", "decode")
# What reading a damaged text raises.
_UNREADABLE = (
    zlib.error, ValueError, TypeError, KeyError, IndexError, AttributeError, StopIteration,
    RecursionError,
)  # fmt: skip
_SUFFIXES = ("", "-wal", "-shm", "-journal")
# A database may be somebody else's: code in it is not run.
_DISTRUST = "PRAGMA trusted_schema = OFF"
_FOREIGN = (
    "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') "
    "OR sql LIKE 'CREATE VIRTUAL%' OR sql LIKE '%GENERATED%'"
)
# 64 MB: the index of 10^6 programs.
_CACHE = "PRAGMA cache_size = -65536"

_NO_SHARED_MEMORY = {
    sqlite3.SQLITE_IOERR_SHMMAP,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMLOCK,
}
# How long another process that holds the database (a backup, a browser of databases) is waited for.
_LOCKED_SECONDS = 30.0


def connect_to_write(folder: Path) -> sqlite3.Connection:
    """Opens or makes the database; the caller holds the run's lock.

    Raises:
        UsageError: It was written by another version.
        StoreError: It cannot be read or written.
    """
    _expect_plain(folder)
    with naming_errors(folder):
        connection = _open_with_log(folder)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_CACHE)
        _distrust(connection)
        if not has_schema(connection, str(folder)):
            create_schema(connection)
    return connection


def _open_with_log(folder: Path) -> sqlite3.Connection:
    """Opens a database with the log that readers do not wait for, or a journal where none can be.

    The log needs memory shared through the file system, which network file systems and those of
    virtual machines' shared folders do not offer.
    """
    connection = _open_database(folder)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        connection.close()
        if not _lacks_shared_memory(error):
            raise
        connection = _open_database(folder)
        # A log is read into memory of this process alone, and given up.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA locking_mode = NORMAL")
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    return connection


def _open_database(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        folder / DATABASE, isolation_level=None, check_same_thread=False, timeout=_LOCKED_SECONDS
    )
    # Rows hold whole texts: small pages would be left half empty.
    connection.execute("PRAGMA page_size = 16384")
    return connection


def connect_to_read(folder: Path) -> sqlite3.Connection:
    """Opens the database of a run, also while it is written.

    Raises:
        UsageError: The folder is no run, or is of another version.
        StoreError: It cannot be read.
    """
    expect_run(folder)
    _expect_plain(folder)
    with naming_errors(folder):
        connection = _open_to_read(folder)
        connection.execute(_CACHE)
        _distrust(connection)
        if not has_schema(connection, str(folder)):
            # The run has only just begun: readers write nothing.
            connection.close()
            connection = sqlite3.connect(":memory:", isolation_level=None)
            create_schema(connection)
    return connection


def _open_to_read(folder: Path) -> sqlite3.Connection:
    address = f"{(folder / DATABASE).resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(address, uri=True)
    try:
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        log = folder / f"{DATABASE}-wal"
        is_whole = not log.exists() or not log.stat().st_size
        if not _lacks_shared_memory(error) or not is_whole or is_locked(folder):
            connection.close()
            raise
        # It was written elsewhere; nobody writes it here.
        connection.close()
        connection = sqlite3.connect(f"{address}&immutable=1", uri=True)
    return connection


def _lacks_shared_memory(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) in _NO_SHARED_MEMORY


def expect_run(folder: Path) -> None:
    """Checks that a folder holds a database.

    Raises:
        UsageError: It does not.
    """
    if not (folder / DATABASE).is_file():
        raise UsageError(f"{folder}: expected a run folder with `{DATABASE}`, found none")


def _expect_plain(folder: Path) -> None:
    """Checks that the database is a file of this folder: SQLite follows links.

    Raises:
        UsageError: It is a link, or something else in the place of a file.
    """
    for suffix in _SUFFIXES:
        path = folder / f"{DATABASE}{suffix}"
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UsageError(
                f"{path}: expected a file of the run, got a link or no regular file; links are "
                "not followed"
            )


def _distrust(connection: sqlite3.Connection) -> None:
    connection.execute(_DISTRUST)
    for (name,) in connection.execute(_FOREIGN):
        raise sqlite3.DatabaseError(f"damaged: it holds `{name!s:.100}`, which no run has")


def take_lock(folder: Path) -> int:
    """Takes the right to write a run; one that a dead process held is free.

    Returns:
        A descriptor: the lock is held until it is closed, or the process ends.

    Raises:
        UsageError: Another process holds it; the message has its pid.
        StoreError: The lock file cannot be written.
    """
    path = folder / LOCK_FILE
    with writing(path):
        descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
    try:
        is_free = lock_file(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise StoreError(
            f"{path}: this file system locks no files ({error.strerror}): choose a local "
            "folder with `--run-dir`"
        ) from error
    if not is_free:
        holder = _read_holder(descriptor)
        os.close(descriptor)
        raise UsageError(
            f"{folder}: the run is being written by process {holder}; wait for it or stop it"
        )
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def is_locked(folder: Path) -> bool:
    """Returns whether a living process writes the run."""
    return find_holder(folder) is not None


def find_holder(folder: Path) -> str | None:
    """Returns the pid of the process that writes the run, `unknown` for a moment, or None."""
    try:
        descriptor = open_plain(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if lock_file(descriptor, is_shared=True) else _read_holder(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming_errors(folder: Path) -> Iterator[None]:
    """Turns errors of SQLite into ours, naming the database and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        where = f"{folder / DATABASE}: {error}"
        if any(word in str(error) for word in _DAMAGE):
            raise DamagedStoreError(f"{where}; {_repair(folder)}") from error
        raise StoreError(f"{where}; {_advice(error, folder)}") from error
    # A message that quotes a damaged schema.
    except UnicodeDecodeError as error:
        raise _name_damage(folder, error) from error


@contextmanager
def parsing(folder: Path) -> Iterator[None]:
    """Turns errors of SQLite, and of texts and values that are none, into ours."""
    try:
        with naming_errors(folder):
            yield
    except _UNREADABLE as error:
        raise _name_damage(folder, error) from error


def _advice(error: sqlite3.Error, folder: Path) -> str:
    if "locked" in str(error):
        return (
            "another process holds the database, and what was committed is safe: end that one, "
            f"then `evolve resume {quote(str(folder))}`"
        )
    if _lacks_shared_memory(error):
        return (
            "what was committed is safe: this file system has no memory shared between processes: "
            "copy the run to a local folder"
        )
    return (
        "what was committed is safe: free the disk or mend its permissions, "
        f"then `evolve resume {quote(str(folder))}`"
    )


def _name_damage(folder: Path, error: Exception) -> DamagedStoreError:
    where = f"{folder / DATABASE}: damaged: {type(error).__name__}: {error}"
    return DamagedStoreError(f"{where}; {_repair(folder)}")


def _repair(folder: Path) -> str:
    return f"`evolve repair {quote(str(folder))} --output DIR` copies what can be read"


def _read_holder(descriptor: int) -> str:
    return os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
