"""The system call filter of a program: an allow list, assembled as classic BPF.

What is not known is answered with `ENOSYS`, so that libraries do as on an older kernel; what is
known and refused with `EPERM`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import struct
from typing import NamedTuple

from . import kernel

_LOAD, _AND, _JUMP_EQ, _JUMP_SET, _JUMP_GE, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_ARCHITECTURES = (0xC000003E, 0xC00000B7)
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_ALLOW_NAME, _ERRNO_NAME = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
_MODE_FILTER = 2
_GRANT, _REFUSE, _UNKNOWN = _ERRNO, _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
_ALL_BITS = 0xFFFFFFFF

_AF_UNIX = 1
_RLIMIT_CPU = 0
_NEW_NAMESPACES = 0x7E020000
_THREAD = 0x00010000
_MAP_HUGETLB = 0x00040000
# NORMAL, DONTNEED (of mappings; files stay cached), FREE, REMOVE, DONTFORK, DOFORK, HUGEPAGE,
# NOHUGEPAGE, DONTDUMP, DODUMP, WIPEONFORK, KEEPONFORK, and both of guard pages. All others read or
# steer what the kernel keeps of files.
_ADVICE = (0, 4, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 102, 103)
# DUPFD, GETFD, SETFD, GETFL, SETFL, GETLK, GETOWN, OFD_GETLK, DUPFD_QUERY, DUPFD_CLOEXEC,
# GETPIPE_SZ, ADD_SEALS, GET_SEALS: no leases and watches on files, no larger pipes.
_FILE_COMMANDS = (0, 1, 2, 3, 4, 5, 9, 36, 1027, 1030, 1032, 1033, 1034)
# SETLK, SETLKW, OFD_SETLK, OFD_SETLKW.
_LOCK_COMMANDS = (6, 7, 37, 38)
# TCGETS, TCSETS and its two like, TIOCGPGRP, TIOCSPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX,
# FIOCLEX: what libraries ask of any descriptor.
_DEVICE_REQUESTS = (
    *(0x5401, 0x5402, 0x5403, 0x5404, 0x540F, 0x5410, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451),
)
_TERMINAL_REQUESTS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
# REUSEADDR, TYPE, ERROR, KEEPALIVE, LINGER, REUSEPORT, PASSCRED, RCVLOWAT, SNDLOWAT, and time-outs:
# not the sizes of buffers.
_SOCKET_OPTIONS = (2, 3, 4, 9, 13, 15, 16, 18, 19, 20, 21, 66, 67)
# GET_PDEATHSIG, dumpable, KEEPCAPS, names, SECCOMP, capabilities, timer slack, NO_NEW_PRIVS,
# THP_DISABLE, TID_ADDRESS, SUBREAPER, AMBIENT, SVE, names of mappings, PTRACER.
_ATTRIBUTES = (
    *(2, 3, 4, 7, 8, 15, 16, 21, 22, 23, 24, 27, 29, 30, 36, 37, 38, 39, 40, 41, 42, 47),
    *(50, 51, 0x53564D41, 0x59616D61),
)

# Landlock guards signals from its sixth version on.
_SIGNALS = ("kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
# Where no namespace holds the program: nothing may leave the process group that is killed,
# turn on a stranger, or change what Landlock does not guard.
_REFUSED_WITHOUT_NAMESPACES = (
    *("setsid", "setpgid", "socket", "setpriority", "ioprio_set", "sched_setaffinity"),
    *("sched_setscheduler", "sched_setparam", "sched_setattr", "chmod", "fchmod", "fchmodat"),
    *("fchmodat2", "chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr", "fsetxattr"),
    *("setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat", "utime"),
    *("utimes", "futimesat", "utimensat", "truncate"),
)


class _Rule(NamedTuple):
    """What becomes of a call by the low half of one argument, or some bits of that.

    Attributes:
        name: Of the call.
        position: Of the argument, from 0.
        answers: Values, each group with what is answered for them.
        bits: Those that are looked at.
        otherwise: What is answered for any other value.
    """

    name: str
    position: int
    answers: tuple[tuple[tuple[int, ...], int], ...]
    bits: int = _ALL_BITS
    otherwise: int = _REFUSE


def _only(name: str, position: int, values: tuple[int, ...], bits: int = _ALL_BITS) -> _Rule:
    return _Rule(name, position, ((values, _ALLOW),), bits)


_RULES = (
    _only("mmap", 3, (0,), _MAP_HUGETLB),
    _only("madvise", 2, _ADVICE),
    _Rule("fcntl", 1, ((_FILE_COMMANDS, _ALLOW), (_LOCK_COMMANDS, _GRANT))),
    _only("prctl", 0, _ATTRIBUTES),
    _only("clone", 0, (0,), _NEW_NAMESPACES),
    _only("socketpair", 0, (_AF_UNIX,)),
    _only("setsockopt", 2, _SOCKET_OPTIONS),
)

# The first process of a namespace cannot signal its own end. A lower limit on its processor time
# would kill it all the same, and it would look like a victim of the machine.
_RULES_OF_FIRST_PROCESSES = tuple(
    _Rule(name, position, (((_RLIMIT_CPU,), _REFUSE),), otherwise=_ALLOW)
    for name, position in (("setrlimit", 0), ("prlimit64", 1))
)


def build_filter(
    own_pid: int | None = None, *, may_signal: bool = True, has_devices: bool = False
) -> bytes:
    """Assembles the filter.

    Args:
        own_pid: Set where no namespace holds the program: process groups, sockets, file modes
            and the settings of other processes are then refused as well.
        may_signal: Whether something else guards the processes that are not the program's;
            when not, it can signal its first process only.
        has_devices: Whether it may ask anything of devices.

    Returns:
        The instructions, 8 bytes each.

    Raises:
        OSError: The machine is not supported.
    """
    answers = {
        **dict.fromkeys(kernel.ALLOWED, _ALLOW),
        **dict.fromkeys(kernel.GRANTED, _GRANT),
        **dict.fromkeys(kernel.REFUSED, _REFUSE),
    }
    rules = [*_RULES, _rule_for_devices(has_devices=has_devices)]
    if own_pid is None:
        rules.append(_only("socket", 0, (_AF_UNIX,)))
        rules += _RULES_OF_FIRST_PROCESSES
    else:
        refused = _REFUSED_WITHOUT_NAMESPACES + (() if may_signal else _SIGNALS)
        answers |= dict.fromkeys(refused, _REFUSE)
        rules.append(_only("prlimit64", 0, (0,)))
        if not may_signal:
            rules.append(_only("tgkill", 0, (own_pid,)))
    return _assemble(rules, _assemble_ranges(answers))


def build_timing_filter(*, is_alone: bool) -> bytes:
    """Assembles a filter for a program that is timed, on top of another one.

    Args:
        is_alone: Whether new processes are refused too; threads never are.

    Returns:
        The instructions: the program stays on the core that it has.

    Raises:
        OSError: The machine is not supported.
    """
    rules = [_Rule("sched_setaffinity", 0, ())]
    if is_alone:
        rules += [_Rule("fork", 0, ()), _Rule("vfork", 0, ())]
        rules.append(_only("clone", 0, (_THREAD,), _THREAD))
    return _assemble(rules, [_op(_RETURN, _ALLOW)])


def build_profile() -> str:
    """Returns the seccomp profile of a container as JSON text.

    It allows what a program's filter does, and what the guest itself needs; that filter, which each
    program gets on top, is tighter. Engines that do not know `defaultErrnoRet` answer unknown
    calls with `EPERM`: what libraries fall back from is therefore named.
    """
    sockets = {"socket", "socketpair"}
    allowed = {*kernel.ALLOWED, *kernel.GRANTED, *kernel.NEEDED_BY_THE_GUEST} - sockets
    is_unix = {"index": 0, "value": _AF_UNIX, "op": "SCMP_CMP_EQ"}
    refuse, answer_unknown = (
        {"action": _ERRNO_NAME, "errnoRet": code} for code in (errno.EPERM, errno.ENOSYS)
    )
    rules = [
        {"names": sorted(allowed), "action": _ALLOW_NAME},
        {"names": sorted(sockets), "action": _ALLOW_NAME, "args": [is_unix]},
        {"names": sorted(kernel.REFUSED.keys() - allowed), **refuse},
        {"names": ["clone3", "preadv2"], **answer_unknown},
    ]
    default = {"defaultAction": _ERRNO_NAME, "defaultErrnoRet": errno.ENOSYS}
    return json.dumps({**default, "syscalls": rules})


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


def _rule_for_devices(*, has_devices: bool) -> _Rule:
    if has_devices:
        return _Rule("ioctl", 1, ((_TERMINAL_REQUESTS, _REFUSE),), otherwise=_ALLOW)
    unknown = _ERRNO | errno.ENOTTY
    return _Rule("ioctl", 1, ((_DEVICE_REQUESTS, _ALLOW),), otherwise=unknown)


def _assemble(rules: list[_Rule], rest: list[bytes]) -> bytes:
    architecture = _ARCHITECTURES[kernel.machine_column()]
    code = [_op(_LOAD, _ARCHITECTURE_OFFSET), _op(_JUMP_EQ, architecture, 1, 0)]
    code += [_op(_RETURN, _KILL), _op(_LOAD, _NUMBER_OFFSET)]
    for rule in rules:
        code += _assemble_rule(rule)
    return b"".join(code + rest)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _assemble_rule(rule: _Rule) -> list[bytes]:
    number = kernel.number_of(rule.name)
    if number is None:
        return []
    body = [_op(_LOAD, _ARGUMENTS_OFFSET + 8 * rule.position), _op(_AND, rule.bits)]
    for values, answer in rule.answers:
        for value in values:
            body += [_op(_JUMP_EQ, value, 0, 1), _op(_RETURN, answer)]
    body.append(_op(_RETURN, rule.otherwise))
    return [_op(_JUMP_EQ, number, 0, len(body)), *body]


def _assemble_ranges(answers: dict[str, int]) -> list[bytes]:
    numbered = [(kernel.number_of(name), answer) for name, answer in answers.items()]
    ranges: list[tuple[int, int, int]] = []
    for number, answer in sorted((one, answer) for one, answer in numbered if one is not None):
        if ranges and ranges[-1][1:] == (number - 1, answer):
            ranges[-1] = (ranges[-1][0], number, answer)
        else:
            ranges.append((number, number, answer))
    code = []
    for first, last, answer in ranges:
        code += [
            _op(_JUMP_GE, last + 1, 3, 0),
            _op(_JUMP_GE, first, 0, 1),
            _op(_RETURN, answer),
            _op(_RETURN, _UNKNOWN),
        ]
    return [*code, _op(_RETURN, _UNKNOWN)]
