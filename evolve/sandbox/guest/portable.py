"""What POSIX alone offers a program's process, and a watchdog over it: weak, and called so.

Nothing here keeps a program from the network, from files or from other processes of its user.
"""

from __future__ import annotations

import contextlib
import os
import resource
from typing import NamedTuple

from .orders import Order

_OPEN_FILES = 128
_CPU_SECONDS = 4 * 3600
_MB = 1 << 20
_PS = ("/bin/ps", "-A", "-o")
_PS_SECONDS = 10.0


class Seen(NamedTuple):
    """A process as `ps` lists it: its number, group and user; its memory and addresses in bytes."""

    pid: int
    group: int
    user: int
    size: int
    addresses: int


class Start(NamedTuple):
    """How things stand before the first program: what limits are counted from.

    Attributes:
        size: Memory of the warm guest, in bytes.
        addresses: Its address space, in bytes.
        others: Processes that its user has, which the kernel counts together.
    """

    size: int
    addresses: int
    others: int


def confine(box: str, order: Order, start: Start) -> None:
    """Puts the calling process into a group, a folder and under limits of its own.

    Args:
        box: Folder for its files.
        order: What it may use, beyond what was there at the start.
        start: That.
    """
    os.setpgid(0, 0)
    for name in ("work", "tmp", "shm"):
        os.mkdir(f"{box}/{name}", 0o700)  # noqa: PTH102 - system calls stand here by their names
    os.chdir(f"{box}/work")
    for kind, value in (
        (resource.RLIMIT_AS, start.addresses + order.memory_mb * _MB),
        (resource.RLIMIT_NPROC, start.others + order.processes),
        (resource.RLIMIT_FSIZE, order.workspace_mb * _MB),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        # Systems refuse some of them.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))


def list_processes() -> list[Seen]:
    """Lists all processes; none where `ps` fails."""
    import subprocess

    try:
        done = subprocess.run(
            [*_PS, "pid=,pgid=,uid=,rss=,vsz="],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PS_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.split() for line in done.stdout.splitlines()]
    return [
        Seen(int(pid), int(group), int(user), int(size) << 10, int(addresses) << 10)
        for pid, group, user, size, addresses in (row for row in rows if len(row) == 5)
    ]


def sum_memory(group: int) -> int:
    """Returns the memory of a process group in bytes; what its processes share counts for each."""
    return sum(seen.size for seen in list_processes() if seen.group == group)


def look_around() -> Start:
    """Returns how things stand for the calling process.

    Raises:
        OSError: There is no `ps` that lists this process.
    """
    seen = list_processes()
    own = next((it for it in seen if it.pid == os.getpid()), None)
    if own is None:
        raise OSError("`ps -A -o pid,pgid,uid,rss,vsz` does not list this process; install `ps`")
    return Start(own.size, own.addresses, sum(it.user == own.user for it in seen))
