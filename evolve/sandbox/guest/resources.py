"""What programs use of memory and of disk, and how their files are removed.

Folders may be nested deeper than any path is long and than Python recurses, closed to their own
owner, and files unlinked while open.
"""

# System calls stand here by their own names.
# ruff: noqa: PTH106, PTH116, PTH123, PTH208

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import stat
import time
from typing import NamedTuple

_SHARES = (b"\nPss_Anon:", b"\nPss_Shmem:", b"\nSwapPss:")
# Between the guest's own processes.
_OWN_SOCKETS = 2
_PIPE_BYTES = 1 << 16
_BLOCK = 512
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FIELDS = (b"\nRssAnon:", b"\nRssShmem:", b"\nVmSwap:")


def list_strangers(known: frozenset[str]) -> list[str]:
    """Lists all processes of a pid namespace that holds only the guest, but the known ones."""
    return [name for name in os.listdir("/proc") if name.isdigit() and name not in known]


def list_group(group: int, *, is_session: bool = False) -> list[str]:
    """Lists the processes of a process group.

    Args:
        group: The group's id.
        is_session: Whether it is the id of a session, of which those that have ended do not count.
    """
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            state, _, *ids = _read(name, "stat").rpartition(b")")[2].split()[:4]
            if int(ids[is_session]) == group and not (is_session and state == b"Z"):
                found.append(name)
    return found


def kill_session(leader: int) -> None:
    """Kills every process of a session but its leader, and waits until they are gone."""
    # Without a pid namespace children outlive a guest that is killed, but none of them may
    # leave its session.
    while pids := set(list_group(leader, is_session=True)) - {str(leader)}:
        for pid in map(int, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def measure_buffers(names: list[str], *, has_own_network: bool) -> int:
    """Returns the most that sockets and pipes can hold of the kernel's memory, in bytes.

    What they do hold the kernel does not say. In a network namespace it counts the sockets, also
    those that no process has open any more; without one, descriptors are looked at.

    Args:
        names: Process ids.
        has_own_network: Whether the sockets of the network namespace are these processes' own.
    """
    if has_own_network:
        rows = (row.split() for row in _read("self", "net/protocols").splitlines())
        count = sum(int(row[2]) for row in rows if row[0].startswith(b"UNIX"))
        return _socket_bytes() * max(0, count - _OWN_SOCKETS)
    modes = [about.st_mode for about in _list_open(names)]
    pipes = sum(map(stat.S_ISFIFO, modes))
    return _socket_bytes() * sum(map(stat.S_ISSOCK, modes)) + _PIPE_BYTES * pipes


@functools.cache
def _socket_bytes() -> int:
    with socket.socket(socket.AF_UNIX) as probe:
        # A last message may lie on top of a buffer that is almost full.
        return 2 * probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def _list_open(names: list[str]) -> list[os.stat_result]:
    """Returns what the descriptors of processes lead to, each thing once."""
    found = {}
    for name in names:
        with contextlib.suppress(OSError):
            for entry in os.listdir(f"/proc/{name}/fd"):
                with contextlib.suppress(OSError):
                    about = os.stat(f"/proc/{name}/fd/{entry}")
                    found[about.st_dev, about.st_ino] = about
    return list(found.values())


def is_exceeded(
    names: list[str], baseline: int, limit: int, *, has_own_network: bool = False
) -> bool:
    """Returns whether processes together use more memory than a limit.

    What a forked process still shares with the warm guest is not its own; who shares what is
    slow to find out, and asked only when the answer depends on it.

    Args:
        names: Process ids.
        baseline: Memory of the warm guest, in bytes.
        limit: In bytes, beyond the baseline.
        has_own_network: Whether the sockets of the network namespace are these processes' own.
    """
    limit -= measure_buffers(names, has_own_network=has_own_network)
    sizes = {name: read_bytes(name) for name in names}
    if sum(sizes.values()) - baseline <= limit:
        return False
    if sum(max(0, size - baseline) for size in sizes.values()) > limit:
        return True
    exact = [_read_share(name, size) for name, size in sizes.items()]
    return sum(exact) - baseline > limit


def _read_share(name: str, otherwise: int) -> int:
    try:
        return _sum_fields(_read(name, "smaps_rollup"), _SHARES)
    except OSError:
        return otherwise


def read_bytes(name: str) -> int:
    """Returns the memory of one process in bytes; 0 when it is gone."""
    try:
        return _sum_fields(_read(name, "status"), _FIELDS)
    except OSError:
        return 0


def _sum_fields(text: bytes, fields: tuple[bytes, ...]) -> int:
    total = 0
    for field in fields:
        _, found, rest = text.partition(field)
        if found:
            total += int(rest.split(maxsplit=1)[0])
    return total * 1024


def _read(name: str, path: str) -> bytes:
    with open(f"/proc/{name}/{path}", "rb") as file:
        return file.read()


class Usage(NamedTuple):
    """What files take: bytes on disk, and how many there are."""

    size: int
    number: int


def measure(folder: str, most: Usage) -> Usage:
    """Returns what is below a folder, which may change meanwhile.

    Args:
        folder: Where to look.
        most: Beyond either of its numbers nothing more is looked at.
    """
    size = number = 0
    descriptor = os.open(folder, _FOLDER)
    levels: list[list[str]] = []
    try:
        while True:
            here, folders = _measure_level(descriptor)
            size, number = size + here.size, number + here.number
            if size > most.size or number > most.number:
                return Usage(size, number)
            levels.append(folders)
            while levels and not levels[-1]:
                levels.pop()
                if levels:
                    descriptor = _move(descriptor, "..")
            if not levels:
                return Usage(size, number)
            descriptor = _move(descriptor, levels[-1].pop())
    except OSError:
        # It was taken away while being looked at; the next look sees what is left.
        return Usage(size, number)
    finally:
        os.close(descriptor)


def measure_unlinked(pids: list[str]) -> int:
    """Returns the bytes of files that processes hold open and that have no name any more.

    Args:
        pids: Process ids.
    """
    unlinked = (about for about in _list_open(pids) if not about.st_nlink)
    return sum(about.st_blocks * _BLOCK for about in unlinked if stat.S_ISREG(about.st_mode))


def remove(folder: str) -> None:
    """Removes a folder with everything in it as far as that is possible."""
    with contextlib.suppress(OSError):
        wipe(folder)
        os.rmdir(folder)


def wipe(folder: str) -> None:
    """Removes everything in a folder that nobody uses any more."""
    root = os.open(folder, _FOLDER)
    try:
        pending = os.listdir(root)
        prefix = f"wiped-{os.urandom(8).hex()}-"
        moved = 0
        while pending:
            name = pending.pop()
            if _unlink(name, root):
                continue
            # What lies deeper is moved up here, so that no path grows.
            descriptor = os.open(name, _FOLDER, dir_fd=root)
            try:
                for inner in os.listdir(descriptor):
                    if not _unlink(inner, descriptor):
                        moved += 1
                        target = f"{prefix}{moved}"
                        os.rename(inner, target, src_dir_fd=descriptor, dst_dir_fd=root)
                        pending.append(target)
            finally:
                os.close(descriptor)
            os.rmdir(name, dir_fd=root)
    finally:
        os.close(root)


def _unlink(name: str, folder: int) -> bool:
    """Removes a file; returns False for a folder, which it makes accessible."""
    about = os.lstat(name, dir_fd=folder)
    if not stat.S_ISDIR(about.st_mode):
        os.unlink(name, dir_fd=folder)
        return True
    if about.st_mode & 0o700 != 0o700:
        os.chmod(name, 0o700, dir_fd=folder)
    return False


def _move(descriptor: int, name: str) -> int:
    try:
        new = os.open(name, _FOLDER, dir_fd=descriptor)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=descriptor)
        new = os.open(name, _FOLDER, dir_fd=descriptor)
    # The caller owns one descriptor, whichever folder that is.
    os.dup2(new, descriptor, inheritable=False)
    os.close(new)
    return descriptor


def _measure_level(descriptor: int) -> tuple[Usage, list[str]]:
    size = number = 0
    folders = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                size, number = size + about.st_blocks * _BLOCK, number + 1
                if stat.S_ISDIR(about.st_mode):
                    folders.append(entry.name)
    return Usage(size, number), folders
