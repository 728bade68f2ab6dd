"""Linux system calls by number, and those that Python's standard library lacks, through ctypes.

The tables, read from `system_calls.txt`, say what becomes of each call in a program.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import platform
import signal
import struct
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_TID_ADDRESS = 40

_MAP_FIXED = 0x10
_NO_FILE = -1
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_KEPT_FLAGS = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | 0x400 | 0x800
_CHILD_CLEARTID = 0x00200000
_CHILD_SETTID = 0x01000000
_CLONE_PARENT = 0x00008000
_CAPABILITY_VERSION_3 = 0x20080522

MACHINES = {"x86_64": 0, "aarch64": 1}


@functools.cache
def machine_column() -> int:
    """Returns the column of this machine in tables of system call numbers.

    Raises:
        OSError: The machine is neither x86_64 nor aarch64 under Linux.
    """
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in MACHINES:
        raise OSError(f"kernel: expected Linux on x86_64 or aarch64, got {machine!r}")
    return MACHINES[machine]


def number_of(name: str) -> int | None:
    """Returns the number of a system call on this machine; None where it does not exist.

    Raises:
        OSError: The machine is not supported.
    """
    return NUMBERS[name][machine_column()]


def _existing(name: str) -> int:
    number = number_of(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name}: this machine has no such system call")
    return number


@functools.cache
def _libc() -> ctypes.PyDLL:
    # PyDLL keeps the interpreter lock: a clone must not happen between two locks.
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


@functools.cache
def _blind_syscall() -> ctypes._NamedFuncPointer:
    # Another function object: what it returns is never looked at.
    syscall = ctypes.PyDLL(None, use_errno=True).syscall
    syscall.restype = None
    return syscall


def call(name: str, *args: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Makes a system call by name.

    Raises:
        OSError: The kernel refused.
    """
    number = _existing(name)
    converted = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result: int = _libc().syscall(ctypes.c_long(number), *converted)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def prctl(option: int, value: int | ctypes.Array[ctypes.c_char] = 0, third: object = 0) -> None:
    """Sets an attribute of the calling process.

    Raises:
        OSError: The kernel refused.
    """
    second = ctypes.c_ulong(value) if isinstance(value, int) else value
    last = ctypes.c_ulong(third) if isinstance(third, int) else third
    zero = ctypes.c_ulong(0)
    if _libc().prctl(ctypes.c_int(option), second, last, zero, zero) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


@functools.cache
def _tid_address() -> int:
    # Where libc keeps its thread id, so that a clone refreshes it as `fork` does.
    address = ctypes.c_void_p()
    try:
        prctl(PR_GET_TID_ADDRESS, ctypes.addressof(address))
    except OSError:
        return 0
    return address.value or 0


def prepare_fork() -> None:
    """Loads lazily what `fork_into` needs, so that its children do not each do so."""
    machine_column()
    _libc()
    _blind_syscall()
    _tid_address()
    _fork_hooks()


def fork_into(flags: int) -> int:
    """Forks a child into new namespaces, in one system call.

    Args:
        flags: `CLONE_NEW*` flags.

    Returns:
        0 in the child, its process id in the parent.

    Raises:
        OSError: The kernel refused, for example because user namespaces are forbidden.
    """
    before, child, parent = _fork_hooks()
    before()
    try:
        pid = call("clone", *_clone_words(flags | signal.SIGCHLD))
    except OSError:
        parent()
        raise
    (parent if pid else child)()
    return pid


def fork_sibling(flags: int) -> bool:
    """Forks a process that is no child of this one but of its parent.

    Nothing of it is left in this process, its number included, which would show later ones how
    many processes the earlier ones had.

    Args:
        flags: `CLONE_NEW*` flags.

    Returns:
        Whether this is the new process.

    Raises:
        OSError: The kernel refused.
    """
    own = os.getpid()
    words = [
        ctypes.c_long(word) for word in (_existing("clone"), *_clone_words(flags | _CLONE_PARENT))
    ]
    before, child, parent = _fork_hooks()
    before()
    ctypes.set_errno(0)
    _blind_syscall()(*words)
    is_child = os.getpid() != own
    (child if is_child else parent)()
    if code := 0 if is_child else ctypes.get_errno():
        raise OSError(code, f"clone: {os.strerror(code)}")
    # Its number goes from the stack as well: the same call, with an answer that never differs.
    words[0] = ctypes.c_long(_existing("getppid"))
    _blind_syscall()(*words)
    return is_child


def _clone_words(flags: int) -> tuple[int, ...]:
    """Returns the arguments of a clone that forks, in the order of this machine."""
    address = _tid_address()
    bits = flags | (_CHILD_CLEARTID | _CHILD_SETTID if address else 0)
    return (bits, 0, 0, address, 0) if machine_column() == 0 else (bits, 0, 0, 0, address)


@functools.cache
def _fork_hooks() -> tuple[ctypes._NamedFuncPointer, ...]:
    api = ctypes.pythonapi
    hooks = (api.PyOS_BeforeFork, api.PyOS_AfterFork_Child, api.PyOS_AfterFork_Parent)
    for hook in hooks:
        hook.restype = None
    return hooks


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mounts a file system, or binds or remounts one.

    Raises:
        OSError: The kernel refused; the message names the target.
    """
    try:
        call("mount", source.encode(), target.encode(), kind.encode(), flags, data.encode())
    except OSError as error:
        raise OSError(error.errno, f"mount on {target}: {os.strerror(error.errno or 0)}") from None


def lock_mount(target: str, attributes: int) -> None:
    """Sets attributes such as `MS_RDONLY` on a mount and on all mounts beneath it.

    Raises:
        OSError: The kernel refused.
    """
    wanted = struct.pack("=QQQQ", attributes, 0, 0, 0)
    buffer = ctypes.create_string_buffer(wanted, len(wanted))
    try:
        call("mount_setattr", _AT_FDCWD, target.encode(), _AT_RECURSIVE, buffer, len(wanted))
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise OSError(error.errno, f"locking the mount {target}: {error.strerror}") from None
        # Before Linux 5.12 only the mount itself, and flags that it has must be repeated.
        kept = os.statvfs(target).f_flag & _KEPT_FLAGS
        mount("none", target, "", MS_REMOUNT | MS_BIND | attributes | kept)


def map_ids(inside: int, uid: int, gid: int) -> None:
    """Maps the calling process to one user and one group in its new user namespace.

    Args:
        inside: The id that the process sees, for both.
        uid: Its user outside.
        gid: Its group outside.

    Raises:
        OSError: The kernel refused.
    """
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {uid} 1"),
        ("gid_map", f"{inside} {gid} 1"),
    ):
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")


def leave_root(uid: int) -> None:
    """Turns the calling root process into an ordinary user for good.

    Raises:
        OSError: The process may not change its user.
    """
    try:
        os.setgroups([])
        # As root these set all three of each, on every system.
        os.setgid(uid)
        os.setuid(uid)
    except OSError as error:
        raise OSError(
            f"this root cannot become another user ({error.strerror}), as in a user namespace that "
            f"has no user {uid}; run as an ordinary user"
        ) from None


def drop_capabilities() -> None:
    """Drops every capability of the calling process.

    Raises:
        OSError: The kernel refused.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    call("capset", ctypes.addressof(header), ctypes.addressof(sets))


def make_private() -> None:
    """Replaces writable shared mappings of the calling process by private copies.

    A package may have made some while it was imported; what one program writes there the next
    one would read.

    Raises:
        OSError: The kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    numbers = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *numbers)
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, *_ = line.split(maxsplit=2)
        if rights[1] != "w" or rights[3] != "s":
            continue
        start, end = (int(part, 16) for part in place.split("-"))
        kept = ctypes.string_at(start, end - start) if rights[0] == "r" else b""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        right = mmap.PROT_READ | mmap.PROT_WRITE
        if libc.mmap(start, end - start, right, flags, _NO_FILE, 0) != start:
            code = ctypes.get_errno()
            raise OSError(code, f"a shared mapping cannot be made private: {os.strerror(code)}")
        ctypes.memmove(start, kept, len(kept))


Numbers = tuple[int | None, ...]


def _list_calls(verdict: str) -> dict[str, Numbers]:
    return {
        name: tuple(None if number == "-" else int(number) for number in numbers)
        for word, name, *numbers in _ROWS
        if word == verdict
    }


_TABLE = Path(__file__).with_name("system_calls.txt").read_text(encoding="ascii")
_ROWS = [line.split() for line in _TABLE.splitlines() if line and not line.startswith("#")]
ALLOWED, GRANTED, REFUSED, _GUEST = map(_list_calls, ("allow", "grant", "refuse", "guest"))
NEEDED_BY_THE_GUEST = {"mount", *_GUEST}
NUMBERS = {**ALLOWED, **GRANTED, **REFUSED, **_GUEST}
