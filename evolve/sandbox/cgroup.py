"""Cgroups around guests: what the kernel holds a whole tree of processes to.

Made where this process may make them: below its own cgroup (version 1, or the root of version 2),
or beside it (a delegated part of version 2, whose inner groups hold no processes).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from evolve.sandbox.guest.wire import ProgramLimits

CONTROLLERS = ("memory", "pids", "cpu")
# The warm guest with its packages, page cache of its files, and room for the watchdog to notice an
# excess before the kernel does: a program that it kills says why.
_OWN_MEMORY_MB = 768
# One CPU; the period is short, so that a guest that used it up soon hears its host again.
CPU_PERIOD_MICROSECONDS = 20_000
_OWN_PROCESSES = 16
_GONE_SECONDS = 2.0
# By version: of the limits on memory and swap, and of what the kernel killed for them.
_MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
    2: ("memory.max", "memory.swap.max", "memory.events"),
}
_CPU_FILES = {
    1: dict.fromkeys(("cpu.cfs_period_us", "cpu.cfs_quota_us"), f"{CPU_PERIOD_MICROSECONDS}"),
    2: {"cpu.max": f"{CPU_PERIOD_MICROSECONDS} {CPU_PERIOD_MICROSECONDS}"},
}
_PREFIX = "evolve-"
_JOIN = 'n=$1; shift; while [ $n -gt 0 ]; do echo $$ >"$1"/cgroup.procs || exit 125; shift; '
_JOIN += 'n=$((n-1)); done; exec "$@"'
_numbers = itertools.count()


def guest_memory_bytes(limits: ProgramLimits) -> int:
    """Returns what a guest may take with a program in it."""
    return (limits.memory_mb + limits.workspace_mb + _OWN_MEMORY_MB) << 20


class NoCgroupError(Exception):
    """No cgroup can be made here, and why."""


class CgroupPlace(NamedTuple):
    """Where groups may be made, or one is.

    Attributes:
        version: 1 or 2.
        folders: By controller; one folder for all of them in version 2.
    """

    version: int
    folders: Mapping[str, Path]

    def list_folders(self) -> list[Path]:
        """Returns each folder once."""
        return list(dict.fromkeys(self.folders.values()))


class Cgroup:
    """A cgroup, or with version 1 one for each controller.

    Args:
        place: Where it is made.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, place: CgroupPlace) -> None:
        name = f"{_PREFIX}{name_owner(os.getpid())}-{next(_numbers)}"
        folders = {controller: folder / name for controller, folder in place.folders.items()}
        self._place = place._replace(folders=folders)
        try:
            for folder in self._place.list_folders():
                folder.mkdir()
            self._limit_cpu()
        except OSError:
            self.remove()
            raise

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Returns the command that joins the group before it becomes another."""
        folders = list(map(str, self._place.list_folders()))
        return ["/bin/sh", "-c", _JOIN, "sh", str(len(folders)), *folders, *command]

    def fit(self, limits: ProgramLimits) -> None:
        """Sets the limits to what a program may use in addition to the guest.

        Raises:
            OSError: The kernel refused.
        """
        size = guest_memory_bytes(limits)
        self._write("pids", "pids.max", limits.processes + _OWN_PROCESSES)
        limit, swap, _ = _MEMORY_FILES[self._place.version]
        # In version 1 swap is counted with the rest, and both must never be less than that: which
        # can be set first depends on what they were.
        with contextlib.suppress(OSError):
            self._write("memory", limit, size)
        with contextlib.suppress(FileNotFoundError):
            self._write("memory", swap, size if self._place.version == 1 else 0)
        self._write("memory", limit, size)

    @property
    def out_of_memory_kills(self) -> int:
        """Returns how many processes the kernel killed for the memory of the group."""
        events = self._place.folders["memory"] / _MEMORY_FILES[self._place.version][-1]
        with contextlib.suppress(OSError):
            rows = map(str.split, events.read_text().splitlines())
            return sum(int(row[1]) for row in rows if row[0] == "oom_kill")
        return 0

    def remove(self) -> None:
        """Kills what is left in the group and removes it; safe to call twice."""
        for folder in self._place.list_folders():
            _remove(folder)

    def _limit_cpu(self) -> None:
        for name, value in _CPU_FILES[self._place.version].items():
            self._write("cpu", name, value)

    def _write(self, controller: str, name: str, value: int | str) -> None:
        # A missing file is not created: the folder may be none of the kernel's.
        with (self._place.folders[controller] / name).open("rb+", buffering=0) as file:
            file.write(str(value).encode())


def make_group() -> Cgroup:
    """Makes a group for a guest: an own one, else one in a scope of systemd's.

    Raises:
        NoCgroupError: With the reasons and the remedy.
    """
    place = _find_place(os.getpid())
    if isinstance(place, str):
        folder = _find_slice(os.getpid())
        if isinstance(folder, str):
            raise NoCgroupError(f"{place}; {folder}")
        return Scope(folder)
    try:
        return Cgroup(place)
    except OSError as error:
        raise NoCgroupError(str(error)) from None


def remove_groups_of(pid: int) -> None:
    """Kills and removes what is left in the groups of a process that is gone, or of this one."""
    place = _find_place(os.getpid())
    if isinstance(place, CgroupPlace):
        here = name_owner(pid).partition(":")[0]
        for folder, owner in _list_groups(place.list_folders()):
            if owner.startswith(f"{here}:{pid}:"):
                _remove(folder)


@functools.cache
def _find_place(_process: int) -> CgroupPlace | str:
    """Returns where groups can be made, or why nowhere; removes what ended processes left."""
    try:
        place = read_place(
            Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
        )
        sweep(place)
        _probe(place)
    except NoCgroupError as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename or 'cgroup/').parent}: {error.strerror or error}"
    return place


def sweep(place: CgroupPlace) -> None:
    """Removes the groups that processes left which are gone.

    Looked at are this process's cgroups and those beside them: each session, scope and container
    may have one of its own, and what is killed need not be started again in the same.
    """
    own = place.list_folders()
    beside = [path for parent in {folder.parent for folder in own} for path in parent.glob("*/")]
    for folder, owner in _list_groups([*own, *beside]):
        if is_orphan(owner) and os.access(folder.parent, os.W_OK):
            _remove(folder)


def read_place(mounts: str, own: str) -> CgroupPlace:
    """Finds the folders of this process's cgroups.

    Args:
        mounts: Text of `/proc/self/mountinfo`.
        own: Text of `/proc/self/cgroup`.

    Raises:
        NoCgroupError: A controller is in none of them.
    """
    rows = [line.split(":", 2) for line in own.splitlines()]
    paths = {name: path for _, names, path in rows for name in names.split(",")}
    unified: Path | None = None
    folders: dict[str, Path] = {}
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        root, point = head.split()[3:5]
        if kind == "cgroup2" and "" in paths:
            unified = _below(point, root, paths[""])
        elif kind == "cgroup":
            for controller in set(options.split(",")) & set(CONTROLLERS) & set(paths):
                folders[controller] = _below(point, root, paths[controller])
    if set(folders) == set(CONTROLLERS):
        return CgroupPlace(1, folders)
    if unified is None:
        raise NoCgroupError("no cgroup file system with memory, pids and cpu is mounted")
    return _choose_unified(unified)


def _choose_unified(own: Path) -> CgroupPlace:
    for folder in (own, own.parent):
        enabled = _enabled(folder)
        if not enabled >= set(CONTROLLERS):
            # Allowed in the root, and where no process is in the folder itself.
            with contextlib.suppress(OSError):
                text = " ".join(f"+{name}" for name in CONTROLLERS)
                (folder / "cgroup.subtree_control").write_text(text)
            enabled = _enabled(folder)
        if enabled >= set(CONTROLLERS) and os.access(folder, os.W_OK):
            return CgroupPlace(2, dict.fromkeys(CONTROLLERS, folder))
    raise NoCgroupError(f"{own}: memory, pids and cpu are not delegated to this user there")


def _enabled(folder: Path) -> set[str]:
    try:
        return set((folder / "cgroup.subtree_control").read_text().split())
    except OSError:
        return set()


def _below(point: str, root: str, path: str) -> Path:
    inner = path.removeprefix(root) if root != "/" else path
    return Path(point) / inner.lstrip("/")


def _probe(place: CgroupPlace) -> None:
    # Whether a process may be moved there is known only when one has been.
    group = Cgroup(place)
    try:
        done = subprocess.run(
            group.wrap(["/bin/sh", "-c", ":"]), capture_output=True, text=True, check=False
        )
    finally:
        group.remove()
    if done.returncode:
        raise NoCgroupError(done.stderr.strip()[-200:])


def _list_groups(folders: list[Path]) -> list[tuple[Path, str]]:
    paths = [path for folder in dict.fromkeys(folders) for path in folder.glob(f"{_PREFIX}*:*")]
    return [(path, path.name.removeprefix(_PREFIX).rpartition("-")[0]) for path in paths]


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    while folder.exists():
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        with contextlib.suppress(OSError):
            for pid in (folder / "cgroup.procs").read_text().split():
                # Processes of another pid namespace have the number 0 here.
                if int(pid) > 0:
                    os.kill(int(pid), signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.002)


def name_owner(pid: int) -> str:
    """Names a process for good: by its pid namespace, number and start."""
    try:
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        start = ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    space = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    return f"{boot}.{space}:{pid}:{start}"


def is_orphan(owner: str) -> bool:
    """Returns whether a process that could be seen from here is gone."""
    place, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if not pid.isdigit():
        return False
    now = name_owner(int(pid))
    return now != owner and now.startswith(f"{place}:")


_ROOT = Path("/sys/fs/cgroup")
# Below the scope, whose own limits systemd may set again: a group holds processes or has
# controllers for the groups below it, never both.
_INNER = "guest"
_ENABLE = " ".join(f"+{name}" for name in CONTROLLERS)
_JOIN_SCOPE = f"""
test $(stat -fc %T {_ROOT}) = cgroup2fs || {{ echo no cgroups of version 2 >&2; exit 125; }}
scope={_ROOT}$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir "$scope/{_INNER}" && echo $$ >"$scope/{_INNER}/procs" || exit 125
if ! echo "{_ENABLE}" 2>/dev/null >"$scope/subtree_control"; then
    echo memory, pids and cpu are not delegated to this user by systemd >&2
    exit 125
fi
unset XDG_RUNTIME_DIR
exec "$@"
"""
_ASK = ("--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes")
_PROBE_SECONDS = 5.0


class Scope(Cgroup):
    """A group in a scope of systemd's, which is there once a wrapped command has begun.

    Args:
        slice_folder: Where systemd puts scopes of this user.
    """

    def __init__(self, slice_folder: Path) -> None:  # no group is made here: systemd does
        owner = name_owner(os.getpid()).replace(":", "-")
        self._unit = f"evolve-{owner}-{next(_numbers)}.scope"
        folder = slice_folder / self._unit / _INNER
        self._place = CgroupPlace(2, dict.fromkeys(CONTROLLERS, folder))

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Returns the command that asks for the scope and joins it before it becomes another."""
        return _wrap(self._unit, command)

    def fit(self, limits: ProgramLimits) -> None:
        """Sets the limits to what a program may use in addition to the guest.

        Raises:
            OSError: The kernel refused.
        """
        self._limit_cpu()
        super().fit(limits)


@functools.cache
def _find_slice(process: int) -> Path | str:
    """Returns where systemd puts scopes of this user, or why there are none."""
    if shutil.which("systemd-run") is None or not (_runtime_folder() / "bus").exists():
        return "no user manager of systemd runs"
    command = _wrap(f"evolve-probe-{process}.scope", ["/bin/cat", "/proc/self/cgroup"])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PROBE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"systemd-run: {error}"
    if done.returncode:
        return f"systemd-run: {done.stderr.strip()[-200:]}"
    own = next(line[3:] for line in done.stdout.splitlines() if line.startswith("0::"))
    return _ROOT / Path(own.lstrip("/")).parents[1]


def _runtime_folder() -> Path:
    return Path(f"/run/user/{os.getuid()}")


def _wrap(unit: str, command: Sequence[str]) -> list[str]:
    runtime = f"XDG_RUNTIME_DIR={_runtime_folder()}"
    ask = ["/usr/bin/env", runtime, "systemd-run", *_ASK, f"--unit={unit}", "--"]
    return [*ask, "/bin/sh", "-c", _JOIN_SCOPE, "sh", *command]
