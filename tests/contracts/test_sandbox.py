import contextlib
import math
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evolve.errors import ProgramError, SandboxError
from evolve.records import Program, SourceFile, Status
from evolve.sandbox.backends import Sandbox, prove
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.layout import find_view
from tests.sandboxes import LIMITS, ask, fail, fail_with_output, make_like, make_program

ORDINARY = {
    "pool": """
        import multiprocessing
        def f():
            with multiprocessing.get_context("fork").Pool(2) as pool: return pool.map(abs, [-1, -2])
    """,
    "threads": """
        from concurrent.futures import ThreadPoolExecutor
        def f():
            with ThreadPoolExecutor(2) as pool: return list(pool.map(abs, [-1, -2]))
    """,
    "subprocess": """
        import subprocess
        def f():
            out = subprocess.run(["/bin/echo", "1", "2"], capture_output=True, text=True).stdout
            return [int(number) for number in out.split()]
    """,
    "temporary files": """
        import tempfile
        def f():
            with tempfile.TemporaryFile("w+") as file:
                file.write("12")
                file.seek(0)
                return [int(digit) for digit in file.read()]
    """,
    "asyncio": """
        import asyncio
        async def give(x): return x
        async def both(): return await asyncio.gather(give(1), give(2))
        def f(): return asyncio.run(both())
    """,
    "sqlite": """
        import sqlite3
        def f(): return [row[0] for row in sqlite3.connect("x.db").execute("values (1), (2)")]
    """,
}


class TestAnswers:
    def test_plain_data_and_arrays_come_back_as_they_were_sent(self, sandbox: Sandbox) -> None:
        array = np.arange(6, dtype=np.int16).reshape(2, 3)
        args = ({"a": [1, 2.5, None, True], "b": ("x", 1j)}, array, -math.inf)
        value = ask(sandbox, "def f(*args): return args", args=args).value
        assert value[0] == args[0]
        np.testing.assert_array_equal(value[1], array)
        assert value[1].dtype == array.dtype
        assert value[2] == -math.inf

    def test_numpy_scalars_come_back_as_plain_numbers(self, sandbox: Sandbox) -> None:
        source = """
            import numpy as np
            def f(): return [np.float64(0.5), np.float32(0.5), np.int8(3), np.bool_(True)]
        """
        value = ask(sandbox, source).value
        assert [(type(part), part) for part in value] == [
            (float, 0.5),
            (float, 0.5),
            (int, 3),
            (bool, True),
        ]

    def test_state_of_the_module_lives_on_between_calls(self, sandbox: Sandbox) -> None:
        source = "seen = []\ndef f(x):\n    seen.append(x)\n    return seen\n"
        session = sandbox.open(make_program(source), LIMITS)
        session.call("f", [1])
        assert session.call("f", kwargs={"x": 2}).value == [1, 2]
        session.close()

    def test_many_calls_make_one_round_trip(self, sandbox: Sandbox) -> None:
        session = sandbox.open(make_program("def f(x, y): return x * y"), LIMITS)
        assert session.call_many("f", [(i, 2) for i in range(5)]).value == [0, 2, 4, 6, 8]
        session.close()

    @pytest.mark.parametrize(
        ("rows", "values"),
        [([], []), ([()] * 3, [1, 1, 1]), ([(), (2,), (3, 4)], [1, 3, 7]), ([[(5,)]], [(5, 1)])],
    )
    def test_many_calls_may_differ_in_their_arguments(
        self, sandbox: Sandbox, rows: Any, values: list[Any]
    ) -> None:
        source = "def f(x=0, y=1): return (*x, y) if isinstance(x, tuple) else x + y"
        session = sandbox.open(make_program(source), LIMITS)
        assert session.call_many("f", rows).value == values
        session.close()

    def test_a_hundred_thousand_calls_fit_in_one_round_trip(self, sandbox: Sandbox) -> None:
        session = sandbox.open(make_program("def f(x, y): return x + y"), ProgramLimits(seconds=30))
        value = session.call_many("f", [(i, 0.5) for i in range(10**5)]).value
        assert value[-1] == 10**5 - 0.5
        session.close()

    def test_the_other_files_of_a_program_can_be_imported(self, sandbox: Sandbox) -> None:
        program = make_program(
            "from pack.inner import g\ndef f(): return g()", pack__inner="def g(): return 7"
        )
        session = sandbox.open(program, LIMITS)
        assert session.call("f").value == 7
        session.close()

    def test_an_entry_file_in_a_folder_imports_those_beside_it(self, sandbox: Sandbox) -> None:
        texts = {
            "pack/main.py": "import near\nfrom . import near as same\nimport top\n"
            "def f(): return [near.x, same.x, top.x]",
            "pack/near.py": "from pack.inner.deep import x",
            "pack/inner/deep.py": "x = 7",
            "top.py": "x = 8",
        }
        program = Program(tuple(SourceFile(*item) for item in texts.items()))
        session = sandbox.open(program, LIMITS)
        assert session.call("f").value == [7, 7, 8]
        session.close()

    def test_large_arrays_travel_both_ways(self, sandbox: Sandbox) -> None:
        array = np.arange(400_000, dtype=np.float64)
        value = ask(sandbox, "def f(a): return a[::-1]", args=(array,)).value
        np.testing.assert_array_equal(value, array[::-1])

    def test_the_program_is_told_its_limit(self, sandbox: Sandbox) -> None:
        source = "import os\ndef f(): return float(os.environ['EVOLVE_TIME_LIMIT_SECONDS'])"
        session = sandbox.open(make_program(source), LIMITS)
        assert session.call("f").value == LIMITS.seconds
        assert session.call("f", timeout_seconds=3.5).value == 3.5
        session.close()

    def test_runs_without_a_seed_are_repeatable(self, sandbox: Sandbox) -> None:
        source = """
            import random
            import numpy as np
            def f(): return [random.random(), np.random.rand(), list({"a", "b", "c", "d"})]
        """
        assert ask(sandbox, source).value == ask(sandbox, source).value

    def test_data_is_readable_in_the_workspace(self, sandbox: Sandbox, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        (tmp_path / "table.csv").write_text("1,2")
        other = make_like(sandbox, find_view((), tmp_path))
        source = """
            def f():
                text = open("data/table.csv").read()
                try:
                    open("data/table.csv", "w")
                except OSError:
                    return text
        """
        assert ask(other, source).value == "1,2"
        other.close()

    @pytest.mark.parametrize("name", ORDINARY)
    def test_ordinary_programs_run(self, namespaced: Sandbox, name: str) -> None:
        assert ask(namespaced, ORDINARY[name]).value == [1, 2]


class TestAnytime:
    def test_the_last_value_before_the_deadline_counts(self, sandbox: Sandbox) -> None:
        source = """
            import time
            def f():
                yield 1
                yield 2
                time.sleep(60)
        """
        answer = ask(sandbox, source, limits=ProgramLimits(seconds=0.5))
        assert answer.value == 2
        assert answer.seconds >= 0.5

    def test_a_generator_that_ends_has_a_last_value(self, sandbox: Sandbox) -> None:
        assert ask(sandbox, "def f():\n    for i in range(100): yield i").value == 99

    def test_a_generator_that_raises_fails(self, sandbox: Sandbox) -> None:
        fail(sandbox, "def f():\n    yield 1\n    1/0", Status.ERROR, "ZeroDivisionError")

    def test_a_generator_without_a_value_fails(self, sandbox: Sandbox) -> None:
        fail(sandbox, "def f():\n    yield from ()", Status.ERROR, "yielded nothing")

    def test_after_a_cut_the_session_is_over(self, sandbox: Sandbox) -> None:
        source = "import time\ndef f():\n    yield 1\n    time.sleep(60)"
        session = sandbox.open(make_program(source), ProgramLimits(seconds=0.3))
        assert session.call("f").value == 1
        with pytest.raises(ProgramError, match="session is over"):
            session.call("f")


HUNG = "import re, time\ntime.sleep(0.1)\ndef g():\n    {body}\ndef f(): return g()"
TIGHT = LIMITS._replace(seconds=0.6)


class TestTimeOuts:
    @pytest.mark.parametrize(
        "body",
        ["while True: pass", "time.sleep(60)", "re.match('(a+)+$', 'a' * 60 + 'b')"],
    )
    def test_a_time_out_says_where_the_time_went(self, sandbox: Sandbox, body: str) -> None:
        match = (
            r"^no answer within 0\.6 s: imports took 0\.\d\d s, `f` 0\.\d\d s; it was in line 4 of"
        )
        error = fail(sandbox, HUNG.format(body=body), Status.TIMEOUT, match, TIGHT)
        assert error.detail.splitlines() == [
            '  File "main.py", line 5, in f',
            "    def f(): return g()",
            '  File "main.py", line 4, in g',
            f"    {body}",
        ]
        assert error.plain == "no answer within 0.6 s; it was in line 4 of main.py"

    def test_imports_that_do_not_end_are_named(self, sandbox: Sandbox) -> None:
        source = "import time\ntime.sleep(60)\ndef f(): pass"
        match = r"^no answer within 0\.6 s: its imports did not end; it was in line 2 of main\.py$"
        fail(sandbox, source, Status.TIMEOUT, match, TIGHT)

    def test_a_later_call_has_no_imports(self, sandbox: Sandbox) -> None:
        session = sandbox.open(make_program("def f(n):\n    while n: pass"), TIGHT)
        session.call("f", [0])
        with pytest.raises(ProgramError, match=r"^no answer within 0\.6 s; it was in line 2 of"):
            session.call("f", [1])

    @pytest.mark.parametrize(
        "trick",
        [
            "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
            "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])",
            "import faulthandler; faulthandler.unregister(10)",
            "import os; os.dup2(2, 5)",
        ],
    )
    def test_a_program_that_hides_its_stack_keeps_nobody(
        self, sandbox: Sandbox, trick: str
    ) -> None:
        source = f"def f():\n    {trick}\n    while True: pass"
        started = time.monotonic()
        error = fail(sandbox, source, Status.TIMEOUT, r": imports took 0\.\d\d s, `f` 0\.", TIGHT)
        assert error.detail == ""
        assert time.monotonic() - started < 30

    def test_forged_notes_are_text_at_most(self, sandbox: Sandbox) -> None:
        source = """
            import os
            forged = b"loaded nan\\nloaded 9e9\\n"
            for place in (b"/etc", b"/scratch/work/main.py", b"/scratch/work/main.py", b"main.py"):
                forged += b'  File "%s", line 2 in \\x1b[2J\\n' % place
                forged += b'  File "%s", line 999 in x\\n' % place
            os.write(5, forged)
            def f():
                try:
                    while True: os.write(5, bytes(1 << 12))
                except BlockingIOError: pass
                while True: pass
        """
        error = fail(sandbox, source, Status.TIMEOUT, "^no answer within 0.6 s", TIGHT)
        frame = '  File "main.py", line 2, in \N{REPLACEMENT CHARACTER}[2J\n    import os\n'
        assert error.detail.endswith(2 * frame)

    def test_an_answer_to_the_question_where_it_is_comes_too_late(self, sandbox: Sandbox) -> None:
        source = """
            import signal
            signal.signal(signal.SIGUSR1, lambda *_: 1 / 0)
            def f():
                try:
                    while True: pass
                except ZeroDivisionError: return 7
        """
        fail(sandbox, source, Status.TIMEOUT, "^no answer within 0.6 s", TIGHT)


class TestFailures:
    def test_an_exception_is_told_with_its_own_frames(self, sandbox: Sandbox) -> None:
        error = fail(sandbox, "def g(): return 1 / 0\ndef f(): return g()", Status.ERROR)
        assert error.reason == "ZeroDivisionError: division by zero"
        assert 'File "main.py", line 2, in f' in error.detail
        assert 'File "main.py", line 1, in g' in error.detail
        assert "program.py" not in error.detail

    def test_a_session_goes_on_after_an_exception(self, sandbox: Sandbox) -> None:
        session = sandbox.open(make_program("def f(x): return 1 / x"), LIMITS)
        with pytest.raises(ProgramError, match="ZeroDivisionError"):
            session.call("f", [0])
        assert session.call("f", [4]).value == 0.25
        session.close()

    def test_a_syntax_error_names_its_line(self, sandbox: Sandbox) -> None:
        error = fail(sandbox, "x = 1\ndef f(:\n    pass", Status.ERROR, "SyntaxError.*line 2")
        assert "def f(:" in error.detail

    def test_a_missing_function_lists_those_there_are(self, sandbox: Sandbox) -> None:
        fail(sandbox, "def pack(): pass\ndef g(): pass", Status.ERROR, "no function `f`.*`pack`")

    @pytest.mark.parametrize(
        ("value", "match"),
        [("{1, 2}", "set"), ("object()", "object"), ("print", "builtin"), ("'\\ud800'", "surr")],
    )
    def test_a_value_that_cannot_be_sent_is_an_error(
        self, sandbox: Sandbox, value: str, match: str
    ) -> None:
        fail(sandbox, f"def f(): return {value}", Status.ERROR, match)

    def test_an_object_array_is_an_error(self, sandbox: Sandbox) -> None:
        source = "import numpy as np\ndef f(): return np.array([None, {}], dtype=object)"
        fail(sandbox, source, Status.ERROR, "dtype `object`")

    def test_too_large_a_reply_is_an_error(self, sandbox: Sandbox) -> None:
        source = "import numpy as np\ndef f(): return np.zeros(10**6)"
        fail(sandbox, source, Status.ERROR, "expected at most")

    def test_the_last_output_of_a_crash_is_kept(self, sandbox: Sandbox) -> None:
        source = """
            import os, sys
            def f():
                print("first")
                print("x" * 100_000)
                print("\\x1b[31mlast", file=sys.stderr)
                os._exit(9)
        """
        fail(sandbox, source, Status.CRASHED, "exited with code 9")
        printed = fail_with_output(sandbox, source)
        assert printed.startswith(b"first")
        assert b"bytes cut" in printed
        assert printed.endswith(b"\x1b[31mlast\n")

    def test_what_a_program_printed_that_answered_is_kept_as_well(self, sandbox: Sandbox) -> None:
        source = "import sys\ndef f(): print('out'); print('err', file=sys.stderr)"
        session = sandbox.open(make_program(source), LIMITS)
        session.call("f")
        session.close()
        assert session.printed == b"out\nerr\n"

    def test_a_signal_is_named(self, sandbox: Sandbox) -> None:
        source = "import ctypes\ndef f(): ctypes.string_at(0)"
        fail(sandbox, source, Status.CRASHED, "SIGSEGV")

    def test_arguments_that_cannot_be_sent_are_the_callers_mistake(self, sandbox: Sandbox) -> None:
        session = sandbox.open(make_program("def f(x): return x"), LIMITS)
        with pytest.raises(TypeError, match=r"arguments of a call.*set"):
            session.call("f", [{1}])
        assert session.call("f", [1]).value == 1
        session.close()


class TestHousekeeping:
    def test_every_temporary_folder_is_private(self, namespaced: Sandbox) -> None:
        # Where the interpreter itself lies in such a folder, that one can only be read.
        places = [
            place
            for place in ("/tmp", "/dev/shm", "/var/tmp")
            if not Path(sys.prefix).resolve().is_relative_to(place)
        ]
        source = f"""
            import os
            def f():
                left = [os.listdir(p) for p in {places}]
                for p in {places}: open(p + "/leftover", "w").close()
                return left
        """
        first, second = ask(namespaced, source).value, ask(namespaced, source).value
        assert first == second == [[] for _ in places]

    def test_nothing_is_left_for_the_next_program(self, sandbox: Sandbox) -> None:
        source = """
            import os, sys
            def f():
                left = [os.listdir(p) for p in (".", os.environ["TMPDIR"])]
                for p in (".", os.environ["TMPDIR"]):
                    open(p + "/leftover", "w").close()
                sys.modules["json"].leftover = os.environ["LEFTOVER"] = "1"
                return left
        """
        first, second = ask(sandbox, source).value, ask(sandbox, source).value
        assert first == second == [["main.py"], []]

    def test_only_one_session_is_open_at_a_time(self, sandbox: Sandbox) -> None:
        session = sandbox.open(make_program("def f(): return 1"), LIMITS)
        with pytest.raises(SandboxError, match="open already"):
            sandbox.open(make_program("def f(): return 1"), LIMITS)
        session.close()
        session.close()

    def test_a_sandbox_outlives_the_thread_that_started_it(self, sandbox: Sandbox) -> None:
        sandbox.close()
        answers: list[object] = []
        thread = threading.Thread(
            target=lambda: answers.append(ask(sandbox, "def f(): return 1").value)
        )
        thread.start()
        thread.join()
        told = sandbox.greeting
        assert ask(sandbox, "def f(): return 2").value == 2
        assert answers == [1]
        assert sandbox.greeting == told

    def test_nothing_grows_from_program_to_program(self, sandbox: Sandbox) -> None:
        sandbox.close()
        source = "import numpy\ndef f(): open('file', 'w'); return numpy.arange(1000)"
        for _ in range(20):
            ask(sandbox, source)
        descriptors, processes, kilobytes = _measure()
        for _ in range(150):
            ask(sandbox, source)
        after = _measure()
        assert (after[0], after[1]) == (descriptors, processes)
        assert after[2] < kilobytes + 2_000

    def test_a_closed_sandbox_leaves_no_process(self, sandbox: Sandbox) -> None:
        source = "import time\ndef f():\n    yield 1\n    time.sleep(60)"
        sandbox.open(make_program(source), LIMITS).call("f", timeout_seconds=0.2)
        sandbox.open(make_program(source), LIMITS)
        sandbox.close()
        deadline = time.monotonic() + 30
        while _count_children() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _count_children() == 0

    def test_the_canary_proves_everything(self, sandbox: Sandbox) -> None:
        isolation = prove(sandbox)
        assert isolation.is_strong
        assert set(isolation.enforced) >= {"environment", "memory", "process count", "processes"}


def _count_children() -> int:
    return len(_find_tree()) - 1


def _measure() -> tuple[int, int, int]:
    """Returns descriptors, processes and kB of memory of all that runs here."""
    tree = _find_tree()
    descriptors = kilobytes = 0
    for pid in tree:
        with contextlib.suppress(OSError):
            descriptors += len(list(Path(f"/proc/{pid}/fd").iterdir()))
            status = Path(f"/proc/{pid}/status").read_text()
            kilobytes += int(status.partition("RssAnon:")[2].split()[0])
    return descriptors, len(tree), kilobytes


def _find_tree() -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    tree = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree
