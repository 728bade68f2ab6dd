"""Starts the guest without any binary: namespaces and a root of its own, by system calls."""

# System calls stand here by their own names.
# ruff: noqa: PTH102, PTH103, PTH106, PTH112, PTH115, PTH120, PTH211, S108

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import Any, NoReturn

from . import kernel, relay
from .confine import BOX, DATA, DEVICES, EMPTY, GUEST_ID, TEMPORARY
from .wire import SIGNALLED

_NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
_READ_ONLY = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
_OLD = "/.old"
_BOX_MB = 4096


def main(settings: dict[str, Any]) -> NoReturn:
    """Builds the isolation as far as it is allowed, and becomes the guest in it.

    Args:
        settings: Those of the relay; `trees`, `hidden`, `data`: what is visible; `temporary`,
            `prefix`: where the files of programs go if namespaces are forbidden, and how the
            folder's name begins.
    """
    ids = os.getuid(), os.getgid()
    is_entered, entered = os.pipe()
    pid = _fork(ids) if settings["namespaces"] else -1
    if not pid:
        os.close(is_entered)
        _enter_or_exit(settings, ids)
        os.write(entered, b".")
        os.close(entered)
        relay.main({**settings, "box": BOX, "data": settings["data"] and DATA})
    os.close(entered)
    if pid > 0 and os.read(is_entered, 1):
        _wait_for(pid)
    os.close(is_entered)
    box = tempfile.mkdtemp(prefix=settings["prefix"], dir=settings["temporary"])
    if not ids[0]:
        # Where that fails the guest cannot leave root either, and says so.
        with contextlib.suppress(OSError):
            os.chown(box, GUEST_ID, GUEST_ID)
    relay.main({**settings, "box": box, "host_folder": box, "namespaces": False})


def _fork(ids: tuple[int, int]) -> int:
    try:
        return kernel.fork_into(_NAMESPACES | (kernel.CLONE_NEWUSER if ids[0] else 0))
    except OSError as error:
        os.write(2, f"guest: {error}\n".encode())
        return -1


def _enter_or_exit(settings: dict[str, Any], ids: tuple[int, int]) -> None:
    try:
        _enter(settings, ids)
    except OSError as error:
        os.write(2, f"guest: {error}\n".encode())
        os._exit(3)


def _wait_for(pid: int) -> NoReturn:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os._exit(code if code >= 0 else SIGNALLED - code)


def _enter(settings: dict[str, Any], ids: tuple[int, int]) -> None:
    if ids[0]:
        kernel.map_ids(GUEST_ID, *ids)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    os.mkdir(f"/tmp{_OLD}")
    kernel.call("pivot_root", b"/tmp", f"/tmp{_OLD}".encode())
    os.chdir("/")
    _fill_root(settings)
    kernel.call("umount2", _OLD.encode(), kernel.MNT_DETACH)
    os.rmdir(_OLD)
    _lock_root()
    with contextlib.suppress(OSError):
        kernel.call("sethostname", b"sandbox", 7)
    if ids[0]:
        kernel.drop_capabilities()
    else:
        kernel.leave_root(GUEST_ID)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)


def _fill_root(settings: dict[str, Any]) -> None:
    for name in (BOX, EMPTY, "/dev", "/proc", "/var"):
        os.makedirs(name, exist_ok=True)
    # Of use only where programs may have no namespaces, and thus no file system, of their own.
    options = f"mode=1777,size={_BOX_MB}m"
    kernel.mount("tmpfs", BOX, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    for path in settings["trees"]:
        _show(path, path)
    if settings["data"]:
        _show(settings["data"], DATA)
    for path in settings["hidden"]:
        if os.path.lexists(path):
            cover = EMPTY if os.path.isdir(path) else f"{_OLD}/dev/null"
            kernel.mount(cover, path, "", kernel.MS_BIND)
    for name in DEVICES:
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        kernel.mount(f"{_OLD}/dev/{name}", f"/dev/{name}", "", kernel.MS_BIND)
    for name, place in TEMPORARY:
        # An interpreter may lie in such a folder; TMPDIR then is the only temporary one.
        if not os.path.lexists(place):
            os.symlink(f"{BOX}/{name}", place)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def _show(source: str, target: str) -> None:
    old = f"{_OLD}{source}"
    mode = os.lstat(old).st_mode
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if stat.S_ISLNK(mode):
        if not os.path.lexists(target):
            os.symlink(os.readlink(old), target)
        return
    if stat.S_ISDIR(mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.mount(old, target, "", kernel.MS_BIND | kernel.MS_REC)
    kernel.lock_mount(target, _READ_ONLY)


def _lock_root() -> None:
    # Only this mount: what hangs below it is locked already, or is a device.
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY
    kernel.mount("none", "/", "", flags | kernel.MS_NOSUID | kernel.MS_NODEV)
