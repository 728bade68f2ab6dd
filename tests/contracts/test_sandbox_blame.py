"""Who is to blame for a program that did not answer: itself, or whoever killed its guest."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evolve.errors import ProgramError, SandboxKilledError
from evolve.records import Status
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.layout import find_view
from tests.sandboxes import LIMITS, ask, make_like, make_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evolve.sandbox.backends import Sandbox

SLEEPS = "import time\ndef f(): time.sleep(60)"
# What a program may do to have its guest killed, or to look as if somebody had.
SUICIDES = {
    "limit on its processor time": """
        import resource
        def f():
            resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
            while True: pass
    """,
    "signals to everybody": """
        import os, signal
        def f():
            for pid in [-1, 0, *range(1, 40)]:
                for number in (signal.SIGKILL, signal.SIGTERM):
                    try: os.kill(pid, number)
                    except OSError: pass
            os._exit(137)
    """,
    "an exit code of the guest's": "import os\ndef f(): os._exit(137)",
    "memory of many small processes": """
        import os, time
        def f():
            for _ in range(12):
                if not os.fork(): break
            parts = []
            while True:
                try: parts.append(b"x" * (1 << 16))
                except MemoryError: time.sleep(0.01)
    """,
    "files and pipes": """
        import os
        def f():
            parts = []
            while True:
                try:
                    reader, writer = os.pipe()
                    os.set_blocking(writer, False)
                    os.write(writer, bytes(1 << 16))
                    parts.append((reader, writer))
                except OSError:
                    os._exit(9)
    """,
    "garbage for the guest": """
        import os
        def f():
            for descriptor in range(3, 20):
                try: os.write(descriptor, b"\\xff" * 4096)
                except OSError: pass
            os._exit(9)
    """,
}


@pytest.fixture
def victim(sandbox: Sandbox) -> Iterator[Sandbox]:
    """A guest that may be killed."""
    other = make_like(sandbox, find_view(()))
    yield other
    other.close()


def _processes_of(victim: Sandbox) -> list[int]:
    """Returns the processes of a guest on this machine, the outermost first."""
    found = [victim._link._process.pid]
    for pid in found:
        found += _children_of(pid)
    return found


def _children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_guest_that_is_killed_from_outside_says_so(
    victim: Sandbox, number: signal.Signals
) -> None:
    session = victim.open(make_program(SLEEPS), ProgramLimits(seconds=30.0))
    killer = threading.Timer(1.0, lambda: os.kill(_processes_of(victim)[0], number))
    killer.start()
    with pytest.raises(SandboxKilledError, match="killed from outside"):
        session.call("f")
    killer.join()
    assert ask(victim, "def f(): return 1").value == 1


def test_so_does_one_whose_processes_inside_are_killed(victim: Sandbox) -> None:
    ask(victim, "def f(): return 1")
    # Without a program these are the guest's own, the last of them the one that forks.
    number = len(_processes_of(victim))
    for place in range(1, number):
        session = victim.open(make_program(SLEEPS), ProgramLimits(seconds=30.0))
        session._await_confined()
        pids = _processes_of(victim)[:number]
        os.kill(pids[place], signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(SandboxKilledError, match=r"killed from outside|ended"):
            session.call("f")
        assert time.monotonic() - started < 10
        ask(victim, "def f(): return 1")


@pytest.mark.parametrize("name", SUICIDES)
def test_no_program_passes_for_a_victim(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(ProgramError) as caught:
        ask(sandbox, SUICIDES[name], limits=LIMITS)
    assert caught.value.status in {Status.CRASHED, Status.MEMORY, Status.ERROR, Status.TIMEOUT}
    assert ask(sandbox, "def f(): return 1").value == 1
