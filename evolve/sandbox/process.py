"""The process that a guest is, as the host holds it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol


class Process(Protocol):
    """What a link needs of the process that its guest is, wherever that runs."""

    @property
    def pid(self) -> int:
        """Returns its number on this machine."""
        ...

    def poll(self) -> int | None:
        """Returns its exit code; None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end."""
        ...

    def kill(self) -> None:
        """Kills it."""
        ...


class Stream(Protocol):
    """One direction of the stream to a guest."""

    def fileno(self) -> int:
        """Returns its descriptor."""
        ...

    def close(self) -> None:
        """Ends this direction."""
        ...


def count_memory_kills() -> int:
    """Returns how many processes the kernel has killed for lack of memory; 0 where it is silent."""
    with contextlib.suppress(OSError, ValueError):
        _, found, rest = Path("/proc/vmstat").read_text().partition("\noom_kill ")
        return int(rest.split(maxsplit=1)[0]) if found else 0
    return 0


def kill_session(leader: int) -> None:
    """Kills every process of a session but its leader, and waits until they are gone."""
    # Without a pid namespace children outlive a guest that is killed, but none of them may
    # leave its session.
    while pids := _find_session(leader):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _find_session(leader: int) -> list[int]:
    found: list[int] = []
    if not Path("/proc/self/stat").exists():
        return found
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != leader:
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


@functools.cache
def starter(_process: int) -> ThreadPoolExecutor:
    """Returns the thread that guests are started on.

    Args:
        _process: The id of the calling process.
    """
    # Guests die with the thread that started them: it must live as long as this process, and a
    # forked copy of this process has no threads.
    return ThreadPoolExecutor(1, "guest-starter")
