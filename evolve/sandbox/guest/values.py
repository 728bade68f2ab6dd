"""What encoder and decoder agree on: the limits and the names of things."""

from __future__ import annotations

import struct

MAX_DEPTH = 100
MAX_NODES = 300_000
MAX_JSON_BYTES = 4 << 20
MAX_INT_DIGITS = 4000
# How much larger requests may be than replies, which nobody can vouch for.
REQUEST_SCALE = 32
MAX_INT = 10**MAX_INT_DIGITS
MAX_DIMENSIONS = 32

# Lists of that many floats, or of small integers, travel as raw bytes.
PACKED_LENGTH = 16
PACKED_CODES = {"floats": "d", "ints": "q"}
# Lists of flat arrays of one type travel as one buffer, up to that many bytes.
JOINED_BYTES = 1 << 16

TAG = "!"
COUNTS = struct.Struct("<II")
SIZE = struct.Struct("<Q")
DTYPES = frozenset(
    {"|b1", "|i1", "|u1"} | {f"<{kind}{size}" for kind in "iu" for size in (2, 4, 8)}
) | {"<f2", "<f4", "<f8", "<c8", "<c16"}

Buffer = bytes | bytearray | memoryview


class FrameError(ValueError):
    """A value that cannot be sent, or bytes that are no value."""


def check_text(text: str) -> str:
    """Returns a text back if it can be written as UTF-8.

    Raises:
        FrameError: It has lone surrogates.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise FrameError("expected text, got lone surrogates") from None
    return text


def check_int(number: int) -> int:
    """Returns an integer back if it is not too long.

    Raises:
        FrameError: It has more than `MAX_INT_DIGITS` digits.
    """
    if not -MAX_INT < number < MAX_INT:
        raise FrameError(f"expected integers of at most {MAX_INT_DIGITS} digits, got a longer one")
    return number
