"""Memory that all forks of a process would share: made its own."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

_MAP_FIXED = 0x10
_NO_FILE = -1


def make_private() -> None:
    """Replaces writable shared mappings of the calling process by private copies.

    A package may have made some while it was imported; what one program writes there the next
    one would read.

    Raises:
        OSError: The kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    numbers = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *numbers)
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, *_ = line.split(maxsplit=2)
        if rights[1] != "w" or rights[3] != "s":
            continue
        start, end = (int(part, 16) for part in place.split("-"))
        kept = ctypes.string_at(start, end - start) if rights[0] == "r" else b""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        right = mmap.PROT_READ | mmap.PROT_WRITE
        if libc.mmap(start, end - start, right, flags, _NO_FILE, 0) != start:
            code = ctypes.get_errno()
            raise OSError(code, f"a shared mapping cannot be made private: {os.strerror(code)}")
        ctypes.memmove(start, kept, len(kept))
