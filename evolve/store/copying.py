"""Copies of a run's database: up to a generation, or what is left of a damaged one."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import StoreError, UsageError
from evolve.store.artifacts import ArtifactFiles
from evolve.store.opening import DATABASE, connect_to_read, telling
from evolve.store.pruning import PRUNED
from evolve.store.schema import MIGRATIONS, VERSION
from evolve.store.tally import NEWEST
from evolve.store.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from evolve.store.artifacts import Missing

_BY_GENERATION = (
    "generations",
    "attempts",
    "lessons",
    "evaluations",
    "artifacts",
    "artifact_files",
    "expenses",
    "calls",
)
_TEXTS = {"calls", "lessons", "artifacts", "artifact_files"}
_BACKWARDS = {
    "facts": "ORDER BY name DESC",
    "programs": "ORDER BY id DESC",
    "launches": "ORDER BY number DESC",
    **dict.fromkeys(("dictionaries", "sources"), "ORDER BY number DESC"),
    **dict.fromkeys(_BY_GENERATION, "ORDER BY generation DESC"),
}
# The first generation in which something that is referred to is missing.
_BROKEN = (
    """SELECT MIN(a.generation) FROM attempts a LEFT JOIN programs p ON p.id = a.program
       WHERE a.program IS NOT NULL AND p.id IS NULL""",
    """SELECT MIN(e.generation) FROM evaluations e LEFT JOIN programs p ON p.id = e.program
       LEFT JOIN sources s ON s.number = p.source WHERE e.status = 'ok' AND s.number IS NULL""",
    """SELECT MIN(e.generation) FROM evaluations e JOIN programs p ON p.id = e.program
       JOIN sources s ON s.number = p.source LEFT JOIN dictionaries d ON d.number = s.dictionary
       WHERE s.dictionary IS NOT NULL AND d.number IS NULL""",
    """SELECT MIN(a.generation) FROM attempts a LEFT JOIN evaluations e
       ON e.generation = a.generation AND e.slot = a.slot AND e.sequence = a.evaluation
       WHERE a.evaluation IS NOT NULL AND e.program IS NULL""",
)
# Where texts are: table, its generation, its dictionary and what is compressed against it, alone.
_PACKED = (
    ("sources", NEWEST, "dictionary, data"),
    ("artifacts", "generation", "NULL, data"),
    ("calls", "generation", "dictionary, request, reply"),
)
_COUNT_LATER = (
    "SELECT (SELECT COUNT(*) FROM calls WHERE generation > ?), "
    "(SELECT COUNT(*) FROM evaluations WHERE generation > ?)"
)
# What is dropped when nothing that is left refers to it.
_DROP_UNUSED = """
    DELETE FROM programs WHERE id NOT IN (SELECT program FROM evaluations)
        AND id NOT IN (SELECT program FROM attempts WHERE program IS NOT NULL);
    DELETE FROM sources
        WHERE number NOT IN (SELECT source FROM programs WHERE source IS NOT NULL);
    DELETE FROM snapshots;
"""


class Salvaged(NamedTuple):
    """What was saved of a damaged run.

    Attributes:
        generation: The last one all of whose rows, and those before, could be read.
        calls: Calls of later generations that were left out, as far as they could be read.
        evaluations: Evaluations, likewise.
        tables: What else is incomplete, when without it no generation would be whole: texts that
            no decision of a committed generation needs again.
        missing: Artifacts whose file is gone or damaged.
    """

    generation: int
    calls: int
    evaluations: int
    tables: list[str]
    missing: list[Missing]


def copy_database(source: Path, target: Path, generation: int | None) -> int:
    """Copies a run's database with everything up to a generation.

    Args:
        source: Folder of the run; it may be running.
        target: Folder without a database.
        generation: The last one that is copied; the last committed one by default.

    Returns:
        The last generation of the copy.

    Raises:
        UsageError: The run has no such generation.
        StoreError: A database cannot be read or written.
    """
    with telling(target), closing(_connect(target)) as copy:
        with telling(source), closing(connect_to_read(source)) as original:
            last = _find_generation(original, source, generation)
            original.backup(copy)
        _cut(copy, last)
        # Another run, with launches and settings of its own.
        copy.execute("DELETE FROM launches")
        copy.execute("VACUUM")
        ArtifactFiles(source).copy_to(target, copy)
    return last


def salvage_database(source: Path, target: Path) -> Salvaged:
    """Copies what can be read of a damaged database, up to its last good generation.

    Args:
        source: Folder of the damaged run.
        target: Folder without a database.

    Nothing of a later generation is kept: what was paid for there may rest on what is lost.

    Raises:
        StoreError: Not even the starting program can be read.
    """
    with telling(target), closing(_connect(target)) as copy:
        copy.executescript("\n".join(MIGRATIONS) + f"PRAGMA user_version = {VERSION};")
        copy.execute("BEGIN")
        with closing(connect_to_read(source)) as original:
            losses = _copy_rows(original, copy)
        for table, generation in _drop_unreadable(copy).items():
            losses[table] = min(generation, losses.get(table, NEWEST))
        last, tables = _last_whole(copy, losses.values()), []
        if last < 0:
            tables = sorted(_TEXTS & losses.keys())
            last = _last_whole(copy, [losses[name] for name in losses.keys() - _TEXTS])
        if last < 0:
            raise StoreError(f"{source / DATABASE}: damaged: not even the start can be read")
        if tables:
            copy.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (PRUNED, str(last)))
        copy.execute("COMMIT")
        ((calls, evaluations),) = copy.execute(_COUNT_LATER, (last, last))
        _cut(copy, last)
        copy.execute("VACUUM")
        files = ArtifactFiles(source)
        files.copy_to(target, copy)
        missing = files.find_missing(copy, contents=True)
        return Salvaged(last, calls, evaluations, tables, missing)


def _connect(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    connection.execute("PRAGMA page_size = 16384")
    return connection


def _find_generation(original: sqlite3.Connection, source: Path, generation: int | None) -> int:
    (last,) = original.execute("SELECT MAX(generation) FROM generations").fetchone()
    if last is None:
        raise UsageError(f"{source}: the run has no generation yet")
    if generation is None:
        return int(last)
    if not 0 <= generation <= last:
        raise UsageError(f"{source}: expected a generation from 0 to {last}, got {generation}")
    return generation


def _cut(copy: sqlite3.Connection, generation: int) -> None:
    copy.execute("BEGIN IMMEDIATE")
    for table in _BY_GENERATION:
        copy.execute(f"DELETE FROM {table} WHERE generation > ?", (generation,))  # noqa: S608
    for statement in _DROP_UNUSED.split(";")[:-1]:
        copy.execute(statement)
    copy.execute("COMMIT")


def _copy_rows(original: sqlite3.Connection, copy: sqlite3.Connection) -> dict[str, int]:
    """Copies all rows that can be read; gives the first generation that lost one, by table."""
    lost: dict[str, int] = {}
    for table in ("facts", "launches", "dictionaries", "sources", "programs", *_BY_GENERATION):
        names = [row[1] for row in copy.execute(f"PRAGMA table_info({table})")]
        sql = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        newest = -1
        # From both ends: a bad page in the middle hides nothing but itself.
        for order in ("", _BACKWARDS[table]):
            try:
                for row in original.execute(f"SELECT * FROM {table} {order}"):  # noqa: S608
                    copy.execute(sql, row)
                    newest = max(newest, row[0]) if table in _BY_GENERATION else newest
                break
            except sqlite3.DatabaseError:
                if not order and table in _BY_GENERATION:
                    lost[table] = max(newest, 0)
    return lost


def _drop_unreadable(copy: sqlite3.Connection) -> dict[str, int]:
    """Drops rows whose texts cannot be read; gives the first generation that lost one, by table."""
    texts = Texts(copy)
    lost: dict[str, int] = {}
    for name, value in copy.execute("SELECT name, value FROM facts").fetchall():
        if not _is_json(value):
            copy.execute("DELETE FROM facts WHERE name = ?", (name,))
    for table, generation, packed in _PACKED:
        sql = f"SELECT rowid, {generation}, {packed} FROM {table}"  # noqa: S608
        for row, number, dictionary, *data in copy.execute(sql).fetchall():
            try:
                texts.unpack(dictionary, data[0])
                for alone in data[1:]:
                    texts.unpack(None, alone)
            except (zlib.error, sqlite3.DatabaseError):
                copy.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))  # noqa: S608
                lost[table] = min(number, lost.get(table, NEWEST))
    return lost


def _is_json(text: object) -> bool:
    try:
        json.loads(str(text))
    except ValueError:
        return False
    return True


def _last_whole(copy: sqlite3.Connection, lost: Iterable[int]) -> int:
    """Gives the last generation before which nothing is missing."""
    found = [copy.execute(sql).fetchone()[0] for sql in _BROKEN]
    broken = min([NEWEST, *lost, *(generation for generation in found if generation is not None)])
    (last,) = copy.execute(
        "SELECT MAX(generation) FROM generations WHERE generation < ?", (broken,)
    ).fetchone()
    return -1 if last is None else int(last)
