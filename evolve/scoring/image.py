"""Pictures that evaluators add to a verdict."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evolve.records.attempts import MOST_BYTES, as_address, find_kind


@dataclass(frozen=True, slots=True)
class Image:
    """A picture of an answer, for people and for models that see.

    Attributes:
        data: A whole PNG, JPEG, GIF or WebP file, of at most 1 MB.

    Raises:
        TypeError: It is something else than bytes.
        ValueError: It is another kind of file, or too large.
    """

    data: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.data, bytes):
            raise TypeError(f"Image: expected bytes, got {self.data!r:.80}")
        if not find_kind(self.data):
            raise ValueError(f"Image: expected PNG, JPEG, GIF or WebP, got {self.data[:8]!r}")
        if len(self.data) > MOST_BYTES:
            raise ValueError(f"Image: expected at most {MOST_BYTES} bytes, got {len(self.data)}")

    @classmethod
    def from_pixels(cls, rows: Any) -> Image:
        """Makes a PNG.

        Args:
            rows: Rows of pixels from the top, all of one length: numbers from 0, black, to 255,
                white, or triples of them for red, green and blue; lists or a NumPy array.

        Raises:
            ValueError: Rows are missing, or of different lengths or values.
        """
        rows = rows.tolist() if hasattr(rows, "tolist") else rows
        if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
            raise ValueError("Image: expected rows of one length, at least one pixel long")
        coloured = isinstance(rows[0][0], Sequence)
        lines = [bytes([0, *(_flatten(row) if coloured else row)]) for row in rows]
        header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2 if coloured else 0, 0, 0, 0)
        parts = (b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines), 9)), (b"IEND", b"")
        return cls(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts))

    @property
    def address(self) -> str:
        """Returns the `data:` address by which a verdict holds it."""
        return as_address(find_kind(self.data), self.data)


def _flatten(row: Sequence[Sequence[int]]) -> list[int]:
    return [value for pixel in row for value in pixel]


def _chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)
