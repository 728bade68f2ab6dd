"""What is left of a damaged database, as a run that can be resumed."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import StoreError
from evolve.records import Plan
from evolve.store import rows, seals
from evolve.store.artifacts import ArtifactFiles
from evolve.store.copying import BY_GENERATION, connect_copy, cut_after
from evolve.store.opening import DATABASE, connect_to_read, telling
from evolve.store.pruning import PRUNED
from evolve.store.schema import MIGRATIONS, VERSION
from evolve.store.tally import NEWEST
from evolve.store.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from evolve.store.artifacts import Missing

_TEXTS = {"calls", "lessons", "artifacts", "artifact_files"}
_BACKWARDS = {
    "facts": "ORDER BY name DESC",
    "programs": "ORDER BY id DESC",
    "launches": "ORDER BY number DESC",
    **dict.fromkeys(("dictionaries", "sources"), "ORDER BY number DESC"),
    **dict.fromkeys((*BY_GENERATION, "seals"), "ORDER BY generation DESC"),
}
# The first generation in which something that is referred to is missing.
_BROKEN = (
    """SELECT MIN(a.generation) FROM attempts a LEFT JOIN programs p ON p.id = a.program
       WHERE a.program IS NOT NULL AND p.id IS NULL""",
    """SELECT MIN(e.generation) FROM evaluations e LEFT JOIN programs p ON p.id = e.program
       LEFT JOIN sources s ON s.number = p.source WHERE s.number IS NULL""",
    """SELECT MIN(e.generation) FROM evaluations e JOIN programs p ON p.id = e.program
       JOIN sources s ON s.number = p.source LEFT JOIN dictionaries d ON d.number = s.dictionary
       WHERE s.dictionary IS NOT NULL AND d.number IS NULL""",
    """SELECT MIN(a.generation) FROM attempts a LEFT JOIN evaluations e
       ON e.generation = a.generation AND e.slot = a.slot AND e.sequence = a.evaluation
       WHERE a.evaluation IS NOT NULL AND e.program IS NULL""",
)
# Where texts are: table, its generation, its dictionary and what is compressed against it, alone.
_PACKED = (
    ("artifacts", "generation", "NULL, data"),
    ("calls", "generation", "dictionary, request, reply"),
)
_PLANS = "SELECT generation, slot, number, plan FROM attempts WHERE plan IS NOT NULL"
_DROP_PLAN = "UPDATE attempts SET plan = NULL WHERE generation = ? AND slot = ? AND number = ?"
_SOURCES = (
    "SELECT p.id, s.dictionary, s.data FROM programs p LEFT JOIN sources s ON s.number = p.source "
    "WHERE p.source IS NOT NULL"
)
_COUNT_LATER = (
    "SELECT (SELECT COUNT(*) FROM calls WHERE generation > ?), "
    "(SELECT COUNT(*) FROM evaluations WHERE generation > ?)"
)


class Salvaged(NamedTuple):
    """What was saved of a damaged run.

    Attributes:
        generation: The last one all of whose rows, and those before, could be read.
        calls: Calls of later generations that were left out, as far as they could be read.
        evaluations: Evaluations, likewise.
        tables: What else is incomplete: facts, and, when no generation would be whole without
            them, texts that no decision of a committed generation needs again.
        missing: Artifacts whose file is gone or damaged.
    """

    generation: int
    calls: int
    evaluations: int
    tables: list[str]
    missing: list[Missing]


def salvage_database(source: Path, target: Path) -> Salvaged:
    """Copies what can be read of a damaged database, up to its last good generation.

    Args:
        source: Folder of the damaged run.
        target: Folder without a database.

    Nothing of a later generation is kept: what was paid for there may rest on what is lost.

    Raises:
        StoreError: Not even the starting program can be read.
    """
    with telling(target), closing(connect_copy(target)) as copy:
        copy.executescript("\n".join(MIGRATIONS) + f"PRAGMA user_version = {VERSION};")
        copy.execute("BEGIN")
        with closing(connect_to_read(source)) as original:
            losses = _copy_rows(original, copy)
        for table, generation in _drop_unreadable(copy).items():
            losses[table] = min(generation, losses.get(table, NEWEST))
        last, tables = _last_whole(copy, losses.values(), told=False), []
        if last < 0:
            tables = sorted(_TEXTS & losses.keys()) or ["texts"]
            needed = [losses[name] for name in losses.keys() - _TEXTS]
            last = _last_whole(copy, needed, told=True)
        if last < 0:
            raise StoreError(f"{source / DATABASE}: damaged: not even the start can be read")
        try:
            seals.expect_facts(copy)
        except sqlite3.DatabaseError:
            tables.append("facts")
        if tables:
            copy.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (PRUNED, str(last)))
        copy.execute("COMMIT")
        ((calls, evaluations),) = copy.execute(_COUNT_LATER, (last, last))
        cut_after(copy, last)
        seals.seal_again(copy)
        copy.execute("VACUUM")
        files = ArtifactFiles(source)
        files.copy_to(target, copy)
        missing = files.find_missing(copy, contents=True)
        return Salvaged(last, calls, evaluations, tables, missing)


def _copy_rows(original: sqlite3.Connection, copy: sqlite3.Connection) -> dict[str, int]:
    """Copies all rows that can be read; gives the first generation that lost one, by table."""
    lost: dict[str, int] = {}
    for table, backwards in _BACKWARDS.items():
        names = [row[1] for row in copy.execute(f"PRAGMA table_info({table})")]
        sql = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        newest = -1
        # From both ends: a bad page in the middle hides nothing but itself.
        for order in ("", backwards):
            try:
                for row in original.execute(f"SELECT * FROM {table} {order}"):  # noqa: S608
                    copy.execute(sql, row)
                    newest = max(newest, row[0]) if table in BY_GENERATION else newest
                break
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                if not order and table in BY_GENERATION:
                    lost[table] = max(newest, 0)
    return lost


def _drop_unreadable(copy: sqlite3.Connection) -> dict[str, int]:
    """Drops rows whose texts cannot be read; gives the first generation that lost one, by table."""
    texts = Texts(copy)
    lost: dict[str, int] = {}
    _drop_facts_and_plans(copy)
    _drop_sources(copy, texts)
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


def _drop_facts_and_plans(copy: sqlite3.Connection) -> None:
    for table, key, value in (("facts", "name", "value"), ("launches", "number", "changes")):
        for name, text in copy.execute(f"SELECT {key}, {value} FROM {table}").fetchall():  # noqa: S608
            if not _is_json(text):
                copy.execute(f"DELETE FROM {table} WHERE {key} = ?", (name,))  # noqa: S608
    for *key, plan in copy.execute(_PLANS).fetchall():
        if not _is_plan(plan):
            copy.execute(_DROP_PLAN, key)


def _drop_sources(copy: sqlite3.Connection, texts: Texts) -> None:
    for program, *source in copy.execute(_SOURCES).fetchall():
        try:
            rows.program(source[0], source[1], texts, program)
        except (zlib.error, ValueError, sqlite3.DatabaseError):
            copy.execute("UPDATE programs SET source = NULL WHERE id = ?", (program,))


def _is_json(text: object) -> bool:
    try:
        json.loads(str(text))
    except ValueError:
        return False
    return True


def _is_plan(text: object) -> bool:
    try:
        Plan.from_dict(json.loads(str(text)))
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _last_whole(copy: sqlite3.Connection, lost: Iterable[int], *, told: bool) -> int:
    """Gives the last generation before which nothing is missing or differs from what was written.

    Args:
        copy: What could be read.
        lost: Generations of which something could not be read.
        told: Whether only what the population is told must be as it was written.
    """
    found = [copy.execute(sql).fetchone()[0] for sql in _BROKEN]
    found.append(seals.find_damaged(copy, told=told))
    broken = min([NEWEST, *lost, *(generation for generation in found if generation is not None)])
    (last,) = copy.execute(
        "SELECT MAX(generation) FROM generations WHERE generation < ?", (broken,)
    ).fetchone()
    return -1 if last is None else int(last)
