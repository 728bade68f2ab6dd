"""The system call filter of a program: a deny list, assembled as classic BPF."""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import NamedTuple

from . import kernel

_LOAD, _JUMP_EQ, _JUMP_SET, _JUMP_GE, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_ARCHITECTURES = (0xC000003E, 0xC00000B7)
_X32_BIT = 0x40000000
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_MODE_FILTER = 2
_AF_UNIX = 1
_NEW_NAMESPACES = 0x7E020000

# Numbers per machine: (x86_64, aarch64); None where the call does not exist.
Numbers = tuple[int | None, int | None]

_DENIED: dict[str, Numbers] = {
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # What is counted per user outside of the sandbox too, or keeps the whole machine waiting.
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Memory that outlives its mappings would escape the watchdog.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}

# Landlock guards signals from its sixth version on.
_SIGNALS: dict[str, Numbers] = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
}

# Where no namespace holds the program: nothing may leave the process group that is killed,
# turn on a stranger, or change what Landlock does not guard.
_DENIED_WITHOUT_NAMESPACES: dict[str, Numbers] = {
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "socket": (41, 198),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "truncate": (76, 45),
}


class _Argument(NamedTuple):
    """A rule on one argument: refused when the jump on its low half does (not) match."""

    numbers: Numbers
    position: int
    jump: int
    value: int
    refuse_on_match: bool


_CLONE: Numbers = (56, 220)
_SOCKET: Numbers = (41, 198)
_SOCKETPAIR: Numbers = (53, 199)
_IOCTL: Numbers = (16, 29)
_PRCTL: Numbers = (157, 167)
_PRLIMIT: Numbers = (302, 261)
_TGKILL: Numbers = (234, 131)
_CLONE3: Numbers = (435, 435)
_SETAFFINITY: Numbers = (203, 122)
_FORK: Numbers = (57, None)
_VFORK: Numbers = (58, None)
_FCNTL: Numbers = (72, 25)
_F_SETLEASE, _F_NOTIFY = 1024, 1026
_THREAD = 0x00010000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_ARGUMENTS = (
    _Argument(_CLONE, 0, _JUMP_SET, _NEW_NAMESPACES, refuse_on_match=True),
    _Argument(_SOCKET, 0, _JUMP_EQ, _AF_UNIX, refuse_on_match=False),
    _Argument(_SOCKETPAIR, 0, _JUMP_EQ, _AF_UNIX, refuse_on_match=False),
    _Argument(_IOCTL, 1, _JUMP_EQ, _TIOCSTI, refuse_on_match=True),
    _Argument(_IOCTL, 1, _JUMP_EQ, _TIOCLINUX, refuse_on_match=True),
    _Argument(_PRCTL, 0, _JUMP_EQ, kernel.PR_SET_PDEATHSIG, refuse_on_match=True),
    # On files of the host that may only be read.
    _Argument(_FCNTL, 1, _JUMP_EQ, _F_SETLEASE, refuse_on_match=True),
    _Argument(_FCNTL, 1, _JUMP_EQ, _F_NOTIFY, refuse_on_match=True),
)


def build_filter(own_pid: int | None = None, *, may_signal: bool = True) -> bytes:
    """Assembles the filter.

    Args:
        own_pid: Set where no namespace holds the program: process groups, sockets, file modes
            and the settings of other processes are then refused as well.
        may_signal: Whether something else guards the processes that are not the program's;
            when not, it can signal its first process only.

    Returns:
        The instructions, 8 bytes each.

    Raises:
        OSError: The machine is not supported.
    """
    column = kernel.machine_column()
    code = _head(column)
    denied, arguments = dict(_DENIED), list(_ARGUMENTS)
    if own_pid is not None:
        denied.update(_DENIED_WITHOUT_NAMESPACES)
        itself = _Argument(_PRLIMIT, 0, _JUMP_EQ, 0, refuse_on_match=False)
        arguments.append(itself)
        if not may_signal:
            denied.update(_SIGNALS)
            own = _Argument(_TGKILL, 0, _JUMP_EQ, own_pid, refuse_on_match=False)
            arguments.append(own)
    for numbers in denied.values():
        code += _refuse(numbers[column], errno.EPERM)
    for rule in arguments:
        code += _refuse_argument(rule, column)
    code.append(_op(_RETURN, _ALLOW))
    return b"".join(code)


def build_timing_filter(*, is_alone: bool) -> bytes:
    """Assembles a filter for a program that is timed, on top of another one.

    Args:
        is_alone: Whether new processes are refused too; threads never are.

    Returns:
        The instructions: the program stays on the core that it has.

    Raises:
        OSError: The machine is not supported.
    """
    column = kernel.machine_column()
    code = _head(column) + _refuse(_SETAFFINITY[column], errno.EPERM)
    if is_alone:
        code += _refuse(_FORK[column], errno.EPERM) + _refuse(_VFORK[column], errno.EPERM)
        thread = _Argument(_CLONE, 0, _JUMP_SET, _THREAD, refuse_on_match=False)
        code += _refuse_argument(thread, column)
    return b"".join([*code, _op(_RETURN, _ALLOW)])


def list_denied() -> tuple[str, ...]:
    """Lists the system calls that no program may make, by name.

    Those refused only without namespaces, or for one argument, are not among them.
    """
    return tuple(_DENIED)


def install_filter(code: bytes) -> None:
    """Puts the calling process under a filter, for good; `no_new_privs` must be set.

    Raises:
        OSError: The kernel has no seccomp filters.
    """
    buffer = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(
        struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    )
    kernel.prctl(kernel.PR_SET_SECCOMP, _MODE_FILTER, program)


def _head(column: int) -> list[bytes]:
    code = [_op(_LOAD, _ARCHITECTURE_OFFSET), _op(_JUMP_EQ, _ARCHITECTURES[column], 1, 0)]
    code += [_op(_RETURN, _KILL), _op(_LOAD, _NUMBER_OFFSET)]
    if column == 0:
        code += [_op(_JUMP_GE, _X32_BIT, 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    # libc falls back to clone, whose flags can be read.
    return code + _refuse(_CLONE3[column], errno.ENOSYS)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int | None, code: int) -> list[bytes]:
    if number is None:
        return []
    return [_op(_JUMP_EQ, number, 0, 1), _op(_RETURN, _ERRNO | code)]


def _refuse_argument(rule: _Argument, column: int) -> list[bytes]:
    number = rule.numbers[column]
    if number is None:
        return []
    skips = (0, 1) if rule.refuse_on_match else (1, 0)
    return [
        _op(_JUMP_EQ, number, 0, 4),
        _op(_LOAD, _ARGUMENTS_OFFSET + 8 * rule.position),
        _op(rule.jump, rule.value, *skips),
        _op(_RETURN, _ERRNO | errno.EPERM),
        _op(_LOAD, _NUMBER_OFFSET),
    ]
