"""Confinement of one program: what a fresh child of the zygote puts on itself, for good."""

# System calls stand here by their own names.
# ruff: noqa: PTH102, PTH112, PTH123, PTH208

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import struct
from collections.abc import Iterable
from typing import NamedTuple

from . import kernel, seccomp

# The user that programs run as, wherever another one can be chosen.
GUEST_ID = 64000
BOX = "/box"
EMPTY = "/empty"
DATA = "/data"
# Where programs look for a place for temporary files, and the folder of the box that it is.
TEMPORARY = (("tmp", "/tmp"), ("tmp", "/var/tmp"), ("shm", "/dev/shm"))  # noqa: S108
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


class Order(NamedTuple):
    """What one program may use; see `ProgramLimits` of the host.

    Attributes:
        memory_mb: Memory.
        processes: Processes and threads.
        workspace_mb: Files.
        reply_mb: Size of one message.
        output_kb: How much of what it prints is kept.
        core: The only core to use; None for any.
        is_alone: Whether the process may start no other.
        reserves: Whether it may reserve more addresses than memory.
    """

    memory_mb: int
    processes: int
    workspace_mb: int
    reply_mb: int = 0
    output_kb: int = 0
    core: int | None = None
    is_alone: bool = False
    reserves: bool = False

    @property
    def inodes(self) -> int:
        """Returns how many files and folders there may be."""
        return 1024 + 256 * self.workspace_mb


def read_order(body: bytes) -> Order:
    """Returns the order that the host's JSON text holds."""
    found = json.loads(body)
    return Order(*(found[name] for name in Order._fields))


class Setup(NamedTuple):
    """What a zygote prepares once for all of its children.

    Attributes:
        box: Folder for the workspace and the temporary folders.
        is_namespaced: False where children cannot have namespaces of their own.
        landlock_version: Of the kernel's interface; 0 when there is none.
        code: The system call filter; empty where it depends on the child.
        baseline_bytes: Address space of the warm guest itself.
        ids: User and group of the zygote.
        data: Folder that programs see as `data/`; empty without one.
        ruleset: Descriptor of Landlock's rules where no namespace hides the host's files; -1
            where they depend on the child.
        covers: Folders shown to a child at places that all would share otherwise: pairs of the
            folder's name within the box and the place.
        has_devices: Whether programs drive accelerators, whose libraries map far more addresses
            than memory.
        above: More than the number of any open descriptor.
    """

    box: str
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


def confine(setup: Setup, order: Order) -> None:
    """Confines the calling process, a fresh child of the zygote.

    Raises:
        OSError: The kernel refused a part; the child must not go on.
    """
    # A process that cannot be dumped, as the zygote, owns neither its files in /proc nor lets
    # the watchdog see what it shares.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    _offer_to_the_kernel()
    if setup.is_namespaced:
        _enter_namespaces(setup, order)
    else:
        os.setpgid(0, 0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    make_folders(setup.box)
    for name, place in setup.covers if setup.is_namespaced else ():
        kernel.mount(f"{setup.box}/{name}", place, "", kernel.MS_BIND)
    os.chdir(f"{setup.box}/work")
    _set_limits(setup, order)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if setup.ruleset >= 0:
        restrict_self(INHERITED_RULESET)
    elif setup.landlock_version:
        restrict_self(build_ruleset(setup.landlock_version, file_rules(setup, [("/", READ)])))
    if setup.is_namespaced:
        kernel.drop_capabilities()
    seccomp.install_filter(setup.code or _build_own_filter(setup))


def file_rules(setup: Setup, readable: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Returns Landlock's rules for a program.

    Args:
        setup: What is prepared for it.
        readable: Paths with the rights on them.
    """
    everything = all_rights(setup.landlock_version)
    own = [setup.box, *(f"{setup.box}/{name}" for name, _ in setup.covers)]
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


def make_folders(box: str) -> None:
    """Makes the empty folders of a program."""
    for name in ("work", "tmp", "shm"):
        os.mkdir(f"{box}/{name}", 0o700)


def _enter_namespaces(setup: Setup, order: Order) -> None:
    kernel.map_ids(GUEST_ID, *setup.ids)
    size = order.workspace_mb
    options = f"size={size}m,nr_inodes={order.inodes},mode=0700,uid={GUEST_ID},gid={GUEST_ID}"
    kernel.mount("tmpfs", setup.box, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    for place in _COVERED:
        # The backends but for `docker` show only the first.
        with contextlib.suppress(FileNotFoundError):
            kernel.mount(EMPTY, place, "", kernel.MS_BIND)
    if order.reserves and setup.landlock_version:
        # Tool chains find themselves there: the program's own processes, of which Landlock lets
        # nothing be written, and no count of the kernel's. A container engine may forbid it.
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        with contextlib.suppress(OSError):
            kernel.mount("proc", "/proc", "proc", flags, "subset=pid")


def _offer_to_the_kernel() -> None:
    # When memory runs out, in the guest or on the machine, programs go first, and the guest stays
    # to say so: else a program could have it killed, and pass for a victim of the machine.
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass


def _set_limits(setup: Setup, order: Order) -> None:
    addresses = resource.RLIM_INFINITY
    if not setup.has_devices and not order.reserves:
        addresses = setup.baseline_bytes + order.memory_mb * _MB
    for kind, value in (
        (resource.RLIMIT_AS, addresses),
        (resource.RLIMIT_NPROC, order.processes + (0 if setup.is_namespaced else _count_tasks())),
        (resource.RLIMIT_FSIZE, order.workspace_mb * _MB),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_NOFILE, _MORE_OPEN_FILES if order.reserves else _OPEN_FILES),
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


def _build_own_filter(setup: Setup) -> bytes:
    return seccomp.build_filter(
        os.getpid(), may_signal=setup.landlock_version >= 6, has_devices=setup.has_devices
    )


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
