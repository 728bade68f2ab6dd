"""What a program may leave in, take from or hold of the machine beyond its own files."""

import ctypes
import fcntl
import mmap
import struct
from pathlib import Path

import numpy as np
import pytest

from evolve.errors import ProgramError
from evolve.records import Status
from evolve.sandbox.backends import Sandbox
from evolve.sandbox.guest import kernel
from evolve.sandbox.guest.wire import ProgramLimits
from tests.sandboxes import LIMITS, ask, fail, make_program

LIBRARY = next(Path(np.__file__).parent.glob("_core/_multiarray_umath*.so"))
PRELUDE = f"""
import ctypes, fcntl, mmap, os, socket, struct, time
libc = ctypes.CDLL(None, use_errno=True)
numbers = {{name: pair for name, pair in {kernel.NUMBERS!r}.items()}}
column = ("x86_64", "aarch64").index(os.uname().machine)
def call(name, *args):
    result = libc.syscall(ctypes.c_long(numbers[name][column]), *map(ctypes.c_long, args))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result
def refused(act):
    try: act()
    except OSError: return True
    return False
def address(thing): return ctypes.addressof(ctypes.c_char.from_buffer(thing))
"""
SMALL = ProgramLimits(seconds=20.0, memory_mb=128, processes=16, workspace_mb=8)


def count_cached(path: Path) -> int:
    """Counts the pages of a file that the kernel keeps."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as region:
        pages = -(-len(region) // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * pages)()
        start = np.frombuffer(region, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        size = ctypes.c_size_t(len(region))
        assert libc.mincore(ctypes.c_void_p(start.ctypes.data), size, found) == 0
        del start
    return sum(page & 1 for page in found)


CACHED = [
    *(f"os.posix_fadvise(host, 0, 4096, {advice})" for advice in range(6)),
    "call('readahead', host, 0, 1 << 20)",
    "os.preadv(host, [bytearray(1)], 0, os.RWF_NOWAIT)",
    "os.preadv(host, [bytearray(1)], 0, 0x80)",
    "check(libc.preadv2(host, ctypes.byref(part), 1, 0, 8))",
    "call('mincore', start, 4096, address(bytearray(1)))",
    "call('cachestat', host, address(bytearray(16)), address(bytearray(40)), 0)",
    *(f"call('madvise', start, 4096, {advice})" for advice in (1, 2, 3, 20, 21, 22, 25)),
    "call('process_madvise', 3, 0, 0, 21, 0)",
    "call('io_uring_setup', 8, 0)",
    "call('io_setup', 8, address(bytearray(8)))",
    "call('mlock', start, 4096)",
    "os.splice(host, os.pipe()[1], 4096)",
]
TERMINALS = [
    "os.openpty()",
    "os.open('/dev/ptmx', os.O_RDWR)",
    "os.open('/dev/pts/ptmx', os.O_RDWR)",
    "os.open('/dev/ptmx', os.O_RDONLY)",
    "os.open('/dev/console', os.O_RDWR)",
    "os.open('/dev/tty', os.O_RDWR)",
    "fcntl.ioctl(0, 0x5412, b'x')",
    "fcntl.ioctl(0, 0x80045430, bytes(4))",
]
BUFFERS = [
    *(
        f"socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, {option}, 1 << 24)"
        for option in (7, 8, 32, 33, 73)
    ),
    "fcntl.fcntl(os.pipe()[0], fcntl.F_SETPIPE_SZ, 1 << 20)",
    "mmap.mmap(-1, 1 << 21, flags=0x40022)",
    "os.mkfifo('x') or fcntl.fcntl(os.open('x', os.O_RDWR), 1031, 1 << 20)",
]


def list_allowed(sandbox: Sandbox, acts: list[str], setup: str = "") -> list[str]:
    """Returns which of some acts a program is not refused."""
    source = f"""{PRELUDE}
def check(result):
    if result < 0: raise OSError
def f(path):
{setup}
    names = {{**globals(), **locals()}}
    return [act for act in {acts!r} if not refused(lambda: eval(act, names))]
"""
    allowed: list[str] = ask(sandbox, source, args=(str(LIBRARY),)).value
    return allowed


class TestPageCache:
    def test_what_reads_or_steers_the_page_cache_is_refused(self, sandbox: Sandbox) -> None:
        setup = """
    host = os.open(path, os.O_RDONLY)
    part = (ctypes.c_void_p * 2)(address(bytearray(1)), 1)
    libc.mmap.restype = ctypes.c_void_p
    start = libc.mmap(None, 4096, 1, 1, host, 0)
"""
        assert list_allowed(sandbox, CACHED, setup) == []

    def test_no_page_of_the_hosts_files_can_be_evicted(self, sandbox: Sandbox) -> None:
        source = f"""{PRELUDE}
def f(path):
    host = os.open(path, os.O_RDONLY)
    size = os.fstat(host).st_size
    libc.mmap.restype = ctypes.c_void_p
    for flags in (1, 2):
        start = libc.mmap(None, ctypes.c_size_t(size), 1, flags, host, 0)
        for advice in range(110): refused(lambda: call("madvise", start, size, advice))
    for advice in range(10): refused(lambda: call("fadvise64", host, 0, 0, advice))
    for flags in range(0, 512): refused(lambda: os.preadv(host, [bytearray(4096)], 0, flags))
    direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
    room = mmap.mmap(-1, 1 << 16)
    refused(lambda: os.preadv(direct, [room], 0))
    return os.path.getsize(path)
"""
        LIBRARY.read_bytes()
        before = count_cached(LIBRARY)
        assert ask(sandbox, source, args=(str(LIBRARY),)).value == LIBRARY.stat().st_size
        assert count_cached(LIBRARY) == before > 100


class TestLocks:
    @pytest.mark.parametrize(
        "take",
        [
            "fcntl.flock(host, fcntl.LOCK_EX)",
            "fcntl.flock(host, fcntl.LOCK_SH)",
            "fcntl.lockf(host, fcntl.LOCK_SH)",
            "fcntl.fcntl(host, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))",
        ],
    )
    def test_files_of_the_host_stay_free_of_locks(self, sandbox: Sandbox, take: str) -> None:
        source = f"{PRELUDE}\ndef f(path):\n    global host\n    host = open(path)\n    {take}\n"
        session = sandbox.open(make_program(source), LIMITS)
        try:
            session.call("f", [str(LIBRARY)])
            with LIBRARY.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
                found = fcntl.fcntl(file, fcntl.F_GETLK, wanted)
            assert struct.unpack("hhqqi4x", found)[0] == fcntl.F_UNLCK
        finally:
            session.close()

    @pytest.mark.parametrize("call", ["os.fsync", "os.fdatasync"])
    def test_the_kernel_is_not_asked_to_write_files_out(self, sandbox: Sandbox, call: str) -> None:
        # Of a pipe it would refuse.
        assert ask(sandbox, f"import os\ndef f(): return {call}(os.pipe()[0])").value is None


class TestTerminals:
    def test_there_are_no_terminals(self, sandbox: Sandbox) -> None:
        assert list_allowed(sandbox, TERMINALS) == []


def test_what_the_kernel_counts_is_hidden(sandbox: Sandbox) -> None:
    # The highest use of memory, for one, is still there when the next program looks.
    source = """
        import os
        def f():
            found = []
            for place in ("/sys", "/sys/fs/cgroup", "/proc", "/dev/pts", "/dev/mqueue"):
                try: found += os.listdir(place)
                except OSError: pass
            return found
    """
    assert ask(sandbox, source).value == []


class TestKernelMemory:
    def test_buffers_outside_of_the_programs_memory_cannot_grow(self, sandbox: Sandbox) -> None:
        assert list_allowed(sandbox, BUFFERS) == []

    def test_what_is_counted_with_the_user_is_limited(self, sandbox: Sandbox) -> None:
        source = """
            import resource as r
            def f():
                kinds = (r.RLIMIT_SIGPENDING, r.RLIMIT_MSGQUEUE, r.RLIMIT_MEMLOCK)
                return [r.getrlimit(kind)[1] for kind in kinds]
        """
        assert ask(sandbox, source).value == [256, 0, 0]

    def test_signals_cannot_pile_up(self, sandbox: Sandbox) -> None:
        source = f"""{PRELUDE}
import signal
def f():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    sent = 0
    try:
        for sent in range(100_000): libc.sigqueue(os.getpid(), 34, None) and 1 / 0
    except ZeroDivisionError: pass
    return sent
"""
        assert ask(sandbox, source).value <= 256

    def test_locks_of_files_do_not_pile_up(self, sandbox: Sandbox) -> None:
        # Each would take memory of the kernel that nothing limits.
        source = f"""{PRELUDE}
def f():
    file = open("x", "w+")
    for place in range(20_000): fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * place)
    if not os.fork():
        os._exit(refused(lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)))
    return os.wait()[1]
"""
        assert ask(sandbox, source).value == 0

    @pytest.mark.parametrize("kind", ["DGRAM", "STREAM", "SEQPACKET"])
    def test_full_sockets_are_counted(self, sandbox: Sandbox, kind: str) -> None:
        source = f"""{PRELUDE}
def f():
    for _ in range(12):
        if not os.fork():
            kept = []
            while True:
                try: kept += socket.socketpair(socket.AF_UNIX, socket.SOCK_{kind})
                except OSError: break
                for end in kept[-2:]:
                    end.setblocking(False)
                    refused(lambda: [end.send(bytes(1 << 15)) for _ in range(100)])
            time.sleep(60)
    time.sleep(60)
"""
        fail(sandbox, source, Status.MEMORY, "128 MB", SMALL)

    def test_sockets_that_nobody_accepts_are_counted(self, sandbox: Sandbox) -> None:
        source = f"""{PRELUDE}
def f():
    server = socket.socket(socket.AF_UNIX)
    server.bind("s")
    server.listen(4000)
    for _ in range(4000):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        client.connect("s")
        refused(lambda: [client.send(bytes(1 << 15)) for _ in range(100)])
        client.close()
    time.sleep(60)
"""
        with pytest.raises(ProgramError) as caught:
            ask(sandbox, source, limits=SMALL)
        refused = "PermissionError" in caught.value.reason
        assert caught.value.status is (Status.ERROR if refused else Status.MEMORY)

    def test_a_few_sockets_are_nobodys_harm(self, sandbox: Sandbox) -> None:
        source = f"""{PRELUDE}
def f():
    kept = [socket.socketpair() for _ in range(30)]
    for one, _ in kept: one.send(bytes(1000))
    time.sleep(0.5)
    return len(kept)
"""
        assert ask(sandbox, source, limits=SMALL).value == 30
