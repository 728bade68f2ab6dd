"""The backends `bubblewrap` and `native`: the guest as a process of this host.

One starts it inside `bwrap`; the other needs no binary: the guest isolates itself by system calls.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from evolve.errors import SandboxError
from evolve.sandbox.backends import Sandbox
from evolve.sandbox.cgroup import Cgroup, NoCgroupError, is_orphan, make_group, name_owner
from evolve.sandbox.guest import resources
from evolve.sandbox.guest.confine import DATA, DEVICES, EMPTY, GUEST_ID, SCRATCH, TEMPORARY
from evolve.sandbox.guest.wire import KILLS, SIGNALLED, ProgramLimits
from evolve.sandbox.layout import (
    GUEST_PATH,
    GUEST_SOURCE,
    HostView,
    guest_command,
    guest_environment,
    list_readable,
)
from evolve.sandbox.link import END_SECONDS, LOG_BYTES, Link, starter

# What drivers of NVIDIA need beside the file of each GPU, as far as it is there.
_CONTROLS = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
# Of the folders for programs where namespaces are forbidden.
_PREFIX = "evolve-guest-"


class HostProcess(subprocess.Popen[bytes]):
    """A guest as a process of this host, in a cgroup where one can be made.

    Args:
        command: Starts it.
    """

    why_no_cgroup = ""
    """Why the kernel does not limit all processes of the guest together; empty where it does."""

    def __init__(self, command: Sequence[str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - `close` does
        self._group: Cgroup | None = None
        # Where none can be made the guest's own watchdog remains; the canary reports it.
        try:
            self._group = make_group()
            command = self._group.wrap(command)
        except NoCgroupError as error:
            self.why_no_cgroup = str(error)
        super().__init__(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=guest_environment(),
            cwd="/",
            start_new_session=True,
        )
        # To write to it and to read from it.
        self.ends = [end.fileno() for end in (self.stdin, self.stdout) if end]

    def unwrap(self, data: bytes) -> bytes:
        """Returns what it wrote of what was read."""
        return data

    def read_log(self) -> bytes:
        """Returns the beginning of what it wrote on standard error."""
        self._log.seek(0)
        return self._log.read(LOG_BYTES)

    def limit(self, limits: ProgramLimits) -> None:
        """Limits it, with what a program may use.

        Raises:
            OSError: It cannot be limited.
        """
        if self._group is not None:
            self._group.fit(limits)

    def count_memory_kills(self) -> int:
        """Returns how often the kernel has killed something of it for its memory."""
        return self._group.out_of_memory_kills if self._group is not None else 0

    def find_killer(self, memory_kills: int) -> str:
        """Returns who ended it; empty if its program may have brought that about.

        No program can send its guest a signal; what it can do is to use up memory, of which its
        own processes are killed first.

        Args:
            memory_kills: How many of those there had been before.
        """
        if self.count_memory_kills() > memory_kills:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.wait(END_SECONDS)
            number = -code if code < 0 else code - SIGNALLED
            if number in KILLS:
                return f"the sandbox was killed from outside ({signal.Signals(number).name})"
        return ""

    def hang_up(self) -> None:
        """Closes its input."""
        if self.stdin:
            self.stdin.close()

    def close(self) -> None:
        """Lets go of what is held for it."""
        if self._group is not None:
            self._group.remove()
        for file in (self.stdin, self.stdout, self._log):
            if file:
                file.close()


def _start_by(name: str, command: list[str]) -> Sandbox:
    # Guests die with the thread that started them.
    return Sandbox(
        name, lambda: Link(name, starter(os.getpid()).submit(HostProcess, command).result())
    )


def make_bubblewrap(view: HostView) -> Sandbox:
    """Makes a sandbox around the `bwrap` command.

    Args:
        view: What its guests are made of; its devices as for `find_gpus`.

    Raises:
        SandboxError: There is no `bwrap`, or no such GPU.
    """
    gpus = find_gpus(view.devices)
    binary = shutil.which("bwrap")
    if binary is None:
        raise SandboxError("bubblewrap: no `bwrap` on the path; install the package `bubblewrap`")
    # The driver numbers those whose files it sees.
    names = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(len(gpus))))} if gpus else {}
    command = [
        binary,
        *_isolation(),
        *_mounts(view),
        *_show_gpus(gpus),
        *("--remount-ro", "/"),
        "--",
        *guest_command(
            GUEST_PATH, view, environment={**view.environment, **names}, mounts_proc=not os.getuid()
        ),
    ]
    return _start_by("bubblewrap", command)


def find_gpus(devices: str) -> list[Path]:
    """Returns the device files of NVIDIA's GPUs.

    Args:
        devices: `all`, how many, or `device=NUMBER,NUMBER`; empty for none.

    Raises:
        SandboxError: It is nothing of the kind, or there is no such GPU.
    """
    if not devices:
        return []
    named = re.fullmatch(r"device=(\d+(?:,\d+)*)", devices)
    if named is None and devices != "all" and not re.fullmatch(r"[1-9]\d*", devices):
        raise SandboxError(
            f"bubblewrap: `sandbox.devices`: expected `all`, a number of GPUs or "
            f"`device=NUMBER,NUMBER`, got {devices!r}; other names need `--sandbox docker`"
        )
    there = sorted(
        (path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal()),
        key=lambda path: int(path.name[6:]),
    )
    if named is not None:
        found = [Path(f"/dev/nvidia{number}") for number in named[1].split(",")]
    else:
        found = there if devices == "all" else there[: int(devices)]
    lacking = [str(path) for path in found if path not in there]
    if lacking or len(found) < (int(devices) if devices.isdecimal() else 1):
        raise SandboxError(
            f"bubblewrap: `sandbox.devices`: expected {lacking[0] if lacking else 'as many GPUs'} "
            f"for {devices!r}, got {', '.join(map(str, there)) or 'no /dev/nvidia0'}"
        )
    return found


def _isolation() -> list[str]:
    kinds = ("pid", "net", "ipc", "uts", "cgroup-try")
    options = [f"--unshare-{kind}" for kind in kinds]
    options += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--chdir", "/"]
    if os.getuid():
        return [*options, "--unshare-user", "--uid", str(GUEST_ID), "--gid", str(GUEST_ID)]
    # Root's own rights are needed to bind what only root can reach; the guest then leaves root.
    options += ["--cap-drop", "ALL"]
    # It is then also left with a `/proc` that bwrap has covered in part, of which no program's own
    # could be made: the guest mounts another before it leaves root.
    kept = ("CAP_SETUID", "CAP_SETGID", "CAP_SYS_ADMIN")
    return [*options, *(word for name in kept for word in ("--cap-add", name))]


def _mounts(view: HostView) -> list[str]:
    # Folders that bwrap makes by itself on the way to a target are closed to other users.
    targets = [*view.trees, Path(GUEST_PATH)]
    parents = {parent for target in targets for parent in target.parents if parent.name}
    folders = sorted({*parents, Path("/dev"), Path(SCRATCH), Path(EMPTY), Path("/var")})
    options = ["--proc", "/proc"]
    for folder in folders:
        options += ["--dir", str(folder)]
    options += ["--perms", "1777", "--tmpfs", SCRATCH]
    for tree in view.trees:
        if tree.is_symlink():
            options += ["--symlink", str(tree.readlink()), str(tree)]
        else:
            options += ["--ro-bind", str(tree), str(tree)]
    options += ["--ro-bind", str(GUEST_SOURCE), GUEST_PATH]
    if view.data:
        options += ["--ro-bind", str(view.data), DATA]
    for path in map(str, view.hidden):
        cover = ["--tmpfs", path, "--remount-ro", path]
        options += cover if Path(path).is_dir() else ["--dev-bind", "/dev/null", path]
    for name in DEVICES:
        options += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name, place in TEMPORARY:
        # An interpreter may lie in such a folder; TMPDIR then is the only temporary one.
        if Path(place) not in {*folders, *view.trees}:
            options += ["--symlink", f"{SCRATCH}/{name}", place]
    return options


def _show_gpus(gpus: Sequence[Path]) -> list[str]:
    shown = [*gpus, *(Path("/dev") / name for name in _CONTROLS)] if gpus else []
    return [word for path in shown for word in ("--dev-bind-try", str(path), str(path))]


def make_native(view: HostView, *, with_namespaces: bool = True) -> Sandbox:
    """Makes a sandbox that needs nothing but the kernel.

    Args:
        view: What its guests are made of.
        with_namespaces: Whether to try them; without, as where they are forbidden, Landlock,
            seccomp and limits remain.

    Raises:
        SandboxError: It has no devices.
    """
    if view.devices:
        raise SandboxError(
            f"native: has no `sandbox.devices`, got {view.devices!r}; use `--sandbox docker` or "
            "`bubblewrap`"
        )
    _sweep_boxes()
    command = guest_command(
        str(GUEST_SOURCE),
        view,
        namespaces=with_namespaces,
        trees=list(map(str, view.trees)),
        hidden=list(map(str, view.hidden)),
        data=str(view.data) if view.data else None,
        temporary=tempfile.gettempdir(),
        # Colons would end a path in lists of paths.
        prefix=f"{_PREFIX}{name_owner(os.getpid())}-".replace(":", ","),
        readable=[(str(path), rights) for path, rights in list_readable(view)],
    )
    return _start_by("native", command)


def _sweep_boxes() -> None:
    """Removes the folders of programs whose guest and host were killed at once."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).rpartition("-")[0].replace(",", ":")
        if is_orphan(owner):
            resources.remove(str(path))
