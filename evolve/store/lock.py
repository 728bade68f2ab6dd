"""One writer for each run: an advisory lock that the kernel drops with its process."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from evolve.errors import StoreError, UsageError
from evolve.files import open_plain

if TYPE_CHECKING:
    from pathlib import Path

LOCK_FILE = "run.lock"


class RunLock:
    """The right to write a run, held until `release` or the end of the process.

    Args:
        descriptor: The open lock file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, folder: Path) -> RunLock:
        """Takes the lock; one that a dead process held is free.

        Raises:
            UsageError: Another process holds it; the message has its pid.
            StoreError: The lock file cannot be written.
        """
        try:
            descriptor = open_plain(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StoreError(
                f"{folder / LOCK_FILE}: cannot be written: {error.strerror}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise UsageError(
                f"{folder}: the run is being written by process {holder}; wait for it or stop it"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Returns the lock back; safe to call twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_locked(folder: Path) -> bool:
    """Returns whether a living process writes the run."""
    return find_holder(folder) is not None


def find_holder(folder: Path) -> str | None:
    """Returns the pid of the process that writes the run, `unknown` for a moment, or None."""
    try:
        descriptor = open_plain(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None
