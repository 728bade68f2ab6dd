"""What was last written, noted in a file of its own, so that a log that was cut is noticed.

SQLite takes its log up to the last whole commit: one that was truncated or deleted looks like that
of a run that was killed earlier. The note follows what is durable in the database, so it never
tells of more than there was; no disk is waited for.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from evolve.errors import StoreError
from evolve.records.results import Call, Evaluated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from evolve.records.results import Expense

NOTE_FILE = "run.last"
# Each note takes as much, so that none leaves anything of an earlier one.
_NOTE_BYTES = 240
_WHERE = "WHERE generation = ? AND slot = ? AND sequence = ?"
_IS_THERE = {
    "generation": "SELECT 1 FROM generations WHERE generation = ?",
    "call": f"SELECT 1 FROM calls {_WHERE}",  # noqa: S608
    "evaluation": f"SELECT 1 FROM evaluations {_WHERE}",  # noqa: S608
}


class Witness:
    """Notes what a run's database holds for certain.

    Args:
        folder: The run's; the caller holds its lock.

    Raises:
        StoreError: The note cannot be written, as in all methods.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NOTE_FILE
        self._last: dict[str, Sequence[int]] = {}
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._failure(error) from error

    def note_paid(self, items: Sequence[Call | Evaluated | Expense]) -> None:
        """Notes calls and evaluations that are durable."""
        for item in items:
            if isinstance(item, Call | Evaluated):
                self._last["call" if isinstance(item, Call) else "evaluation"] = item.key
        self._write()

    def note_committed(self, generation: int) -> None:
        """Notes a generation that is durable."""
        self._last["generation"] = (generation,)
        self._write()

    def close(self) -> None:
        """Gives the file back."""
        with suppress(OSError):
            os.close(self._descriptor)

    def _write(self) -> None:
        try:
            text = f"{json.dumps(self._last):<{_NOTE_BYTES - 1}}\n"
            os.pwrite(self._descriptor, text.encode(), 0)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self._path}: cannot be written: {error.strerror or error}; what was committed is "
            f"safe: free the disk or mend its permissions, then `evolve resume {self._path.parent}`"
        )


def read_noted(folder: Path) -> dict[str, list[int]]:
    """Gives what a run's database is known to have held; read it before opening that."""
    try:
        noted = json.loads((folder / NOTE_FILE).read_text())
        return {kind: [int(part) for part in noted[kind]] for kind in _IS_THERE if kind in noted}
    # A power cut may have left anything.
    except (OSError, ValueError, TypeError):
        return {}


def find_lost(connection: sqlite3.Connection, noted: dict[str, list[int]]) -> str:
    """Names what was noted and is not in a database; empty when all of it is."""
    for kind, key in noted.items():
        if connection.execute(_IS_THERE[kind], key).fetchone() is None:
            return f"{kind} {'.'.join(map(str, key))}"
    return ""
