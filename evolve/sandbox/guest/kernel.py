"""Linux system calls by number, and those that Python's standard library lacks, through ctypes.

The tables say what becomes of each call in a program. They are generated from the kernel's own:
`asm/unistd_64.h` and `asm-generic/unistd.h` of Linux 6.17. What stands in none of them is answered
as by an older kernel, with `ENOSYS`.
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
        flags: `CLONE_NEW*` flags; 0 forks plainly.

    Returns:
        0 in the child, its process id in the parent.

    Raises:
        OSError: The kernel refused, for example because user namespaces are forbidden.
    """
    if not flags:
        return os.fork()
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
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


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


Numbers = tuple[int | None, int | None]

# Each entry: name, number on x86_64, number on aarch64; "-" where the call does not exist.
_ALLOWED = """
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; preadv 295 69;
pwritev 296 70; open 2 -; openat 257 56; openat2 437 437; creat 85 -; close 3 57; close_range
436 436; lseek 8 62; dup 32 23; dup2 33 -; dup3 292 24; pipe 22 -; pipe2 293 59; fcntl 72 25;
ioctl 16 29; stat 4 -; fstat 5 80; lstat 6 -; newfstatat 262 79; statx 332 291; statfs 137 43;
fstatfs 138 44; access 21 -; faccessat 269 48; faccessat2 439 439; readlink 89 -; readlinkat 267
78; getdents 78 -; getdents64 217 61; getcwd 79 17; chdir 80 49; fchdir 81 50; mkdir 83 -;
mkdirat 258 34; rmdir 84 -; rename 82 -; renameat 264 38; renameat2 316 276; link 86 -; linkat
265 37; symlink 88 -; symlinkat 266 36; unlink 87 -; unlinkat 263 35; mknod 133 -; mknodat 259
33; truncate 76 45; ftruncate 77 46; fallocate 285 47; copy_file_range 326 285; sendfile 40 71;
umask 95 166; chmod 90 -; fchmod 91 52; fchmodat 268 53; fchmodat2 452 452; chown 92 -; fchown
93 55; lchown 94 -; fchownat 260 54; utime 132 -; utimes 235 -; futimesat 261 -; utimensat 280
88; getxattr 191 8; lgetxattr 192 9; fgetxattr 193 10; getxattrat 464 464; listxattr 194 11;
llistxattr 195 12; flistxattr 196 13; listxattrat 465 465; setxattr 188 5; lsetxattr 189 6;
fsetxattr 190 7; setxattrat 463 463; removexattr 197 14; lremovexattr 198 15; fremovexattr 199
16; removexattrat 466 466;
poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72; epoll_create 213 -; epoll_create1 291 20;
epoll_ctl 233 21; epoll_ctl_old 214 -; epoll_wait 232 -; epoll_pwait 281 22; epoll_pwait2 441
441; epoll_wait_old 215 -; eventfd 284 -; eventfd2 290 19; signalfd 282 -; signalfd4 289 74;
timerfd_create 283 85; timerfd_settime 286 86; timerfd_gettime 287 87;
socket 41 198; socketpair 53 199; connect 42 203; bind 49 200; listen 50 201; accept 43 202;
accept4 288 242; getsockname 51 204; getpeername 52 205; sendto 44 206; recvfrom 45 207; sendmsg
46 211; recvmsg 47 212; sendmmsg 307 269; recvmmsg 299 243; shutdown 48 210; setsockopt 54 208;
getsockopt 55 209;
mmap 9 222; mprotect 10 226; munmap 11 215; mremap 25 216; brk 12 214; madvise 28 233; mlock 149
228; mlock2 325 284; munlock 150 229; mlockall 151 230; munlockall 152 231; membarrier 324 283;
mseal 462 462; pkey_alloc 330 289; pkey_free 331 290; pkey_mprotect 329 288; map_shadow_stack
453 453;
clone 56 220; fork 57 -; vfork 58 -; execve 59 221; execveat 322 281; exit 60 93; exit_group 231
94; wait4 61 260; waitid 247 95; kill 62 129; tkill 200 130; tgkill 234 131; pidfd_open 434 434;
pidfd_send_signal 424 424; rt_sigqueueinfo 129 138; rt_tgsigqueueinfo 297 240; rt_sigaction 13
134; rt_sigprocmask 14 135; rt_sigpending 127 136; rt_sigtimedwait 128 137; rt_sigsuspend 130
133; rt_sigreturn 15 139; sigaltstack 131 132; restart_syscall 219 128; pause 34 -; prctl 157
167; arch_prctl 158 -; seccomp 317 277; set_tid_address 218 96; set_robust_list 273 99;
get_robust_list 274 100; rseq 334 293; futex 202 98; futex_waitv 449 449; futex_wake 454 454;
futex_wait 455 455; futex_requeue 456 456; getpid 39 172; getppid 110 173; gettid 186 178;
getpgid 121 155; getpgrp 111 -; setpgid 109 154; getsid 124 156; setsid 112 157; getpriority 140
141; setpriority 141 140; getrlimit 97 163; setrlimit 160 164; prlimit64 302 261; getrusage 98
165; times 100 153; ioprio_get 252 31; ioprio_set 251 30; sched_yield 24 124; sched_getaffinity
204 123; sched_setaffinity 203 122; sched_getparam 143 121; sched_setparam 142 118;
sched_getscheduler 145 120; sched_setscheduler 144 119; sched_getattr 315 275; sched_setattr 314
274; sched_get_priority_max 146 125; sched_get_priority_min 147 126; sched_rr_get_interval 148
127; getcpu 309 168;
getuid 102 174; geteuid 107 175; getgid 104 176; getegid 108 177; getresuid 118 148; getresgid
120 150; getgroups 115 158; setuid 105 146; setgid 106 144; setreuid 113 145; setregid 114 143;
setresuid 117 147; setresgid 119 149; setfsuid 122 151; setfsgid 123 152; setgroups 116 159;
capget 125 90;
time 201 -; gettimeofday 96 169; clock_gettime 228 113; clock_getres 229 114; nanosleep 35 101;
clock_nanosleep 230 115; alarm 37 -; getitimer 36 102; setitimer 38 103; timer_create 222 107;
timer_settime 223 110; timer_gettime 224 108; timer_getoverrun 225 109; timer_delete 226 111;
uname 63 160; sysinfo 99 179; getrandom 318 278;
"""
# Done without any effect: a program's files are wiped with it, and the host's must be kept neither
# waiting nor locked, and carry no word from one program to another.
_GRANTED = """
fsync 74 82; fdatasync 75 83; msync 26 227; sync_file_range 277 84; flock 73 32;
"""
# Known, and refused with `EPERM`. Of the page cache: it would keep what programs leave in it. Of
# notifications: they are counted per user, outside of the sandbox too. Of memory: what outlives its
# mappings escapes the watchdog.
_REFUSED = """
fadvise64 221 223; readahead 187 213; mincore 27 232; cachestat 451 451;
unshare 272 97; setns 308 268; mount 165 40; umount2 166 39; pivot_root 155 41; chroot 161 51;
open_tree 428 428; open_tree_attr 467 467; move_mount 429 429; fsopen 430 430; fsconfig 431 431;
fsmount 432 432; fspick 433 433; mount_setattr 442 442; statmount 457 457; listmount 458 458;
ptrace 101 117; process_vm_readv 310 270; process_vm_writev 311 271; process_madvise 440 440;
process_mrelease 448 448; kcmp 312 272; pidfd_getfd 438 438;
io_uring_setup 425 425; io_uring_enter 426 426; io_uring_register 427 427; io_setup 206 0;
add_key 248 217; request_key 249 218; keyctl 250 219; bpf 321 280; perf_event_open 298 241;
userfaultfd 323 282; kexec_load 246 104; kexec_file_load 320 294; init_module 175 105;
finit_module 313 273; delete_module 176 106; reboot 169 142; swapon 167 224; swapoff 168 225;
acct 163 89; syslog 103 116; settimeofday 164 170; clock_settime 227 112; clock_adjtime 305 266;
adjtimex 159 171; sethostname 170 161; setdomainname 171 162; quotactl 179 60; quotactl_fd 443
443; iopl 172 -; ioperm 173 -; modify_ldt 154 -; personality 135 92; name_to_handle_at 303 264;
open_by_handle_at 304 265; fanotify_init 300 262; inotify_init 253 -; inotify_init1 294 26; sync
162 81; syncfs 306 267; migrate_pages 256 238; move_pages 279 239; vhangup 153 58;
memfd_create 319 279; memfd_secret 447 447; shmget 29 194; shmat 30 196; msgget 68 186; semget
64 190; mq_open 240 180;
"""
# What the guest itself needs to confine a program, which the program then cannot.
_GUEST = """
mount 165 40; capset 126 91; landlock_create_ruleset 444 444; landlock_add_rule 445 445;
landlock_restrict_self 446 446;
"""


def _read_table(table: str) -> dict[str, Numbers]:
    rows = (entry.split() for entry in table.split(";") if entry.strip())
    return {name: (_number(first), _number(second)) for name, first, second in rows}


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


ALLOWED = _read_table(_ALLOWED)
GRANTED = _read_table(_GRANTED)
REFUSED = _read_table(_REFUSED)
NEEDED_BY_THE_GUEST = _read_table(_GUEST)
NUMBERS = {**ALLOWED, **GRANTED, **REFUSED, **NEEDED_BY_THE_GUEST}
