"""What a sandbox costs: CPU per evaluation, growth over many, seconds beyond a deadline.

    python benchmarks/sandbox_cost.py cost
    python benchmarks/sandbox_cost.py growth --evaluations 10000
    python benchmarks/sandbox_cost.py deadlines

The program works for 1 ms and has NumPy imported. CPU time is that of all processes that belong
to an evaluation, kernel time and ended children included: this one, the evaluator's, the guest's,
and with `docker` the container's, the engine's and the shim's. It is read before and after batches,
from a cgroup where one can be made (version 1, root), else from /proc, which misses what the
orphans among killed processes took; the median is over batches. Bare
`python -c "import numpy"` runs between the batches.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from typing import TYPE_CHECKING

from evolve.errors import ProgramError, SandboxError
from evolve.evaluation.pool import LocalEvaluators
from evolve.problem import load_problem
from evolve.records import Program, SourceFile
from evolve.sandbox.backends import BACKENDS, open_sandbox
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.settings import Settings
from evolve.settings.sections import SandboxSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TICK = os.sysconf("SC_CLK_TCK")
CPUACCT = Path("/sys/fs/cgroup/cpuacct")
PROGRAM = """
import time
import numpy as np

def point():
    end = time.process_time() + 0.001
    values = np.arange(2.0)
    while time.process_time() < end:
        values = values + 1
    return values
"""
EVALUATOR = """
from evolve.scoring import Score, as_floats

def evaluate(program):
    first, second = as_floats(program.call("point"), (2,), where="point")
    return Score(first / second)
"""
TOML = 'name = "cost"\ndirection = "maximize"\n[limits]\nseconds = 5.0\n'
ATTACKS = {
    "loop": "while True: pass",
    "fork bomb": """import os
    while True:
        try: os.fork()
        except OSError: pass""",
    "memory bomb": """parts = []
    while True: parts.append(bytearray(b"x") * (1 << 20))""",
    "memory bomb in children": """import os, time
    for _ in range(8):
        try: os.fork()
        except OSError: pass
    parts = []
    while True:
        try: parts.append(bytearray(b"x") * (1 << 16))
        except MemoryError: time.sleep(0.01)""",
    "ignores signals": """import signal
    for n in range(1, 65):
        if n not in (9, 19, 32, 33): signal.signal(n, signal.SIG_IGN)
    while True: pass""",
    "output flood": """import os
    while True: os.write(1, b"x" * (1 << 16))""",
    "output flood of many": """import os
    for _ in range(4): os.fork()
    while True: os.write(1, b"x" * (1 << 16))""",
    "reply flood": """while True: yield "x" * 100_000""",
    "disk filler": """n = 0
    while True:
        n += 1
        try:
            with open(str(n), "wb") as file: file.write(bytes(1 << 20))
        except OSError: pass""",
    "inode filler": """import os
    n = 0
    while True:
        n += 1
        try: os.mkdir(str(n))
        except OSError: pass""",
    "thread bomb": """import threading, time
    while True:
        try: threading.Thread(target=time.sleep, args=(60,)).start()
        except RuntimeError: pass""",
    "deep recursion": """import sys
    sys.setrecursionlimit(10**9)
    def g(n): return [g(n + 1)]
    g(0)""",
}


def make_program(source: str) -> Program:
    """Returns a program of one file."""
    return Program((SourceFile("initial.py", source),))


def write_problem(folder: Path) -> Path:
    """Writes the problem whose evaluations are timed."""
    folder.mkdir()
    for name, text in {
        "problem.toml": TOML,
        "statement.md": "Two numbers.\n",
        "initial.py": PROGRAM,
        "evaluator.py": EVALUATOR,
    }.items():
        (folder / name).write_text(text)
    return folder


def list_processes() -> dict[int, tuple[int, list[str]]]:
    """Returns every process with its parent and its fields in `/proc/PID/stat`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                found[int(entry.name)] = (int(fields[1]), fields)
    return found


def find_tree(roots: set[int], processes: dict[int, tuple[int, list[str]]]) -> set[int]:
    """Returns the processes below some, and those themselves."""
    tree = set(roots) & set(processes)
    while more := {pid for pid, (parent, _) in processes.items() if parent in tree} - tree:
        tree |= more
    return tree


def find_engine() -> set[int]:
    """Returns the engine's process, if one runs on this machine."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.connect(address.removeprefix("unix://"))
        peer = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return {int.from_bytes(peer[:4], sys.byteorder)}
    return set()


class Account:
    """The processes that belong to a backend's evaluations.

    Args:
        backend: Its name.
    """

    def __init__(self, backend: str) -> None:
        self._engine = find_engine() if backend == "docker" else set()
        self._groups: list[Path] = []
        with suppress(OSError):
            own = CPUACCT / f"sandbox-cost-{os.getpid()}"
            own.mkdir(exist_ok=True)
            (own / "cgroup.procs").write_text("0")
            self._groups = [own, CPUACCT / "docker"] if self._engine else [own]

    def find(self) -> dict[int, list[str]]:
        """Returns their fields in `/proc/PID/stat`."""
        processes = list_processes()
        roots = {os.getpid()} | self._engine
        for pid in processes if self._engine else ():
            # The shims of containers are nobody's children.
            if b"containerd-shim" in read_command(pid):
                roots.add(pid)
        tree = find_tree(roots, processes)
        return {pid: processes[pid][1] for pid in tree}

    def read_cpu(self) -> float:
        """Returns their CPU seconds so far, with those of their children that ended."""
        found = self.find()
        if self._groups:
            found = {pid: fields for pid, fields in found.items() if self._is_engine(pid)}
        ticks = sum(sum(map(int, fields[11:15])) for fields in found.values())
        groups = sum(int((group / "cpuacct.usage").read_text()) for group in self._groups)
        return ticks / TICK + groups / 1e9

    def close(self) -> None:
        """Removes its cgroup."""
        for group in self._groups[:1]:
            (CPUACCT / "cgroup.procs").write_text("0")
            group.rmdir()

    def _is_engine(self, pid: int) -> bool:
        if not self._engine:
            return False
        return pid in self._engine or b"containerd" in read_command(pid)

    def read_size(self) -> dict[str, int]:
        """Returns how much they hold."""
        found = self.find()
        own = {pid for pid in found if pid not in self._engine}
        folders = {Path(tempfile.gettempdir()), Path("/dev/shm")}
        return {
            "processes": len(own),
            "descriptors": sum(count_descriptors(pid) for pid in own),
            "kB": sum(read_private(pid) for pid in own),
            "files": sum(len(list(folder.glob("*evolve*"))) for folder in folders),
        }


def read_command(pid: int) -> bytes:
    """Returns the command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def count_descriptors(pid: int) -> int:
    """Returns the number of open descriptors of a process."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def read_private(pid: int) -> int:
    """Returns the memory of a process that is no file's, in kB."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    return 0


def time_bare() -> float:
    """Returns the CPU seconds of `python -c "import numpy"`."""
    process = subprocess.Popen([sys.executable, "-c", "import numpy"])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def time_batches(
    account: Account, evaluate: Callable[[], object], batches: int, size: int
) -> Iterator[tuple[float, float, float]]:
    """Returns CPU and wall seconds of one evaluation, and bare CPU seconds, batch by batch."""
    for _ in range(batches):
        bare = time_bare()
        cpu, started = account.read_cpu(), time.monotonic()
        for _ in range(size):
            evaluate()
        wall = time.monotonic() - started
        yield (account.read_cpu() - cpu) / size, wall / size, bare


def report_cost(name: str, form: str, found: list[tuple[float, float, float]]) -> None:
    """Prints one row."""
    cpu, wall, bare = ([row[i] * 1e3 for row in found] for i in range(3))
    ratio = statistics.median(cpu) / statistics.median(bare)
    print(
        f"| {name} | {form} | {statistics.median(cpu):.1f} ({min(cpu):.1f} to {max(cpu):.1f}) | "
        f"{statistics.median(wall):.1f} | {statistics.median(bare):.0f} "
        f"({min(bare):.0f} to {max(bare):.0f}) | {ratio:.0%} |",
        flush=True,
    )


def measure_cost(name: str, account: Account, folder: Path, asked: argparse.Namespace) -> None:
    """Times the forms of a backend."""
    problem = load_problem(folder)
    settings = Settings(sandbox=SandboxSettings(backend=name, processes=1))
    with closing(LocalEvaluators(problem, settings)) as pool:
        pool.start()
        pool.wait()
        for _ in range(20):
            pool.evaluate(problem.initial)
        batches = time_batches(
            account, lambda: pool.evaluate(problem.initial), asked.batches, asked.size
        )
        report_cost(name, "whole evaluation", list(batches))
    with closing(open_sandbox(name)) as sandbox:

        def ask() -> None:
            session = sandbox.open(problem.initial, ProgramLimits())
            session.call("point")
            session.close()

        report_cost(name, "warm guest", list(time_batches(account, ask, asked.batches, asked.size)))

        def ask_cold() -> None:
            sandbox.close()
            ask()

        cold = time_batches(account, ask_cold, asked.batches, max(1, asked.size // 10))
        report_cost(name, "cold guest", list(cold))


def measure_growth(name: str, asked: argparse.Namespace) -> None:
    """Prints what evaluations leave behind."""
    program = make_program(PROGRAM)
    with closing(Account(name)) as account, closing(open_sandbox(name)) as sandbox:
        marks = {asked.evaluations * part // 5 for part in range(6)} | {200}
        for done in range(asked.evaluations + 1):
            if done in marks and done >= 200:
                size = account.read_size()
                print(f"| {name} | {done} | " + " | ".join(map(str, size.values())) + " |")
                sys.stdout.flush()
            session = sandbox.open(program, ProgramLimits())
            session.call("point")
            session.close()


def measure_deadlines(name: str, asked: argparse.Namespace) -> None:
    """Prints how long the worst attacks last beyond a deadline of 1 s."""
    limits = ProgramLimits(seconds=1.0, memory_mb=asked.memory_mb, processes=32)
    with closing(open_sandbox(name)) as sandbox:
        for attack, body in ATTACKS.items():
            seconds, outcomes = [], set()
            for _ in range(asked.repeats):
                session = sandbox.open(make_program("def f(): return 1"), limits)
                session.call("f")
                session.close()
                started = time.monotonic()
                session = sandbox.open(make_program(f"def f():\n    {body}"), limits)
                try:
                    session.call("f")
                    outcomes.add("last value")
                except ProgramError as error:
                    outcomes.add(str(error.status))
                except SandboxError as error:
                    outcomes.add(f"sandbox error: {error}")
                session.close()
                seconds.append(time.monotonic() - started)
            print(
                f"| {name} | {attack} | {', '.join(sorted(outcomes))} | "
                f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) |",
                flush=True,
            )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cost", "growth", "deadlines"))
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=9)
    parser.add_argument("--size", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-mb", type=int, default=1024)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.platform()}, {os.cpu_count()} cores, load average {load:.1f}, ", end="")
    print(f"Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_problem(Path(scratch) / "problem")
        for name in asked.backends:
            try:
                if asked.what == "cost":
                    with closing(Account(name)) as account:
                        measure_cost(name, account, folder, asked)
                elif asked.what == "growth":
                    measure_growth(name, asked)
                else:
                    measure_deadlines(name, asked)
            except SandboxError as error:
                print(f"| {name} | not here: {error} |")


if __name__ == "__main__":
    main()
