"""A copy of what can be read of a damaged database, as a run that can be resumed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import DamagedStoreError, StoreError
from evolve.store.artifacts import ArtifactFiles
from evolve.store.copying import BY_GENERATION, connect_copy, cut_after
from evolve.store.opening import DATABASE, connect_to_read, telling
from evolve.store.reading import Reader
from evolve.store.schema import create_schema
from evolve.store.tally import NEWEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evolve.store import rows
    from evolve.store.artifacts import Missing

# What tells the rows of a table apart, so that they can be read in both directions.
_KEYS = {
    "facts": "name",
    "launches": "number",
    "programs": "id",
    "sources": "number",
    **dict.fromkeys(BY_GENERATION, "generation"),
}
# What a run can go on without: their unreadable rows are left out.
_FACTS = {"facts": "name, value", "launches": "number, changes"}
_COUNT_LATER = (
    "SELECT (SELECT COUNT(*) FROM calls WHERE generation > ?), "
    "(SELECT COUNT(*) FROM evaluations WHERE generation > ?)"
)
_MOST_FINDINGS = 5


class Salvaged(NamedTuple):
    """What was saved of a damaged run.

    Attributes:
        generation: The last one of which, and of those before, everything can be read.
        calls: Calls of later generations that were left out, as far as they could be read.
        evaluations: Evaluations, likewise.
        lost: Names of facts, and numbers of launches, that could not be read.
        findings: What SQLite's check of the database said; empty when it found nothing.
        missing: Artifacts whose file is gone or damaged.
    """

    generation: int
    calls: int
    evaluations: int
    lost: list[str]
    findings: list[str]
    missing: list[Missing]


def salvage_database(source: Path, target: Path) -> Salvaged:
    """Copies what can be read of a damaged database, up to its last whole generation.

    Nothing of a later generation is kept: what was paid for there may rest on what is lost.

    Args:
        source: Folder of the damaged run.
        target: Folder without a database.

    Raises:
        StoreError: Not even the starting program can be read.
    """
    with telling(target), closing(connect_copy(target)) as copy:
        create_schema(copy)
        with closing(connect_to_read(source)) as original:
            findings = _check(original)
            copy.execute("BEGIN")
            end = min(_copy_table(original, copy, table) for table in _KEYS)
            lost = _drop_unreadable_facts(copy)
            copy.execute("COMMIT")
        files = ArtifactFiles(source)
        last = _find_last_whole(Reader(copy, source), end)
        if last < 0:
            raise StoreError(f"{source / DATABASE}: damaged: not even the start can be read")
        ((calls, evaluations),) = copy.execute(_COUNT_LATER, (last, last))
        cut_after(copy, last)
        copy.execute("VACUUM")
        files.copy_to(target, copy)
        missing = files.find_missing(copy, contents=True)
        return Salvaged(last, calls, evaluations, lost, findings, missing)


def _check(original: sqlite3.Connection) -> list[str]:
    """Returns what SQLite finds wrong with a database."""
    findings: list[str] = []
    try:
        for (text,) in original.execute(f"PRAGMA integrity_check({_MOST_FINDINGS})"):
            findings += [line for line in str(text).splitlines() if line != "ok"]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        findings.append(str(error))
    return findings


def _copy_table(original: sqlite3.Connection, copy: sqlite3.Connection, table: str) -> int:
    """Copies the rows of a table that can be read.

    Returns:
        The first generation that may have lost a row.
    """
    width = len(copy.execute(f"PRAGMA table_info({table})").fetchall())
    sql = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * width)})"  # noqa: S608
    place = 1 if table == "expenses" else 0
    forwards = f"ORDER BY {_KEYS[table]}"
    newest = 0
    # As the rows are stored, all of them are found without any index. Where that fails, in the
    # order of their keys, so that it is known where they end; then from the other end.
    for order in ("", forwards, f"{forwards} DESC"):
        for row in _read_rows(original, f"SELECT * FROM {table} {order}"):  # noqa: S608
            if row is None:
                break
            copy.execute(sql, row)
            if order == forwards and isinstance(row[place], int):
                newest = row[place]
        else:
            return NEWEST
    return newest if table in BY_GENERATION else NEWEST


def _read_rows(original: sqlite3.Connection, sql: str) -> Iterator[rows.Row | None]:
    """Yields rows, and None where the next one cannot be read."""
    try:
        yield from original.execute(sql)
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        yield None


def _drop_unreadable_facts(copy: sqlite3.Connection) -> list[str]:
    lost = []
    for table, columns in _FACTS.items():
        for key, text in copy.execute(f"SELECT {columns} FROM {table}").fetchall():  # noqa: S608
            try:
                json.loads(text)
            except (ValueError, TypeError):
                key_column = _KEYS[table]
                copy.execute(f"DELETE FROM {table} WHERE {key_column} = ?", (key,))  # noqa: S608
                lost.append(f"{table}: {key}")
    return lost


def _find_last_whole(reader: Reader, end: int) -> int:
    """Returns the last generation before an end up to which everything can be read."""
    last = -1
    for number, _ in reader.generations():
        if number != last + 1 or number >= end or not _is_readable(reader, number):
            break
        last = number
    return last


def _is_readable(reader: Reader, generation: int) -> bool:
    try:
        reader.finished_after(generation - 1, generation)
        for key in reader.keys_of(generation):
            reader.load_attempt(key)
        reader.load_summary(generation)
        reader.load_plans(generation)
    except DamagedStoreError:
        return False
    return True
