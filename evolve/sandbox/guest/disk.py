"""The files of a program that no file system of its own bounds: how many, and their end.

Folders may be nested deeper than any path is long and than Python recurses, closed to their own
owner, and files unlinked while open.
"""

# System calls stand here by their own names.
# ruff: noqa: PTH106, PTH208

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

_BLOCK = 512
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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


def measure_unlinked(proc: int, pids: list[str]) -> int:
    """Returns the bytes of files that processes hold open and that have no name any more.

    Args:
        proc: Descriptor of `/proc`.
        pids: Process ids.
    """
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            descriptor = os.open(f"{pid}/fd", _FOLDER, dir_fd=proc)
            try:
                for name in os.listdir(descriptor):
                    with contextlib.suppress(OSError):
                        about = os.stat(name, dir_fd=descriptor)
                        if stat.S_ISREG(about.st_mode) and not about.st_nlink:
                            found[about.st_dev, about.st_ino] = about.st_blocks * _BLOCK
            finally:
                os.close(descriptor)
    return sum(found.values())


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
