"""Attacks of our own invention, and those that need more than one line."""

import os
import socket
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evolve.errors import ProgramError
from evolve.records import Status
from evolve.sandbox.backends import Sandbox
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.layout import find_view
from evolve.sandbox.replies import printable_end
from tests.sandboxes import (
    LIMITS,
    ask,
    fail,
    fail_with_output,
    has_namespaces,
    make_like,
    make_program,
)

SHORT = ProgramLimits(
    seconds=1.0, memory_mb=256, processes=16, workspace_mb=8, reply_mb=4, output_kb=4
)
MANY = "for i in range(3): kept.append(open(str(i), 'wb')); kept[-1].write(bytes(1 << 20))"
LARGE = ProgramLimits(seconds=20.0, memory_mb=2048, processes=16, workspace_mb=64, reply_mb=64)


class TestProcesses:
    def test_a_child_that_holds_every_pipe_dies_with_the_session(self, sandbox: Sandbox) -> None:
        source = """
            import os, time
            def f():
                if not os.fork():
                    if os.fork(): os._exit(0)
                    time.sleep(60)
                return 1
        """
        started = time.monotonic()
        assert ask(sandbox, source).value == 1
        assert ask(sandbox, "def f(): return 2").value == 2
        assert time.monotonic() - started < 30

    def test_stopping_itself_ends_at_the_deadline(self, sandbox: Sandbox) -> None:
        source = "import os, signal\ndef f():\n    while True: os.kill(os.getpid(), signal.SIGSTOP)"
        fail(sandbox, source, Status.TIMEOUT, None, SHORT)

    def test_a_storm_of_orphans_does_not_keep_the_guest(self, sandbox: Sandbox) -> None:
        source = """
            import os
            def f():
                while True:
                    try:
                        if not os.fork():
                            try: os.fork()
                            finally: os._exit(0)
                    except OSError: pass
        """
        fail(sandbox, source, Status.TIMEOUT, None, SHORT)

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers are those of x86_64")
    def test_a_child_given_to_the_guest_dies_as_well(self, sandbox: Sandbox) -> None:
        # CLONE_PARENT makes a sibling: the guest's own child.
        source = """
            import ctypes, os, time
            libc = ctypes.CDLL(None, use_errno=True)
            def f():
                if libc.syscall(56, 0x8000 | 17, 0, 0, 0, 0) == 0:
                    while True: time.sleep(1)
                if not os.fork():
                    libc.syscall(56, 0x8000 | 17, 0, 0, 0, 0)
                    while True: time.sleep(1)
                return 1
        """
        assert ask(sandbox, source).value == 1
        assert ask(sandbox, "def f(): return 2").value == 2

    def test_a_segmentation_fault_is_named(self, sandbox: Sandbox) -> None:
        source = "import ctypes\ndef f(): ctypes.string_at(0)"
        fail(sandbox, source, Status.CRASHED, "SIGSEGV")

    def test_no_memory_of_a_process_can_be_opened(self, sandbox: Sandbox) -> None:
        source = """
            import os
            def f():
                opened = []
                for pid in ("self", "thread-self", os.getpid(), os.getppid(), 1, 2, *range(3, 60)):
                    for name in ("mem", "environ", "maps", "root", "task", "status"):
                        try: opened.append(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
                        except OSError: pass
                return opened
        """
        assert ask(sandbox, source).value == []

    def test_priority_cannot_be_raised(self, sandbox: Sandbox) -> None:
        source = """
            import os
            def f():
                held = 0
                for call in (
                    lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
                    lambda: os.setpriority(os.PRIO_PROCESS, 0, -10),
                ):
                    try: call()
                    except OSError: held += 1
                return held
        """
        assert ask(sandbox, source).value == 2


class TestFiles:
    def test_sparse_files_are_limited(self, sandbox: Sandbox) -> None:
        source = """
            import signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            def f():
                with open("sparse", "wb") as file:
                    try: file.truncate(1 << 40)
                    except OSError: return "refused"
        """
        assert ask(sandbox, source).value == "refused"

    def test_shared_memory_beyond_the_files_limit_is_told(self, namespaced: Sandbox) -> None:
        source = """
            import mmap, os
            def f():
                file = open("/dev/shm/x", "w+b")
                file.truncate(LIMIT)
                with mmap.mmap(file.fileno(), LIMIT) as region:
                    for place in range(0, LIMIT, 4096): region[place] = 1
        """.replace("LIMIT", str(LIMITS.workspace_mb << 20))
        filler = "\n                open('filler', 'wb').write(bytes(4 << 20))"
        source = source.replace("def f():", f"def f():{filler}")
        fail(namespaced, source, Status.CRASHED, r"SIGBUS.*workspace_mb")

    def test_folders_deeper_than_any_path_are_wiped(self, sandbox: Sandbox) -> None:
        source = """
            import os
            def f():
                for depth in range(1100):
                    try:
                        os.mkdir("d"); os.chdir("d")
                    except OSError: break
                return depth
        """
        assert ask(sandbox, source, limits=LARGE).value > 100
        source = "import os\ndef f(): return os.listdir('.')"
        assert ask(sandbox, source).value == ["main.py"]

    def test_folders_closed_to_their_owner_are_wiped(self, sandbox: Sandbox) -> None:
        source = """
            import os
            def f():
                os.makedirs("a/b", 0o300)
                os.chdir("a"); os.mkdir("c", 0o300)
                os.chdir("c"); os.mkdir("none", 0)
                open("file", "w")
        """
        ask(sandbox, source)
        source = "import os\ndef f(): return os.listdir('.')"
        assert ask(sandbox, source).value == ["main.py"]

    @pytest.mark.parametrize(
        "body",
        [
            # Below what a path can name.
            "for _ in range(50): os.mkdir('d' * 200); os.chdir('d' * 200)\n" + MANY,
            MANY + "; os.unlink(str(i))",
            "for i in range(5000): os.mkdir(str(i))",
        ],
        ids=["deep", "unlinked", "many"],
    )
    def test_files_cannot_hide_from_the_watchdog(self, sandbox: Sandbox, body: str) -> None:
        if has_namespaces(sandbox):
            pytest.skip("limited here")
        body = textwrap.indent(body, "    ")
        source = f"import os, time\nkept = []\ndef f():\n{body}\n    time.sleep(60)"
        small = ProgramLimits(seconds=20.0, memory_mb=256, workspace_mb=1)
        fail(sandbox, source, Status.CRASHED, "of files in the workspace", small)

    def test_another_programs_workspace_is_out_of_reach(self, sandbox: Sandbox) -> None:
        other = make_like(sandbox, find_view(()))
        secret = "import os\ndef f():\n    open('secret', 'w').write('x')\n    return os.getcwd()"
        session = other.open(make_program(secret), LIMITS)
        try:
            place = session.call("f").value
            source = """
                import os
                def f(place):
                    if os.getcwd() == place: return os.listdir(place)
                    try: return os.listdir(place)
                    except OSError: return []
            """
            assert "secret" not in ask(sandbox, source, args=(place,)).value
        finally:
            other.close()

    def test_interpreters_start_up_files_cannot_be_planted(self, sandbox: Sandbox) -> None:
        source = """
            import os, site, sys, sysconfig
            def f():
                planted = []
                folders = [*sys.path, *site.getsitepackages(), sysconfig.get_path("stdlib")]
                for folder in {os.path.abspath(path) for path in folders} - {os.getcwd()}:
                    for name in ("sitecustomize.py", "evil.pth", "usercustomize.py"):
                        try:
                            open(f"{folder}/{name}", "w"); planted.append(folder)
                        except OSError: pass
                return planted
        """
        assert ask(sandbox, source).value == []

    def test_changed_modules_do_not_reach_the_next_program(self, sandbox: Sandbox) -> None:
        source = """
            import builtins, gc, os, sys, tempfile, numpy, random
            def f():
                seen = [hasattr(m, "leftover") for m in (builtins, sys, numpy, os)]
                seen += [sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(),
                         os.umask(0o022), random.random(), float(numpy.random.random()),
                         len(os.listdir(tempfile.gettempdir()))]
                for m in (builtins, sys, numpy, os): m.leftover = 1
                sys.setrecursionlimit(77); sys.setswitchinterval(1); gc.disable(); os.umask(0)
                tempfile.mkstemp()
                return seen
        """
        assert ask(sandbox, source).value == ask(sandbox, source).value


class TestNetwork:
    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_path_sockets_of_the_host_are_out_of_reach(
        self, sandbox: Sandbox, tmp_path: Path, kind: int
    ) -> None:
        with socket.socket(socket.AF_UNIX, kind) as server:
            server.bind(str(tmp_path / "s"))
            source = f"""
                import socket
                def f(path): socket.socket(socket.AF_UNIX, {int(kind)}).connect(path)
            """
            with pytest.raises(ProgramError, match=r"FileNotFound|Permission"):
                ask(sandbox, source, args=(str(tmp_path / "s"),))

    def test_names_cannot_be_resolved(self, sandbox: Sandbox) -> None:
        source = "import socket\ndef f(): return socket.getaddrinfo('example.org', 443)"
        fail(sandbox, source, Status.ERROR)


class TestSecrets:
    def test_nothing_of_the_host_is_in_memory(self, sandbox: Sandbox) -> None:
        marker = "sk-" + os.urandom(12).hex()
        os.environ["OPENAI_API_KEY"] = marker
        source = """
            import gc, sys
            def f(half):
                needle, seen = half + half[::-1], 0
                for thing in gc.get_objects():
                    try: seen += needle in repr(thing)[:100_000]
                    except BaseException: pass
                return seen
        """
        try:
            other = make_like(sandbox, find_view(()))
            half = marker[: len(marker) // 2]
            os.environ["OPENAI_API_KEY"] = half + half[::-1]
            try:
                assert ask(other, source, args=(half,), limits=LARGE).value == 0
            finally:
                other.close()
        finally:
            del os.environ["OPENAI_API_KEY"]


class TestClock:
    def test_seconds_are_those_of_the_host(self, sandbox: Sandbox) -> None:
        source = """
            import time
            real = time.sleep
            for name in ("time", "monotonic", "perf_counter", "process_time", "time_ns"):
                setattr(time, name, lambda: 0)
            time.sleep = lambda seconds: None
            def f(): real(0.3); return time.time()
        """
        answer = ask(sandbox, source)
        assert answer.value == 0
        assert answer.seconds >= 0.3

    def test_the_clock_cannot_be_set(self, sandbox: Sandbox) -> None:
        source = "import time\ndef f(): time.clock_settime(time.CLOCK_REALTIME, 0)"
        fail(sandbox, source, Status.ERROR, "PermissionError")


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            "type('F', (float,), {'__float__': lambda s: 9e9, '__eq__': lambda *a: True})(1)",
            "type('I', (int,), {'__index__': lambda s: 9, '__gt__': lambda *a: True})(1)",
            "type('S', (str,), {'__len__': lambda s: 9})('x')",
            "type('L', (list,), {'__iter__': lambda s: iter([9] * 9)})([1])",
            "type('D', (dict,), {'items': lambda s: [('a', 9)]})(a=1)",
            "type('T', (), {'__class__': property(lambda s: float)})()",
            "(lambda: (yield 1))",
            "memoryview(b'x')",
            "[[]] * 10**6",
            "'\\ud800'",
            "{1: 2}",
            "{'!': 'array', 'dtype': '|O', 'shape': []}",
        ],
    )
    def test_what_looks_like_data_is_data_or_an_error(self, sandbox: Sandbox, value: str) -> None:
        try:
            found = ask(sandbox, f"def f(): return {value}").value
        except ProgramError as error:
            assert error.status is Status.ERROR  # noqa: PT017 - either is right
        else:
            assert _is_plain(found)

    def test_a_million_levels_are_an_error(self, sandbox: Sandbox) -> None:
        deep = "def f():\n    x = []\n    for _ in range(10**6): x = [x]\n    return x"
        with pytest.raises(ProgramError) as caught:
            ask(sandbox, deep, limits=LARGE)
        assert caught.value.status in {Status.ERROR, Status.MEMORY, Status.TIMEOUT}
        assert ask(sandbox, "def f(): return 1").value == 1

    def test_a_thread_cannot_answer_for_the_next_call(self, sandbox: Sandbox) -> None:
        source = """
            import os, struct, sys, threading, time
            def g():
                frame = None
                while True:
                    for frame in sys._current_frames().values():
                        while frame:
                            nonce = frame.f_locals.get("nonce")
                            if nonce and f.old != bytes(nonce):
                                os.write(4, bytes(nonce) + struct.pack("<cQII", b"V", 9, 1, 0))
                                os.write(4, b"9")
                            frame = frame.f_back
            def f():
                f.old = b""
                threading.Thread(target=g, daemon=True).start()
                time.sleep(0.2)
                return 1
        """
        session = sandbox.open(make_program(source), LIMITS)
        try:
            for _ in range(2):
                assert type(session.call("f").value) is int
        except ProgramError as error:
            assert error.status in {Status.ERROR, Status.CRASHED}  # noqa: PT017 - either is right
        finally:
            session.close()
        assert ask(sandbox, "def f(): return 'alive'").value == "alive"


class TestTexts:
    @pytest.mark.parametrize(
        "body",
        [
            "def __str__(self): return 'x' * 10**8",
            "def __str__(self): return 5",
            "__module__ = 'evolve_guest.program'\n    def __str__(self): raise SystemExit",
            "__module__ = 7",
            "def __getattribute__(self, name): raise KeyboardInterrupt",
        ],
    )
    def test_exceptions_that_lie_are_typed(self, sandbox: Sandbox, body: str) -> None:
        source = f"class Odd(Exception):\n    {body}\ndef f(): raise Odd"
        with pytest.raises(ProgramError) as caught:
            ask(sandbox, source)
        assert caught.value.status in {Status.ERROR, Status.CRASHED, Status.MEMORY}
        assert len(caught.value.reason) < 1000
        assert ask(sandbox, "def f(): return 1").value == 1

    def test_terminals_are_not_reached(self, sandbox: Sandbox) -> None:
        source = r"""
            import sys
            def f():
                print("\x1b]0;owned\x07\x1b[2J", flush=True)
                raise ValueError("\x1b[31mred\x9b\u202egnp.\r\b" + "\x00")
        """
        error = fail(sandbox, source, Status.ERROR, "ValueError")
        text = error.reason + error.detail + printable_end(fail_with_output(sandbox, source), 999)
        assert not set("\x1b\x07\x9b\u202e\r\b\x00") & set(text)

    def test_both_streams_may_be_flooded(self, sandbox: Sandbox) -> None:
        source = """
            import os
            def f():
                if not os.fork():
                    while True: os.write(2, b"y" * (1 << 16))
                for _ in range(2000): os.write(1, b"x" * (1 << 16))
                os._exit(1)
        """
        assert len(fail_with_output(sandbox, source, LARGE)) < (LARGE.output_kb << 10) + 100


class TestInside:
    """What a program finds, changes and breaks within its own process is its own loss."""

    def test_no_descriptor_is_open_but_its_own(self, sandbox: Sandbox) -> None:
        source = """
            import os
            def f():
                found = []
                for n in range(2000):
                    try: os.fstat(n); found.append(n)
                    except OSError: pass
                return found
        """
        assert ask(sandbox, source).value == [0, 1, 2, 3, 4, 5]

    def test_limits_cannot_be_raised(self, sandbox: Sandbox) -> None:
        source = """
            import resource
            def f():
                raised = []
                for name in ("AS", "NPROC", "FSIZE", "NOFILE", "CORE", "CPU"):
                    kind = getattr(resource, "RLIMIT_" + name)
                    try: resource.setrlimit(kind, (resource.RLIM_INFINITY,) * 2)
                    except (OSError, ValueError): continue
                    raised.append(name)
                return raised
        """
        assert ask(sandbox, source).value == []

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers are those of x86_64")
    def test_what_would_reach_beyond_the_sandbox_is_refused(self, sandbox: Sandbox) -> None:
        calls = {
            "lease": "72, host, 1024, 0",
            "watch a folder": "72, host, 1026, 1",
            "inotify": "294, 0",
            "sync": "162",
            "syncfs": "306, host",
            "userfaultfd": "323, 0",
            "keyctl": "250, 0, -3, 1",
            "fanotify": "300, 0, 0",
            "clone into a user namespace": "56, 0x10000011, 0, 0, 0, 0",
            "fsopen": "430, b'tmpfs', 0",
            "pidfd_getfd": "438, 3, 0, 0",
            "system log": "103, 3, 0, 0",
            "no randomisation": "135, 0x40000",
        }
        source = f"""
            import ctypes, os
            libc = ctypes.CDLL(None, use_errno=True)
            def f():
                host = os.open(os.__file__, os.O_RDONLY)
                got = [libc.syscall({"), libc.syscall(".join(calls.values())})]
                return got
        """
        assert ask(sandbox, source).value == [-1] * len(calls)

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86_64")
    def test_the_gate_of_32_bit_programs_is_closed(self, sandbox: Sandbox) -> None:
        source = """
            import ctypes, mmap
            def f():
                page = mmap.mmap(-1, 4096, prot=7)
                page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))
                address = ctypes.addressof(ctypes.c_char.from_buffer(page))
                return ctypes.CFUNCTYPE(ctypes.c_long)(address)()
        """
        fail(sandbox, source, Status.CRASHED, "SIGSYS|SIGSEGV")

    def test_a_source_that_became_a_pipe_ends_at_the_deadline(self, sandbox: Sandbox) -> None:
        source = """
            import os
            os.unlink("main.py"); os.mkfifo("main.py")
            def f(): raise ValueError("whose traceback quotes the source")
        """
        fail(sandbox, source, Status.TIMEOUT, None, SHORT)

    def test_what_a_tracer_makes_of_an_answer_is_data(self, sandbox: Sandbox) -> None:
        source = """
            import sys
            def trace(frame, event, arg):
                if "value" in frame.f_locals: frame.f_locals["value"] = 1e9
                return trace
            sys.settrace(trace)
            def f():
                frame = sys._getframe()
                while frame: frame.f_trace, frame = trace, frame.f_back
                return 1
        """
        assert ask(sandbox, source).value in {1, 1e9}

    def test_of_many_processes_that_answer_the_first_counts(self, sandbox: Sandbox) -> None:
        source = "import os\ndef f():\n    for _ in range(3): os.fork()\n    return 1"
        assert ask(sandbox, source).value == 1
        assert ask(sandbox, "def f(): return 'alive'").value == "alive"

    def test_a_program_that_stops_its_system_calls_ends_at_the_deadline(
        self, sandbox: Sandbox
    ) -> None:
        # A filter of its own that waits for a supervisor, which never answers.
        source = """
            import ctypes, os, struct
            libc = ctypes.CDLL(None)
            def f():
                code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FC00000), 8)
                head = struct.pack("@HP", 1, ctypes.addressof(code))
                number = 317 if os.uname().machine == "x86_64" else 277
                libc.syscall(number, 1, 8, ctypes.create_string_buffer(head))
        """
        fail(sandbox, source, Status.TIMEOUT, None, SHORT)

    def test_memory_of_pipes_and_sockets_does_not_keep_the_guest(self, sandbox: Sandbox) -> None:
        source = """
            import os, socket, time
            def fill(write):
                try:
                    while True: write(bytes(1 << 15))
                except OSError: pass
            def f():
                os.fork()
                kept = []
                for _ in range(50):
                    try: kept += socket.socketpair()
                    except OSError: break
                    kept[-1].setblocking(False)
                    fill(kept[-1].send)
                while True: time.sleep(1)
        """
        fail(sandbox, source, Status.TIMEOUT, None, SHORT)


def test_programs_in_two_guests_do_not_meet(sandbox: Sandbox) -> None:
    other = make_like(sandbox, find_view(()))
    source = """
        def f(name):
            for _ in range(50):
                with open("file", "w") as file: file.write(name)
                with open("file") as file:
                    if file.read() != name: return False
            return True
    """
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, sandbox, source, args=("a",))
        second = pool.submit(ask, other, source, args=("b",))
        assert first.result().value is second.result().value is True
    other.close()


def _is_plain(value: object) -> bool:
    if type(value) in {list, tuple}:
        return all(map(_is_plain, value))  # type: ignore[call-overload]
    if type(value) is dict:
        return all(_is_plain(key) and _is_plain(part) for key, part in value.items())
    return type(value) in {float, int, str, bytes, bool, type(None)}
