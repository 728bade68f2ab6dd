"""`native` on systems and machines where there is nothing but POSIX: forced here."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evolve.errors import ProgramError, SandboxError
from evolve.records import Status
from evolve.sandbox.backends import prove
from evolve.sandbox.layout import find_view
from evolve.sandbox.limits import ProgramLimits
from evolve.sandbox.native import make_native
from evolve.sandbox.session import Sandbox

from .programs import ask, fail, make_program

LIMITS = ProgramLimits(seconds=3.0, memory_mb=200, processes=16, workspace_mb=4)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = make_native((), find_view(()), portable=True)
    try:
        ask(sandbox, "def f(): return 1")
    except SandboxError as error:
        pytest.skip(str(error))
    yield sandbox
    sandbox.close()


def test_it_is_weak_and_says_what_is_missing(sandbox: Sandbox) -> None:
    isolation = prove(sandbox)
    assert not isolation.is_strong
    assert {"network", "files", "processes"} <= {line.split(":")[0] for line in isolation.missing}
    # An ordinary user's programs are that user's, whose processes show theirs.
    assert ("environment" in isolation.enforced) == (os.getuid() == 0)


def test_programs_answer_and_fail_as_elsewhere(sandbox: Sandbox) -> None:
    assert ask(sandbox, "def f(x): return x + 1", args=(1,)).value == 2
    fail(sandbox, "def f(): 1 / 0", Status.ERROR, "ZeroDivisionError", LIMITS)
    fail(sandbox, "import os\ndef f(): os._exit(3)", Status.CRASHED, "code 3", LIMITS)
    fail(sandbox, "def f():\n    while True: pass", Status.TIMEOUT, "within 3 s", LIMITS)


@pytest.mark.parametrize("count", [1, 4])
def test_memory_is_bounded_and_watched(sandbox: Sandbox, count: int) -> None:
    source = f"""
        import os, time
        def f():
            for _ in range({count - 1}): os.fork()
            parts = []
            while True:
                try: parts.append(b"x" * 10**7)
                except MemoryError:
                    if {count} == 1: raise
                time.sleep(0.01)
    """
    with pytest.raises(ProgramError, match="memory"):
        ask(sandbox, source, limits=ProgramLimits(seconds=20.0, memory_mb=100))


def test_files_are_watched_and_wiped(sandbox: Sandbox) -> None:
    source = """
        import time
        def f():
            for i in range(6): open(str(i), "wb").write(bytes(1 << 20))
            time.sleep(60)
    """
    slow = ProgramLimits(seconds=20.0, workspace_mb=4)
    fail(sandbox, source, Status.CRASHED, "of files in the workspace", slow)
    assert ask(sandbox, "import os\ndef f(): return os.listdir('.')").value == ["main.py"]


def test_children_die_with_the_session(sandbox: Sandbox) -> None:
    source = """
        import os, time
        def f():
            pid = os.fork()
            if not pid: time.sleep(60)
            return pid
    """
    session = sandbox.open(make_program(source), LIMITS)
    pid = session.call("f").value
    session.close()
    told = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    # Whoever inherits it may be slow to notice its end.
    assert told.stdout.strip()[:1] in {"", "Z"}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="another name for this machine")
@pytest.mark.skipif(not shutil.which("setarch"), reason="needs `setarch`")
def test_a_run_needs_to_be_told_to_trust_its_programs(sandbox: Sandbox, problem: Path) -> None:
    # A machine for which there are no numbers of system calls.
    command = ["setarch", "i686", sys.executable, "-m", "evolve"]
    run = str(problem.parent / "run")
    start = ["run", str(problem), "--sandbox", "native", "--generations", "1", "--run-dir", run]
    refused, allowed, resumed = (
        subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "DOCKER_HOST": "unix:///nowhere"},
        )
        for options in (start, [*start, "--allow-weak-sandbox"], ["resume", run])
    )
    assert refused.returncode == resumed.returncode == 4
    assert "native: weak here: network" in refused.stderr
    assert "--allow-weak-sandbox" in refused.stderr
    assert "--allow-weak-sandbox" in resumed.stderr
    assert allowed.returncode == 0, allowed.stderr
    assert "missing: network" in allowed.stdout
