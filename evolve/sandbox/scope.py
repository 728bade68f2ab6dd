"""A cgroup that systemd delegates: for users who may make none by themselves."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from evolve.sandbox.cgroup import CONTROLLERS, Group, NoCgroupError, make_group
from evolve.sandbox.owner import name_owner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.sandbox.protocol import Limits

_ROOT = Path("/sys/fs/cgroup")
# Below the scope, whose own limits systemd may set again: a group holds processes or has
# controllers for the groups below it, never both.
_INNER = "guest"
_ENABLE = " ".join(f"+{name}" for name in CONTROLLERS)
_JOIN = f"""
test $(stat -fc %T {_ROOT}) = cgroup2fs || {{ echo no cgroups of version 2 >&2; exit 125; }}
scope={_ROOT}$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir "$scope/{_INNER}" && echo $$ >"$scope/{_INNER}/cgroup.procs" || exit 125
if ! echo "{_ENABLE}" 2>/dev/null >"$scope/cgroup.subtree_control"; then
    echo memory, pids and cpu are not delegated to this user by systemd >&2
    exit 125
fi
unset XDG_RUNTIME_DIR
exec "$@"
"""
_ASK = ("--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes")
_PROBE_SECONDS = 5.0
_numbers = itertools.count()


class Scope(Group):
    """A group in a scope of systemd's, which is there once a wrapped command has begun.

    Args:
        slice_folder: Where systemd puts scopes of this user.
    """

    def __init__(self, slice_folder: Path) -> None:  # no group is made here: systemd does
        owner = name_owner(os.getpid()).replace(":", "-")
        self._unit = f"evolve-{owner}-{next(_numbers)}.scope"
        self._version = 2
        self._folders = dict.fromkeys(CONTROLLERS, slice_folder / self._unit / _INNER)

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Returns the command that asks for the scope and joins it before it becomes another."""
        return _wrap(self._unit, command)

    def fit(self, limits: Limits) -> None:
        """Sets the limits to what a program may use, beside the guest.

        Raises:
            OSError: The kernel refused.
        """
        self._limit_cpu()
        super().fit(limits)


def make_group_or_scope() -> Group:
    """Makes a group for a guest: an own one, else one in a scope of systemd's.

    Raises:
        NoCgroupError: With both reasons.
    """
    try:
        return make_group()
    except NoCgroupError as error:
        found = _find_slice(os.getpid())
        if isinstance(found, str):
            raise NoCgroupError(f"{error}; {found}") from None
        return Scope(found)


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
    return [*ask, "/bin/sh", "-c", _JOIN, "sh", *command]
