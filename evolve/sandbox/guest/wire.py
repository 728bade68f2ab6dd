"""Frames between the host and the relay: a kind, a length, a payload.

The host sends `START` (limits of a new child), `DATA` (bytes for it) and `KILL` (with a payload:
its stack is wanted). The relay sends `READY` or `FAILED` once, then `DATA` (bytes of the child,
opaque) and `EXITED`. A child never reaches this stream: the relay is between.
"""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterable, Sequence
from typing import Any

HEADER = struct.Struct("<cI")
CHUNK = 1 << 16

# A guest that a signal ended exits with this and its number, as in a shell.
SIGNALLED = 128
# What others send to end a process; a fault of its own has other numbers.
KILLS = {signal.SIGKILL, signal.SIGTERM}

START = b"S"
DATA = b"D"
KILL = b"K"
READY = b"R"
FAILED = b"F"
EXITED = b"X"

# Inside `DATA`, between host and child: the call's nonce, a kind, the length of a value.
MESSAGE = struct.Struct("<8scQ")
NO_NONCE = bytes(8)

CONFINED = b"C"
CALL = b"Q"
VALUE = b"V"
YIELDED = b"Y"
# How long a call took by the guest's own clock; precedes its value where it is asked for.
CLOCK = b"T"
SECONDS = struct.Struct("<d")
LAST_COUNTS = b"L"
# A question to a language model, which is answered by the next message to the child.
ASK = b"A"
ERROR = b"E"
OUT_OF_MEMORY = b"M"


def pack_rows(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Returns the part of a request that holds a list of arguments for each call, by columns.

    What is alike travels cheaper.
    """
    lengths = set(map(len, rows))
    if len(lengths) == 1 and 0 not in lengths:
        return {"columns": [list(column) for column in zip(*rows, strict=True)]}
    return {"rows": [list(row) for row in rows]}


def unpack_rows(request: dict[str, Any]) -> Iterable[Sequence[Any]]:
    """Returns the arguments of each call."""
    return zip(*request["columns"], strict=True) if "columns" in request else request["rows"]
