"""What a program prints: the first and the last part of it, whatever the amount."""

from __future__ import annotations

import os

_READS_AT_ONCE = 16


class Output:
    """A bounded record of a stream, in memory given by the caller.

    Args:
        kept: Holds the head and the tail.
        scratch: Holds what has just been read.
    """

    def __init__(self, kept: memoryview, scratch: memoryview) -> None:
        self._kept = kept
        self._scratch = scratch
        self._half = 0
        self._total = 0
        self.is_closed = False

    def clear(self, max_bytes: int) -> None:
        """Forgets everything and sets how much is kept from now on."""
        self._half = min(max_bytes, len(self._kept)) // 2
        self._total = 0
        self.is_closed = False

    def read_from(self, descriptor: int) -> None:
        """Reads what is there, within reason: a flood must not keep the caller."""
        for _ in range(_READS_AT_ONCE):
            if self.is_closed:
                return
            try:
                count = os.readv(descriptor, [self._scratch])
            except BlockingIOError:
                return
            self.is_closed = not count
            self._keep(self._scratch[:count])

    def text(self) -> bytes:
        """Returns the head and the tail, with a line between them that counts what was cut."""
        half = self._half
        head = bytes(self._kept[: min(self._total, half)])
        in_tail = self._total - half
        if in_tail <= 0:
            return head
        if in_tail <= half:
            return head + bytes(self._kept[half : half + in_tail])
        position = half + in_tail % half
        tail = bytes(self._kept[position : 2 * half]) + bytes(self._kept[half:position])
        return head + f"\n[... {in_tail - half} bytes cut ...]\n".encode() + tail

    def _keep(self, data: memoryview) -> None:
        half = self._half
        if self._total < half:
            part = data[: half - self._total]
            self._kept[self._total : self._total + len(part)] = part
            self._total += len(part)
            data = data[len(part) :]
        if half and len(data) > half:
            self._total += len(data) - half
            data = data[-half:]
        while data and half:
            place = (self._total - half) % half
            part = data[: half - place]
            self._kept[half + place : half + place + len(part)] = part
            self._total += len(part)
            data = data[len(part) :]
