"""Checksums of what a run's database holds, generation by generation.

SQLite keeps none of its pages, so a bit that flips on a disk may go unseen. Texts that are
compressed carry a checksum, and a program's id is the hash of its source; seals hold all else.
"""

from __future__ import annotations

import marshal
import sqlite3
import zlib
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from evolve.store import statements
from evolve.store.tally import NEWEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Of what is known of the whole run, beside its generations.
_FACTS = -1
# The columns that are sealed, with their generation; those of a later schema need a new version.
_COLUMNS = {
    "generations": "seconds",
    "attempts": "slot, number, island, parent_generation, parent_slot, parent_number, depth, plan, "
    "program, evaluation, reason, detail",
    "lessons": "slot, verdict, cause, lesson, tags, evidence, next_step",
    "evaluations": "slot, sequence, program, status, objective, metrics, measures, seconds, reason",
    "artifacts": "slot, sequence",
    "artifact_files": 'slot, sequence, name, sha256, bytes, start, "end"',
    "expenses": "slot, role, model, prompt_tokens, cached_tokens, completion_tokens, cost_usd, "
    "lost",
    "calls": "slot, sequence, request_hash, role, model, error, finish_reason, prompt_tokens, "
    "completion_tokens, cost_usd, seconds, dictionary, cached_tokens",
}
# What tells the rows apart that are written as they are paid for; a commit writes all others.
_PLACE = ("generation", "slot", "sequence")
_KEYS = {
    "evaluations": _PLACE,
    "artifacts": _PLACE,
    "calls": _PLACE,
    "artifact_files": (*_PLACE, "name"),
    "expenses": ("number",),
}
# What a resume reads of all generations at once, and how many of its columns are sealed.
_LIGHT = {"told": (statements.SELECT_TOLD, 15), "uses": (statements.SELECT_USES, 6)}
# The format that is the same in every Python, whatever objects are shared.
_MARSHAL = 2
# What is said of a text that is no UTF-8.
_NO_TEXT = "user-defined function raised exception"
_SUMS = " UNION ALL ".join(
    f"SELECT generation, seal('{table}', generation, {columns}) AS seal FROM {table} "  # noqa: S608
    "WHERE generation > :since AND generation <= :upto"
    for table, columns in _COLUMNS.items()
)
_SUM_PAID = {
    table: f"SELECT generation, seal('{table}', generation, {_COLUMNS[table]}) FROM {table} "  # noqa: S608
    f"WHERE {' AND '.join(f'{name} = ?' for name in key)}"
    for table, key in _KEYS.items()
}
_COMMITTED = " UNION ALL ".join(
    f"SELECT seal('{table}', generation, {columns}) AS seal FROM {table} "  # noqa: S608
    "WHERE generation = :generation"
    for table, columns in _COLUMNS.items()
    if table not in _KEYS
)
_SUM_COMMITTED = f"SELECT SUM(seal) FROM ({_COMMITTED})"  # noqa: S608
_SUM_ROWS = f"SELECT generation, SUM(seal) AS sum FROM ({_SUMS}) GROUP BY generation"  # noqa: S608
# Seal and rows in one statement: a run may be writing meanwhile.
_FIND_DAMAGED = (
    f"SELECT s.generation FROM seals s LEFT JOIN ({_SUM_ROWS}) r USING (generation) "  # noqa: S608
    "WHERE s.generation > :since AND s.generation <= :upto AND s.rows IS NOT r.sum "
    "ORDER BY s.generation LIMIT 1"
)
_SUM_FACTS = (
    "SELECT SUM(seal) FROM (SELECT seal(name, value) AS seal FROM facts UNION ALL SELECT "
    "seal(number, started, pid, host, version, generation, changes) FROM launches)"
)
_ARE_FACTS_DAMAGED = f"SELECT rows IS NOT ({_SUM_FACTS}) FROM seals WHERE generation = ?"  # noqa: S608
_SEAL = (
    "INSERT INTO seals (generation, rows) VALUES (?, ?) "
    "ON CONFLICT (generation) DO UPDATE SET rows = excluded.rows"
)
_ADD = "UPDATE seals SET rows = rows + ? WHERE generation = ?"

Row = tuple[Any, ...]


class DamagedError(sqlite3.DatabaseError):
    """The rows of a generation are not those that were written."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"damaged: generation {generation} is not what was written")
        self.generation = generation


def register(connection: sqlite3.Connection) -> None:
    """Lets a connection seal rows and look at seals."""
    connection.create_function("seal", -1, _seal, deterministic=True)


def seal_paid(connection: sqlite3.Connection, written: Iterable[tuple[str, Row]]) -> None:
    """Seals new rows of what was paid for, each given with its table; it begins with its key.

    What was sealed before is not looked at again: it would count as right if it had changed.
    """
    sums: dict[int, int] = {}
    for table, row in written:
        key = row[: len(_KEYS[table])]
        generation, seal = connection.execute(_SUM_PAID[table], key).fetchone()
        sums[generation] = sums.get(generation, 0) + seal
    for generation, total in sums.items():
        _add(connection, generation, total)


def seal_told(connection: sqlite3.Connection, generation: int) -> None:
    """Seals a generation that is complete: what its commit wrote is added."""
    (total,) = connection.execute(_SUM_COMMITTED, {"generation": generation}).fetchone()
    _add(connection, generation, total)
    _seal_light(connection, generation)


def seal_facts(connection: sqlite3.Connection) -> None:
    """Seals the facts and the launches."""
    (total,) = connection.execute(_SUM_FACTS).fetchone()
    connection.execute(_SEAL, (_FACTS, total))


def seal_again(connection: sqlite3.Connection) -> None:
    """Seals everything as it is: what was changed on purpose is from now on what is right."""
    seal_facts(connection)
    sealed = connection.execute("SELECT generation, told FROM seals WHERE generation >= 0")
    for generation, told in sealed.fetchall():
        _seal_rows(connection, generation)
        if told is not None:
            _seal_light(connection, generation)


def expect_whole(connection: sqlite3.Connection, since: int, upto: int = NEWEST) -> None:
    """Checks the generations after one, up to another; those of older schemas have no seals.

    Raises:
        DamagedError: One of them is not what was written.
    """
    try:
        found = connection.execute(_FIND_DAMAGED, {"since": since, "upto": upto}).fetchone()
    except sqlite3.OperationalError as error:
        if _NO_TEXT not in str(error):
            raise
        if upto - since == 1:
            raise DamagedError(upto) from error
        sealed = "SELECT generation FROM seals WHERE generation > ? AND generation <= ?"
        for (generation,) in connection.execute(sealed, (since, upto)).fetchall():
            expect_whole(connection, generation - 1, generation)
        raise
    if found is not None:
        raise DamagedError(found[0])


def expect_facts(connection: sqlite3.Connection) -> None:
    """Checks the facts and the launches.

    Raises:
        DatabaseError: They are not what was written.
    """
    try:
        found = connection.execute(_ARE_FACTS_DAMAGED, (_FACTS,)).fetchone()
    except sqlite3.OperationalError as error:
        if _NO_TEXT not in str(error):
            raise
        found = (1,)
    if found == (1,):
        raise sqlite3.DatabaseError("damaged: facts and launches are not those that were written")


def checked_told(connection: sqlite3.Connection, since: int) -> Iterator[list[Row]]:
    """Gives the rows of `SELECT_TOLD` by generation, each once it is checked.

    Raises:
        DamagedError: A generation is not what was written.
    """
    return _checked(connection, "told", since)


def checked_uses(connection: sqlite3.Connection, since: int) -> Iterator[list[Row]]:
    """Gives the rows of `SELECT_USES` by generation; raises as `checked_told`."""
    return _checked(connection, "uses", since)


def find_damaged(connection: sqlite3.Connection, *, told: bool) -> int | None:
    """Gives the first generation that is not what was written.

    Args:
        connection: Open to read.
        told: Whether only what the population is told is looked at.
    """
    try:
        if told:
            for _ in checked_told(connection, 0):
                pass
        else:
            expect_whole(connection, _FACTS)
    except DamagedError as error:
        return error.generation
    return None


def _add(connection: sqlite3.Connection, generation: int, total: int) -> None:
    if not connection.execute(_ADD, (total, generation)).rowcount:
        # The first rows, or the first after those that an older schema wrote.
        _seal_rows(connection, generation)


def _seal_rows(connection: sqlite3.Connection, generation: int) -> None:
    limits = {"since": generation - 1, "upto": generation}
    connection.executemany(_SEAL, connection.execute(_SUM_ROWS, limits).fetchall())


def _seal_light(connection: sqlite3.Connection, generation: int) -> None:
    light = [
        _seal_all(connection.execute(sql, (generation, generation)).fetchall(), columns)
        for sql, columns in _LIGHT.values()
    ]
    connection.execute(
        "UPDATE seals SET told = ?, uses = ? WHERE generation = ?", (*light, generation)
    )


def _checked(connection: sqlite3.Connection, kind: str, since: int) -> Iterator[list[Row]]:
    sql = f"SELECT generation, {kind} FROM seals WHERE generation >= ? ORDER BY generation"  # noqa: S608
    left = dict(connection.execute(sql, (since,)).fetchall())
    statement, columns = _LIGHT[kind]
    rows = connection.execute(statement, (since, NEWEST))
    for generation, group in groupby(rows, key=itemgetter(0)):
        found = list(group)
        _expect_empty(left, generation)
        if left.pop(generation, None) not in {None, _seal_all(found, columns)}:
            raise DamagedError(generation)
        yield found
    _expect_empty(left, NEWEST)


def _expect_empty(left: dict[int, int | None], generation: int) -> None:
    """Takes the seals of earlier generations away: those without rows never had any."""
    while left and (first := next(iter(left))) < generation:
        if left.pop(first) not in {None, _seal_all([], 0)}:
            raise DamagedError(first)


def _seal(*values: str | bytes | float | None) -> int:
    return zlib.crc32(marshal.dumps(values, _MARSHAL))


def _seal_all(rows: list[Row], columns: int) -> int:
    return zlib.crc32(marshal.dumps([row[:columns] for row in rows], _MARSHAL))
