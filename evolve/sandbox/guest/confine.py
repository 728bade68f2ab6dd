"""Isolation by system calls: of the guest where no binary does it, and of each program in it."""

# System calls stand here by their own names.
# ruff: noqa: PTH102, PTH103, PTH106, PTH112, PTH115, PTH120, PTH123, PTH208, PTH211, S108

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import stat
import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

from . import kernel, seccomp
from .wire import SIGNALLED, ProgramLimits

# The user that programs run as, wherever another one can be chosen.
GUEST_ID = 64000
SCRATCH = "/scratch"
EMPTY = "/empty"
DATA = "/data"
# Where programs look for a place for temporary files, and which folder of the scratch space it is.
TEMPORARY = (("tmp", "/tmp"), ("tmp", "/var/tmp"), ("shm", "/dev/shm"))
# Processes; what the kernel counts, also of programs before; pseudo terminals, which are the whole
# machine's; queues of messages.
_COVERED = ("/proc", "/sys", "/dev/pts", "/dev/mqueue")
DEVICES = ("null", "zero", "full", "random", "urandom")
INHERITED_RULESET = 6
# The least number of descriptors among which none of the guest's is.
ABOVE = 64
_TERMINALS = {"console", "ptmx", "pts", "tty", "shm", "mqueue"}
_NAMESPACES = kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID | kernel.CLONE_NEWNS
_OPEN_FILES, _MORE_OPEN_FILES = 128, 1024
_PENDING_SIGNALS = 256
_CPU_SECONDS = 4 * 3600
_MB = 1 << 20

# Landlock: rules on files, ports and signals that a process puts on itself for good.
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
_TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | IOCTL_DEV

# How many rights on files each version of the interface knows.
_FILE_RIGHT_COUNTS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_FILE_RIGHT_COUNT = 16
_BOTH_PORT_RIGHTS = 3
_BOTH_SCOPES = 3
_DEVICE_RIGHTS = READ_FILE | WRITE_FILE


class Setup(NamedTuple):
    """What a zygote prepares once for all of its children.

    Attributes:
        scratch: Folder for the workspace and the temporary folders.
        is_namespaced: False where children cannot have namespaces of their own.
        landlock_version: Of the kernel's interface; 0 when there is none.
        code: The system call filter; empty where it depends on the child.
        baseline_bytes: Address space of the warm guest itself.
        ids: User and group of the zygote.
        data: Folder that programs see as `data/`; empty without one.
        ruleset: Descriptor of Landlock's rules where no namespace hides the host's files; -1
            where they depend on the child.
        covers: Folders shown to a child at places that all would share otherwise: pairs of the
            folder's name within the scratch space and the place.
        has_devices: Whether programs drive accelerators, whose libraries map far more addresses
            than memory.
        above: More than the number of any open descriptor.
    """

    scratch: str
    is_namespaced: bool
    landlock_version: int
    code: bytes
    baseline_bytes: int
    ids: tuple[int, int]
    data: str = ""
    ruleset: int = -1
    covers: tuple[tuple[str, str], ...] = ()
    has_devices: bool = False
    above: int = ABOVE

    @property
    def flags(self) -> int:
        """Returns the namespaces of a child."""
        return _NAMESPACES if self.is_namespaced else 0


def confine(setup: Setup, limits: ProgramLimits) -> None:
    """Confines the calling process, a fresh child of the zygote.

    Raises:
        OSError: The kernel refused a part; the child must not go on.
    """
    # A process that cannot be dumped, as the zygote, owns neither its files in /proc nor lets
    # the watchdog see what it shares.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    _offer_to_the_kernel()
    if setup.is_namespaced:
        _enter_namespaces(setup, limits)
    else:
        os.setpgid(0, 0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    for name in ("work", "tmp", "shm"):
        os.mkdir(f"{setup.scratch}/{name}", 0o700)
    for name, place in setup.covers if setup.is_namespaced else ():
        kernel.mount(f"{setup.scratch}/{name}", place, "", kernel.MS_BIND)
    os.chdir(f"{setup.scratch}/work")
    _set_limits(setup, limits)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if setup.ruleset >= 0:
        restrict_self(INHERITED_RULESET)
    elif setup.landlock_version:
        restrict_self(build_ruleset(setup.landlock_version, file_rules(setup, [("/", READ)])))
    if setup.is_namespaced:
        kernel.drop_capabilities()
    may_signal = setup.landlock_version >= 6
    seccomp.install_filter(
        setup.code
        or seccomp.build_filter(os.getpid(), may_signal=may_signal, has_devices=setup.has_devices)
    )


def file_rules(setup: Setup, readable: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Returns Landlock's rules for a program.

    Args:
        setup: What is prepared for it.
        readable: Paths with the rights on them.
    """
    everything = all_rights(setup.landlock_version)
    own = [setup.scratch, *(f"{setup.scratch}/{name}" for name, _ in setup.covers)]
    devices = list_devices(has_accelerators=setup.has_devices)
    return [*readable, *devices, *((path, everything) for path in own)]


def leave_out_covered(readable: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Returns rights on what is not covered, where no namespace covers it."""
    hidden = {place.split("/")[1] for place in _COVERED}
    shown: list[tuple[str, int]] = []
    for path, rights in readable:
        names = sorted(os.listdir("/")) if path == "/" else ()
        shown += [(f"/{name}", rights) for name in names if name not in hidden]
        shown += [(path, rights)] if path != "/" else []
    return shown


def list_devices(*, has_accelerators: bool = False) -> list[tuple[str, int]]:
    """Returns Landlock's rules for devices: never terminals, of which the machine has few."""
    if not has_accelerators:
        return [(f"/dev/{name}", _DEVICE_RIGHTS) for name in DEVICES]
    names = set(os.listdir("/dev")) - _TERMINALS
    return [(f"/dev/{name}", _DEVICE_RIGHTS | IOCTL_DEV) for name in sorted(names)]


def _enter_namespaces(setup: Setup, limits: ProgramLimits) -> None:
    kernel.map_ids(GUEST_ID, *setup.ids)
    size = limits.workspace_mb
    options = f"size={size}m,nr_inodes={limits.inodes},mode=0700,uid={GUEST_ID},gid={GUEST_ID}"
    kernel.mount("tmpfs", setup.scratch, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    for place in _COVERED:
        # The backends but for `docker` show only the first.
        with contextlib.suppress(FileNotFoundError):
            kernel.mount(EMPTY, place, "", kernel.MS_BIND)
    if limits.reserves and setup.landlock_version:
        # Tool chains find themselves there: the program's own processes, of which Landlock lets
        # nothing be written, and no count of the kernel's. A container engine may forbid it.
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        with contextlib.suppress(OSError):
            kernel.mount("proc", "/proc", "proc", flags, "subset=pid")


def _offer_to_the_kernel() -> None:
    # When memory runs out, in the guest or on the machine, programs go first, and the guest stays
    # to say so: else a program could have it killed, and pass for a victim of the machine.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _set_limits(setup: Setup, limits: ProgramLimits) -> None:
    addresses = resource.RLIM_INFINITY
    if not setup.has_devices and not limits.reserves:
        addresses = setup.baseline_bytes + limits.memory_mb * _MB
    for kind, value in (
        (resource.RLIMIT_AS, addresses),
        (resource.RLIMIT_NPROC, limits.processes + (0 if setup.is_namespaced else _count_tasks())),
        (resource.RLIMIT_FSIZE, limits.workspace_mb * _MB),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_NOFILE, _MORE_OPEN_FILES if limits.reserves else _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        # What the kernel keeps for a user outside of every process.
        (resource.RLIMIT_SIGPENDING, _PENDING_SIGNALS),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        wanted = [limit for limit in (value, hard) if limit != resource.RLIM_INFINITY]
        lower = min(wanted, default=resource.RLIM_INFINITY)
        resource.setrlimit(kind, (lower, lower))


def _count_tasks() -> int:
    """Counts the other processes and threads of this user, which a namespace would leave out."""
    wanted = b"\nUid:\t%d\t" % os.getuid()
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/status", "rb") as file:
                    status = file.read()
                if wanted in status:
                    count += int(status.partition(b"\nThreads:")[2].split(maxsplit=1)[0])
    return count


def read_landlock_version() -> int:
    """Returns the version of the kernel's Landlock interface; 0 when there is none."""
    try:
        return kernel.call("landlock_create_ruleset", 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def all_rights(version: int) -> int:
    """Returns every right on files that a version knows."""
    return (1 << _FILE_RIGHT_COUNTS.get(version, _NEWEST_FILE_RIGHT_COUNT)) - 1


def build_ruleset(version: int, rules: Iterable[tuple[str, int]]) -> int:
    """Makes a ruleset that allows what is listed and nothing else.

    Args:
        version: Of the interface, at least 1.
        rules: Paths with the rights on them and on what is beneath; missing paths are skipped.

    Returns:
        The ruleset's file descriptor.

    Raises:
        OSError: The kernel refused.
    """
    handled = all_rights(version)
    ports = _BOTH_PORT_RIGHTS if version >= 4 else 0
    scopes = _BOTH_SCOPES if version >= 6 else 0
    attributes = struct.pack("=QQQ", handled, ports, scopes)
    size = 8 if version < 4 else 16 if version < 6 else 24
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    ruleset = kernel.call("landlock_create_ruleset", buffer, size, 0)
    for path, rights in rules:
        _add_rule(ruleset, path, rights & handled)
    return ruleset


def restrict_self(ruleset: int) -> None:
    """Puts the calling process under a ruleset and closes it; `no_new_privs` must be set.

    Raises:
        OSError: The kernel refused.
    """
    kernel.call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def _add_rule(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        kernel.call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


_GUEST_NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
_READ_ONLY = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
_OLD = "/.old"
_SCRATCH_MB = 4096


def isolate(settings: dict[str, Any]) -> dict[str, Any]:
    """Isolates the guest as far as that is allowed, and returns its settings there.

    With namespaces it is a child that this returns to; the caller then waits for its end.

    Args:
        settings: Those of the relay; `trees`, `hidden`, `data`: what is visible; `temporary`,
            `prefix`: where the files of programs go if namespaces are forbidden, and how the
            folder's name begins.
    """
    ids = os.getuid(), os.getgid()
    is_entered, entered = os.pipe()
    flags = _GUEST_NAMESPACES | (kernel.CLONE_NEWUSER if ids[0] else 0)
    pid = fork_and(lambda: _enter(settings, ids), flags) if settings["namespaces"] else -1
    if not pid:
        os.write(entered, b".")
        os.close(is_entered)
        os.close(entered)
        return {**settings, "scratch": SCRATCH, "data": settings["data"] and DATA}
    os.close(entered)
    if pid > 0 and os.read(is_entered, 1):
        _wait_for(pid)
    os.close(is_entered)
    scratch = f"{settings['temporary']}/{settings['prefix']}{os.urandom(8).hex()}"
    os.mkdir(scratch, 0o700)
    if not ids[0]:
        # Where that fails the guest cannot leave root either, and says so.
        with contextlib.suppress(OSError):
            os.chown(scratch, GUEST_ID, GUEST_ID)
    return {**settings, "scratch": scratch, "host_folder": scratch, "namespaces": False}


def fork_and(act: Callable[[], None], flags: int) -> int:
    """Forks a child into namespaces, which does something there before this returns in it.

    Returns:
        0 in the child, its process id in the parent; -1 where it cannot be made. A child that
        fails ends, and says why on standard error.
    """
    pid = -1
    try:
        pid = kernel.fork_into(flags)
        if not pid:
            act()
    except OSError as error:
        os.write(2, f"guest: {error}\n".encode())
        if not pid:
            os._exit(1)
    return pid


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
    for name in (SCRATCH, EMPTY, "/dev", "/proc", "/var"):
        os.makedirs(name, exist_ok=True)
    # Of use only where programs may have no namespaces, and thus no file system, of their own.
    options = f"mode=1777,size={_SCRATCH_MB}m"
    kernel.mount("tmpfs", SCRATCH, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
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
            os.symlink(f"{SCRATCH}/{name}", place)
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
