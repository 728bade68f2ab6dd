"""Quiet for timing: one timing run on the machine at a time, on the core that has least to do."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from evolve.errors import SandboxError
from evolve.files import lock_file

_LOOK_SECONDS = 0.05
_STAT = Path("/proc/stat")


@contextlib.contextmanager
def hold_quiet(on_wait: Callable[[], None]) -> Iterator[int]:
    """Waits until no other process of this user times a program, and yields the quietest core.

    Args:
        on_wait: Called at the beginning and at the end of a wait, which is not the program's.

    Raises:
        SandboxError: The file of the lock cannot be opened.
    """
    path = find_own_folder(_list_places()) / "timing.lock"
    descriptor = _take_lock(path, on_wait)
    try:
        yield find_quiet_core()
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def find_own_folder(places: Iterable[Path]) -> Path:
    """Returns the first of some folders that only this user can write, made where it is missing.

    In a folder that all can write, anybody may make and hold the lock of anybody else.

    Raises:
        SandboxError: There is none.
    """
    for place in places:
        with contextlib.suppress(OSError):
            if place.parent.is_dir():
                place.mkdir(mode=0o700, exist_ok=True)
            about = place.lstat()
            is_closed = not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and is_closed:
                return place
    raise SandboxError(
        f"{place}: expected a folder that only this user can write, found something else; "
        "remove it, or set TMPDIR to a folder of your own"
    )


def find_quiet_core() -> int:
    """Returns the core, of those that this process may use, that has least to do just now."""
    allowed = os.sched_getaffinity(0)
    before = _read_idle()
    time.sleep(_LOOK_SECONDS)
    after = _read_idle()
    return max(sorted(allowed), key=lambda core: after.get(core, 0) - before.get(core, 0))


def _list_places() -> tuple[Path, ...]:
    own = os.getuid()
    return (Path(f"/run/user/{own}/evolve"), Path(tempfile.gettempdir(), f"evolve-{own}"))


def _take_lock(path: Path, on_wait: Callable[[], None]) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise SandboxError(f"{path}: cannot be opened: {error.strerror}; remove it") from None
        _wait(descriptor, on_wait)
        # The one before has removed its file: others may hold another by now.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _wait(descriptor: int, on_wait: Callable[[], None]) -> None:
    if not lock_file(descriptor):
        on_wait()
        lock_file(descriptor, waits=True)
        on_wait()


def _read_idle() -> dict[int, int]:
    """Reads how long each core was idle, in ticks; nothing where that is not known."""
    try:
        lines = _STAT.read_text().splitlines()
    except OSError:
        return {}
    rows = [line.split() for line in lines if line.startswith("cpu") and line[3:4].isdigit()]
    return {int(row[0][3:]): int(row[4]) + int(row[5]) for row in rows}
