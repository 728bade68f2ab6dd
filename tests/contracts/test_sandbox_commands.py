"""The contract of commands: programs in any language, started rather than called."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from evolve.errors import ProgramError
from evolve.records import Program, SourceFile
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.replies import Command, Finished, OutputFile
from tests.sandboxes import LIMITS, ask, make_program

if TYPE_CHECKING:
    from evolve.sandbox.backends import Sandbox

C_SOURCE = """
#include <stdio.h>
int main(void) { int a, b; if (scanf("%d %d", &a, &b) != 2) return 2; printf("%d", a * b); }
"""
ATTACK = """
import os, signal, sys
seen = []
for path in ("/proc/1/mem", "/proc/1/environ", "/proc/self/fd"):
    try: seen.append(len(open(path, "rb").read(1)))
    except OSError: pass
try: os.kill(1, signal.SIGKILL)
except OSError: pass
print(seen, len(os.environ.get("API_KEY", "")))
"""


def run(
    sandbox: Sandbox,
    *words: str,
    limits: ProgramLimits = LIMITS,
    built: tuple[OutputFile, ...] = (),
    source: str = "",
    stdin: bytes = b"",
    files: dict[str, bytes] | None = None,
    outputs: tuple[str, ...] = (),
    is_alone: bool = False,
) -> Finished:
    session = sandbox.open(Program((SourceFile("main.txt", source),)), limits, built)
    try:
        command = Command(words, stdin, files or {}, outputs, is_alone=is_alone)
        finished: Finished = session.run(command).value
    finally:
        session.close()
    return finished


def shell(sandbox: Sandbox, script: str, limits: ProgramLimits = LIMITS) -> Finished:
    return run(sandbox, "sh", "-c", script, limits=limits)


def outcome(sandbox: Sandbox, script: str) -> int | str:
    try:
        return shell(sandbox, script).code
    except ProgramError as error:
        return error.status


class TestCommands:
    def test_streams_files_and_exit_code_come_back(self, sandbox: Sandbox) -> None:
        done = run(
            sandbox,
            *("sh", "-c", "cat main.txt in/a.txt - >out.bin; echo told; echo warned >&2; exit 7"),
            source="one ",
            files={"in/a.txt": b"two "},
            stdin=b"\xff three",
            outputs=("out.bin",),
        )
        assert (done.code, done.text, done.stderr) == (7, "told\n", "warned\n")
        assert done.file("out.bin") == b"one two \xff three"
        assert 0 < done.cpu_seconds < done.seconds

    def test_a_signal_is_a_negative_exit_code(self, sandbox: Sandbox) -> None:
        assert shell(sandbox, "ulimit -c 0; kill -SEGV $$").code == -11

    def test_what_a_command_reads_and_writes_may_be_large(self, sandbox: Sandbox) -> None:
        data = bytes(range(256)) * 8000
        assert run(sandbox, "cat", stdin=data).stdout == data

    def test_a_command_need_not_read_its_input(self, sandbox: Sandbox) -> None:
        assert run(sandbox, "true", stdin=bytes(10**6)).code == 0

    def test_files_live_on_within_a_session(self, sandbox: Sandbox) -> None:
        session = sandbox.open(make_program("def f(): return open('left').read()"), LIMITS)
        session.run(Command(("sh", "-c", "echo here >left")))
        assert session.call("f").value == "here\n"
        session.close()

    def test_a_missing_command_is_an_error(self, sandbox: Sandbox) -> None:
        with pytest.raises(ProgramError, match=r"`\./nothing` cannot be started: No such file"):
            run(sandbox, "./nothing")

    def test_a_missing_file_is_an_error_that_names_it(self, sandbox: Sandbox) -> None:
        with pytest.raises(ProgramError, match=r"`true` left no file `answer` in the workspace"):
            run(sandbox, "true", outputs=("answer",))

    @pytest.mark.parametrize("make", ["ln -s /etc/hostname", "mkfifo", "mkdir"])
    def test_only_regular_files_come_back(self, sandbox: Sandbox, make: str) -> None:
        with pytest.raises(ProgramError, match="left no file `answer`"):
            run(sandbox, "sh", "-c", f"{make} answer", outputs=("answer",))


class TestBuilds:
    def test_what_is_new_in_the_workspace_is_collected(self, sandbox: Sandbox) -> None:
        session = sandbox.open(make_program("x = 1", lib__part="y = 2"), LIMITS)
        script = "mkdir out && cp main.py out/copy && echo z >lib/part.py && ln -s main.py link"
        done = session.run(Command(("sh", "-ec", script), collects=True)).value
        session.close()
        assert [(file.path, file.data) for file in done.files] == [
            ("lib/part.py", b"z\n"),
            ("out/copy", b"x = 1"),
        ]

    @pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
    def test_a_program_in_c_is_built_and_run(self, sandbox: Sandbox) -> None:
        program = Program((SourceFile("main.c", C_SOURCE),))
        session = sandbox.open(program, ProgramLimits(seconds=30))
        command = Command(("cc", "-O1", "-o", "main", "main.c"), collects=True)
        built = session.run(command).value.files
        session.close()
        assert [(file.path, file.is_executable) for file in built] == [("main", True)]
        assert run(sandbox, "./main", built=built, stdin=b"6 7").text == "42"


class TestBounds:
    def test_a_hung_command_ends_at_its_deadline_with_its_last_words(
        self, sandbox: Sandbox
    ) -> None:
        started = time.monotonic()
        session = sandbox.open(make_program(""), ProgramLimits(seconds=0.5))
        words = ("sh", "-c", "echo out; echo err >&2; trap '' TERM; sleep 60")
        with pytest.raises(ProgramError, match=r"^no answer within 0\.5 s$"):
            session.run(Command(words))
        assert time.monotonic() - started < 300
        assert set(session.printed.split()) == {b"out", b"err"}

    def test_too_much_output_is_an_error(self, sandbox: Sandbox) -> None:
        with pytest.raises(ProgramError, match="more than 4194304 bytes on standard output"):
            shell(sandbox, "yes")

    def test_standard_error_is_cut(self, sandbox: Sandbox) -> None:
        done = shell(sandbox, "echo first >&2; yes | head -c 1000000 >&2; echo last >&2")
        assert done.stderr.startswith("first\n")
        assert "bytes cut" in done.stderr
        assert done.stderr.endswith("last\n")
        assert len(done.stderr) < 5000

    def test_too_large_a_file_is_an_error(self, sandbox: Sandbox) -> None:
        words = ("sh", "-c", "head -c 5000000 /dev/zero >big")
        with pytest.raises(ProgramError, match="too much to bring back: `big` does not fit"):
            run(sandbox, *words, outputs=("big",))

    def test_a_memory_bomb_is_stopped(self, sandbox: Sandbox) -> None:
        # Either an allocation fails, and the shell with it, or the watchdog sees it first.
        bomb = "x=x; while :; do x=$x$x; done"
        assert outcome(sandbox, bomb) != 0
        assert ask(sandbox, "def f(): return 1").value == 1

    def test_what_a_command_leaves_running_does_not_hold_it_up(self, sandbox: Sandbox) -> None:
        started = time.monotonic()
        assert shell(sandbox, "sleep 60 & echo done").text == "done\n"
        assert time.monotonic() - started < 30

    def test_a_command_on_its_own_can_start_no_process(self, sandbox: Sandbox) -> None:
        done = run(sandbox, "sh", "-c", "/bin/true & wait; echo went on", is_alone=True)
        assert "went on" not in done.text or "fork" in done.stderr.lower()

    def test_a_command_reaches_neither_guest_nor_host(self, sandbox: Sandbox) -> None:
        done = run(sandbox, "/usr/bin/env", "python3", "-c", ATTACK)
        if done.code == 127:
            pytest.skip("no python3 on the path of the sandbox")
        assert (done.code, done.text) == (0, "[] 0\n")
