"""Frames between the host and the zygote: a kind, a length, a payload.

The host sends `START` (limits of a new child), `DATA` (bytes for it), `OUTPUT` (asks what was
printed) and `KILL`. The zygote sends `READY` or `FAILED` once, then `DATA` (bytes of the child,
opaque), `OUTPUT` and `EXITED`. A child never reaches this stream: the zygote relays for it.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<cI")
CHUNK = 1 << 16

START = b"S"
DATA = b"D"
OUTPUT = b"O"
KILL = b"K"
READY = b"R"
FAILED = b"F"
EXITED = b"X"

# Child and host, inside `DATA`: the call's nonce and the length of the message.
MESSAGE = struct.Struct("<8sQ")
NO_NONCE = bytes(8)
