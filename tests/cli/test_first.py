"""Where the command line is process 1, as in a container without an init."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ORPHANS = """
import os, sys, time
from evolve.cli.app import leave_first_process
leave_first_process()
for _ in range(5):
    if not os.fork():
        os.fork() or time.sleep(0.2)
        os._exit(0)
    os.wait()
time.sleep(1)
states = []
for name in os.listdir("/proc"):
    if name.isdigit():
        try: states.append(open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[0])
        except OSError: pass
print(os.getpid() > 1, states.count("Z"))
sys.exit(7)
"""
WAITING = """
import signal, sys, time
from evolve.cli.app import leave_first_process
leave_first_process()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print("ready", flush=True)
time.sleep(60)
"""


def start_first(*command: str) -> subprocess.Popen[str]:
    """Starts a command as process 1 of a pid namespace."""
    unshare = shutil.which("unshare")
    rights = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    first = [unshare or "", *rights, "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not unshare or subprocess.run([*first, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace can be made here")
    return subprocess.Popen([*first, *command], stdout=subprocess.PIPE, text=True)


def test_orphans_are_reaped_and_the_exit_code_is_kept() -> None:
    with start_first(sys.executable, "-c", ORPHANS) as process:
        assert process.communicate()[0] == "True 0\n"
        assert process.returncode == 7


def test_signals_are_passed_on() -> None:
    with start_first(sys.executable, "-c", WAITING) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        assert process.wait(20) == 9


def test_the_command_line_works_as_the_first_process() -> None:
    started = time.monotonic()
    with start_first(sys.executable, "-m", "evolve", "--version") as process:
        assert process.communicate()[0].startswith("evolve ")
        assert process.returncode == 0
    assert time.monotonic() - started < 60
