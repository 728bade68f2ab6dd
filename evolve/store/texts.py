"""Texts, compressed against dictionaries that texts of the same kind share."""

from __future__ import annotations

import sqlite3
import zlib

# Programs of a run, and prompts of a role, have most of their text in common; what they have in
# common drifts, so every so many texts the newest becomes the dictionary of those that follow.
_TEXTS_PER_DICTIONARY = 512
_WINDOW = 32768


class Texts:
    """Packs and unpacks the texts of one database.

    Args:
        connection: The database, which holds the dictionaries.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[int, bytes] = {}
        self._current: dict[str, tuple[int, int]] = {}

    def forget(self) -> None:
        """Forgets dictionaries that a transaction that was rolled back may have made."""
        self._known.clear()
        self._current.clear()

    def pack(self, kind: str, text: bytes) -> tuple[int, bytes]:
        """Gives the number of the dictionary that was used, and the compressed text."""
        number, uses = self._current.get(kind) or self._newest(kind)
        if not number or uses >= _TEXTS_PER_DICTIONARY:
            number, uses = self._add(kind, text), 0
        self._current[kind] = (number, uses + 1)
        packer = zlib.compressobj(zdict=self._dictionary(number))
        return number, packer.compress(text) + packer.flush()

    def unpack(self, number: int | None, data: bytes) -> bytes:
        """Gives a text back; without a number it was packed on its own.

        Raises:
            DatabaseError: Its dictionary is missing.
            zlib.error: It is damaged.
        """
        if number is None:
            return zlib.decompress(data)
        unpacker = zlib.decompressobj(zdict=self._dictionary(number))
        text = unpacker.decompress(data)
        if not unpacker.eof:
            raise zlib.error("a compressed text is cut short")
        return text

    def _newest(self, kind: str) -> tuple[int, int]:
        (found,) = self._connection.execute(
            "SELECT MAX(number) FROM dictionaries WHERE kind = ?", (kind,)
        ).fetchone()
        return found or 0, 0

    def _add(self, kind: str, text: bytes) -> int:
        data = zlib.compress(text[-_WINDOW:])
        cursor = self._connection.execute(
            "INSERT INTO dictionaries (kind, data) VALUES (?, ?)", (kind, data)
        )
        return int(cursor.lastrowid or 0)

    def _dictionary(self, number: int) -> bytes:
        if number not in self._known:
            found = self._connection.execute(
                "SELECT data FROM dictionaries WHERE number = ?", (number,)
            ).fetchone()
            if found is None:
                raise sqlite3.DatabaseError(f"dictionary {number} is missing")
            self._known[number] = zlib.decompress(found[0])
        return self._known[number]
