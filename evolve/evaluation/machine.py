"""The machine: what kind it is, what programs find in the sandbox, and quiet for timing.

One timing run on the machine at a time, on the core that has least to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from evolve.errors import SandboxError
from evolve.files import lock_file
from evolve.records import Evaluation, Program, SourceFile
from evolve.records.plain import from_plain

_LOOK_SECONDS = 0.05
_STAT = Path("/proc/stat")
# What tells processors of one name apart, on x86 and on ARM.
_PROCESSOR = (
    *("cpu family", "model", "stepping", "cache size"),
    *("CPU implementer", "CPU part", "CPU variant", "CPU revision"),
)

_SOURCE = """import importlib.metadata, pkgutil, platform


def probe(names):
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    modules = sorted({found.name for found in pkgutil.iter_modules()})
    return {"python": platform.python_version(), "versions": versions, "modules": modules}
"""
PROBE = Program((SourceFile("initial.py", _SOURCE),))
"""A program that reports what it finds."""

PACKAGES = ("numpy", "scipy", "numba", "scikit-learn", "pandas", "networkx", "sympy", "torch")


@dataclass(frozen=True, slots=True)
class Machine:
    """What programs find in the sandbox.

    Attributes:
        python: Version of Python.
        versions: Versions of well-known packages, by name.
        modules: All modules at the top level apart from the standard library's.
    """

    python: str
    versions: Mapping[str, str]
    modules: tuple[str, ...]

    def describe(self) -> str:
        """Returns one sentence for a prompt."""
        found = "".join(f", {name} {version}" for name, version in self.versions.items())
        return f"It runs with Python {self.python}{found}."


def read_machine(verdict: Evaluation) -> Machine | None:
    """Returns the machine that the evaluation of `PROBE` reports; None where it failed."""
    try:
        return from_plain(Machine, json.loads(verdict.artifacts["machine"]))
    except (KeyError, TypeError, ValueError):
        return None


def describe_kind() -> str:
    """Returns what kind of machine this is, as far as it matters for the time programs take."""
    about: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            about[key.strip()] = value.strip()
    name = about.get("model name", platform.machine())
    more = ", ".join(f"{key} {about[key]}" for key in _PROCESSOR if key in about)
    return f"{name} ({more})" if more else name


@contextlib.contextmanager
def hold_quiet(on_wait: Callable[[], None]) -> Iterator[int]:
    """Waits until no other process of this user times a program, and yields the quietest core.

    Args:
        on_wait: Called at the beginning and at the end of a wait, which is not the program's.

    Raises:
        SandboxError: The file of the lock cannot be opened.
    """
    own = os.getuid()
    places = (Path(f"/run/user/{own}/evolve"), Path(tempfile.gettempdir(), f"evolve-{own}"))
    path = find_own_folder(places) / "timing.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SandboxError(f"{path}: cannot be opened: {error.strerror}; remove it") from None
    try:
        if not lock_file(descriptor):
            on_wait()
            lock_file(descriptor, waits=True)
            on_wait()
        yield find_quiet_core()
    finally:
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


def _read_idle() -> dict[int, int]:
    """Reads how long each core was idle, in ticks; nothing where that is not known."""
    try:
        lines = _STAT.read_text().splitlines()
    except OSError:
        return {}
    rows = [line.split() for line in lines if line.startswith("cpu") and line[3:4].isdigit()]
    return {int(row[0][3:]): int(row[4]) + int(row[5]) for row in rows}
