"""The contract of timing: no program looks faster than it is."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from evolve.errors import ProgramError
from evolve.problem import Recipe
from evolve.records import Program, SourceFile
from evolve.scoring.handle import ProgramHandle
from evolve.scoring.runner import ProgramRunner
from tests.sandboxes import LIMITS

if TYPE_CHECKING:
    from evolve.sandbox.backends import Sandbox
    from evolve.scoring.timing import Timing

WORK = """
def work(n):
    total = 0
    for i in range(n): total += i * i
    return total
"""
REFERENCE = WORK + "def f(n): return work(n)\n"
SIZE = 300_000


def make_handle(sandbox: Sandbox, source: str, recipe: Recipe | None = None) -> ProgramHandle:
    program = Program((SourceFile("main.py", textwrap.dedent(source)),))
    return ProgramHandle(ProgramRunner(sandbox, LIMITS, recipe or Recipe()), program)


def measure(sandbox: Sandbox, source: str, repeats: int = 3) -> Timing:
    handle = make_handle(sandbox, source)
    reference = handle.other({"main.py": REFERENCE})
    return handle.time("f", [SIZE], repeats=repeats, reference=reference)


def looks_as_slow_as_it_is(timing: Timing) -> bool:
    # A trick that worked would leave next to nothing of the time. Machines whose speed changes by
    # several times from one second to the next are common, so that is all that is asked.
    fastest = min(sample.seconds for sample in timing.samples)
    return fastest > 0.2 * min(sample.seconds for sample in timing.references)


class TestHonest:
    def test_less_work_takes_less_time(self, sandbox: Sandbox) -> None:
        timing = measure(sandbox, "def f(n): return (n - 1) * n * (2 * n - 1) // 6")
        assert set(timing.values) == {sum(i * i for i in range(SIZE))}
        assert not looks_as_slow_as_it_is(timing)
        assert len(timing.samples) == len(timing.references) == 3

    def test_a_failure_is_the_programs(self, sandbox: Sandbox) -> None:
        with pytest.raises(ProgramError, match="ZeroDivisionError"):
            measure(sandbox, "def f(n): return 1 / 0")

    def test_commands_are_timed_too(self, sandbox: Sandbox) -> None:
        recipe = Recipe(run=("sh", "main.py"))
        handle = make_handle(sandbox, "read n; echo $((n + 1))", recipe)
        slow = "read n; i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; echo $((n + 1))"
        reference = handle.other({"main.py": slow})
        timing = handle.time_run(stdin="41", repeats=2, reference=reference)
        assert [finished.text for finished in timing.values] == ["42\n", "42\n"]
        assert not looks_as_slow_as_it_is(timing)

    def test_a_command_that_fails_is_a_failure(self, sandbox: Sandbox) -> None:
        handle = make_handle(sandbox, "exit 3", Recipe(run=("sh", "main.py")))
        with pytest.raises(ProgramError, match="exited with code 3"):
            handle.time_run(repeats=1)


class TestCheats:
    @pytest.mark.parametrize(
        "source",
        [
            # A clock of its own.
            "import time\ntime.perf_counter = time.monotonic = time.time = lambda: 0.0\n"
            + REFERENCE,
            # That of the guest.
            "import sys\nsys.modules['evolve_guest.program']._clock = lambda: 0.0\n" + REFERENCE,
            # The work in a thread, while the first one sleeps.
            WORK
            + """
import threading
def f(n):
    found = []
    thread = threading.Thread(target=lambda: found.append(work(n)))
    thread.start()
    thread.join()
    return found[0]
""",
            # What one call computed is kept for the next.
            WORK
            + """
import os, sys
def f(n):
    place = os.environ["TMPDIR"] + "/kept"
    kept = sys.modules["json"].__dict__
    if os.path.exists(place): return int(open(place).read())
    if "answer" not in kept: kept["answer"] = work(n)
    open(place, "w").write(str(kept["answer"]))
    return kept["answer"]
""",
            # All of the work while the module is imported.
            WORK + f"answer = work({SIZE})\ndef f(n): return answer\n",
        ],
        ids=["clock", "guest's clock", "thread", "kept", "import"],
    )
    def test_tricks_save_no_time(self, sandbox: Sandbox, source: str) -> None:
        timing = measure(sandbox, source)
        assert set(timing.values) == {sum(i * i for i in range(SIZE))}
        assert looks_as_slow_as_it_is(timing)

    @pytest.mark.parametrize(
        "body",
        ["os.fork()", "os.posix_spawn('/bin/true', ['true'], {})", "os.sched_setaffinity(0, [0])"],
    )
    def test_neither_processes_nor_other_cores_help(self, sandbox: Sandbox, body: str) -> None:
        with pytest.raises(ProgramError, match=r"not permitted"):
            measure(sandbox, f"import os\ndef f(n):\n    {body}\n    return 1\n", repeats=1)

    def test_a_timed_program_has_one_core(self, sandbox: Sandbox) -> None:
        handle = make_handle(sandbox, "import os\ndef f(): return len(os.sched_getaffinity(0))")
        assert handle.time("f", repeats=1).values == (1,)
