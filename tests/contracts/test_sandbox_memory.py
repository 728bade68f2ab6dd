"""Nothing that a program was given or gave back is in the memory of a later one."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evolve.errors import ProgramError
from evolve.problem import Recipe
from evolve.records import Program
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.layout import find_view
from evolve.sandbox.replies import Command
from evolve.scoring import ProgramHandle
from evolve.scoring.runner import ProgramRunner
from tests.sandboxes import LIMITS, ask, has_namespaces, make_program, make_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evolve.sandbox.backends import Sandbox

# Programs see no `/proc`: what is mapped is found by a system call that reads the address that it
# is given and then refuses the rest. A marker comes in halves, so that the search does not find
# itself.
SEARCH = """
import ctypes, gc, os, platform, re

PAGE = 4096
GAP = 1 << 28
CHUNK = 1 << 16
libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
SIGMASK = {"x86_64": 14, "aarch64": 135}[platform.machine()]
FAULT = 14
kept = []

def is_readable(address):
    ctypes.set_errno(0)
    words = (SIGMASK, 99, address, 0, 8)
    libc.syscall(*map(ctypes.c_long, words))
    return ctypes.get_errno() != FAULT

def walk(start, step):
    found, address, missed = set(), start, 0
    while missed < GAP and 0 < address < 1 << 47:
        if is_readable(address):
            found.add(address)
            missed = 0
        else:
            missed += PAGE
        address += step
    return found

def find_spans():
    starts = [libc.sbrk(0) - PAGE, id(object()), ctypes.c_void_p.in_dll(libc, "environ").value,
              ctypes.cast(libc.sbrk, ctypes.c_void_p).value, id(ctypes), id(None)]
    # Libraries reserve room between what the allocators map: objects lead beyond it.
    starts += [id(one) for one in gc.get_objects()[::500]]
    starts += [id(bytes(size)) for size in (64, 2000, 1 << 20)]
    pages = set()
    for start in starts:
        start -= start % PAGE
        if start not in pages:
            pages |= walk(start, PAGE) | walk(start - PAGE, -PAGE)
    spans = []
    for page in sorted(pages):
        if spans and spans[-1][1] == page:
            spans[-1][1] = page + PAGE
        else:
            spans.append([page, page + PAGE])
    return spans

def read(spans):
    # The kernel copies: what was unmapped meanwhile is an error and no crash.
    reader, writer = os.pipe()
    for start, end in spans:
        last, place = b"", start
        while place < end:
            size = min(CHUNK, end - place)
            count = libc.write(writer, ctypes.c_void_p(place), ctypes.c_size_t(size))
            if count <= 0:
                last, place = b"", place + PAGE
                continue
            data = last + os.read(reader, count)
            yield data, place - len(last), count
            last, place = data[-64:], place + count

def search(halves):
    halves = [(head, bytes(byte ^ 255 for byte in tail)) for head, tail in halves]
    found, size = set(), 0
    patterns = [re.compile(re.escape(head)) for head, tail in halves]
    for data, start, count in read(find_spans()):
        size += count
        for number, (head, tail) in enumerate(halves):
            for match in patterns[number].finditer(data):
                if data[match.end():match.end() + len(tail)] == tail:
                    found.add(number)
    return sorted(found), size

def locate(product):
    import numpy as np
    places = []
    for data, start, _ in read(find_spans()):
        words = np.frombuffer(data, dtype=np.uint32) * np.uint32(FACTOR)
        places += [start + 4 * int(i) for i in np.flatnonzero(words == product)]
    return places, os.getpid()

def keep(value):
    kept.append(value)
"""
FACTOR = 0x9E3779B1
SEARCH = SEARCH.replace("FACTOR", str(FACTOR))
SEARCH_LIMITS = ProgramLimits(seconds=60.0, memory_mb=1024, processes=16, workspace_mb=8)
PRINTS = """
import os, sys
def f(text, data, numbers):
    print(text)
    os.write(2, data)
    sys.stderr.flush()
    return [text + text, data, numbers]
def g(text):
    print(text * 20000)
    return text * 20000
def h(text):
    raise type("Odd" + text[:4], (ValueError,), {})(text)
def s(text):
    import time
    print(text, flush=True)
    time.sleep(60)
def e(text):
    os.write(1, text.encode())
    os._exit(3)
"""
# Each reads its input, and writes it on both streams and into a file.
LANGUAGES = {
    "sh": ("read line; echo $line; echo $line >&2; echo $line >out", "", "sh main"),
    "perl": (
        'my $l = <STDIN>; print $l; print STDERR $l; open(F, ">out"); print F $l;',
        "",
        "perl main",
    ),
    "cc": (
        """
        #include <stdio.h>
        int main(void) {
            char line[9000];
            if (!fgets(line, sizeof line, stdin)) return 2;
            fputs(line, stdout); fputs(line, stderr);
            FILE *out = fopen("out", "w");
            fputs(line, out);
            return fclose(out);
        }
        """,
        "cc -x c main -o built",
        "./built",
    ),
    "c++": (
        """
        #include <fstream>
        #include <iostream>
        #include <string>
        int main() {
            std::string line;
            std::getline(std::cin, line);
            std::cout << line << std::endl;
            std::cerr << line << std::endl;
            std::ofstream("out") << line;
        }
        """,
        "c++ -x c++ main -o built",
        "./built",
    ),
}


class Markers:
    """Markers that are handed out, and looked for afterwards."""

    def __init__(self) -> None:
        self._all: list[str] = []

    def make(self) -> str:
        self._all.append(os.urandom(16).hex())
        return self._all[-1]

    def find(self, sandbox: Sandbox) -> list[int]:
        """Searches a fresh program's memory for all."""
        halves = (self.halves(),)
        found, size = ask(sandbox, SEARCH, "search", halves, SEARCH_LIMITS).value
        assert size > 8 << 20
        return list(found)

    def halves(self) -> list[list[bytes]]:
        return [_halve(text.encode()) for text in self._all]


def _halve(needle: bytes) -> list[bytes]:
    # The second half is inverted: both lie beside each other in a message.
    middle = len(needle) // 2
    return [needle[:middle], bytes(byte ^ 255 for byte in needle[middle:])]


def _try_all(sandbox: Sandbox, markers: Markers) -> None:
    program = make_program(PRINTS, other=f"# {markers.make()}")
    text = markers.make()
    numbers = np.frombuffer(markers.make().encode() * 1000, dtype=np.uint8)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("f", (text, markers.make().encode(), numbers)),
        ("g", (markers.make(),)),
        ("h", (markers.make(),)),
        ("s", (markers.make(),)),
        ("e", (markers.make(),)),
    ]
    for function, args in calls:
        session = sandbox.open(program, LIMITS)
        try:
            session.call(function, args, timeout_seconds=2.0)
        except ProgramError:
            if function in "fg":
                raise
        finally:
            session.close()


def test_what_programs_were_given_and_gave_back_is_nowhere(sandbox: Sandbox) -> None:
    markers = Markers()
    _try_all(sandbox, markers)
    assert markers.find(sandbox) == []
    # A program that holds one finds it.
    session = sandbox.open(make_program(SEARCH), SEARCH_LIMITS)
    text = markers.make()
    session.call("keep", (text,))
    assert session.call("search", ([_halve(text.encode())],)).value[0] == [0]
    session.close()


def test_nor_is_what_commands_read_and_wrote(sandbox: Sandbox) -> None:
    markers = Markers()
    for name in filter(shutil.which, LANGUAGES):
        _run_command(sandbox, markers, *LANGUAGES[name])
    assert markers.find(sandbox) == []


def _run_command(sandbox: Sandbox, markers: Markers, source: str, build: str, run: str) -> None:
    program = make_program("", main=f"{markers.make()}")
    built = ()
    if build:
        session = sandbox.open(program, ProgramLimits(memory_mb=1024, seconds=60.0))
        made = session.run(
            Command(("sh", "-c", build), files={"main": source.encode()}, outputs=("built",))
        ).value
        session.close()
        assert made.code == 0, made.stderr
        built = made.files
    session = sandbox.open(program, LIMITS, built)
    line = markers.make()
    given = {"main": source.encode(), "given": markers.make().encode()}
    done = session.run(
        Command((*run.split(), markers.make()), line.encode() + b"\n", given, outputs=("out",))
    ).value
    session.close()
    assert (done.code, done.stdout.decode().strip()) == (0, line), done.stderr
    assert done.files[0].data.decode().strip() == line


def handle_of(runner: ProgramRunner, program: Program) -> ProgramHandle:
    return ProgramHandle(runner, program)


@pytest.mark.parametrize("is_fresh", [False, True])
def test_nor_is_it_in_the_next_process_of_one_evaluation(
    sandbox: Sandbox, *, is_fresh: bool
) -> None:
    markers = Markers()
    recipe = Recipe(build="cp main.py built.py", run=("sh", "-c", "cat; cat main.py >&2"))
    runner = ProgramRunner(sandbox, SEARCH_LIMITS, recipe, is_fresh=is_fresh)
    text = markers.make()
    handle = handle_of(runner, make_program(PRINTS, other=f"# {markers.make()}"))
    assert handle.call("f", text, markers.make().encode(), 1)[0] == 2 * text
    # Each of these has a process of its own.
    handle.restart()
    handle.call_many("g", [(markers.make(),)])
    assert handle.run(stdin=markers.make()).code == 0
    handle.other({"main.py": PRINTS}).call("g", markers.make())
    handle.time("g", (markers.make(),), repeats=1)
    assert handle_of(runner, make_program(SEARCH)).call("search", markers.halves())[0] == []
    runner.end()
    assert markers.find(sandbox) == []


def test_numbers_of_earlier_processes_are_nowhere(sandbox: Sandbox) -> None:
    if has_namespaces(sandbox):
        pytest.skip("the number of a program is 1 in its own namespace")
    last = ask(sandbox, SEARCH, "locate", (1,), SEARCH_LIMITS).value[1]
    found = []
    # Many places hold small numbers by chance; none of them that of the last program each time.
    # It is looked for as a product, so that the search does not find itself.
    for _ in range(4):
        product = last * FACTOR % (1 << 32)
        places, last = ask(sandbox, SEARCH, "locate", (product,), SEARCH_LIMITS).value
        found.append(set(places))
    assert set.intersection(*found) == set()


@pytest.fixture
def package() -> Iterator[str]:
    """A package that makes memory that its forks share."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "shares_memory.py").write_text(
            "import mmap\nboard = mmap.mmap(-1, 4096)\nboard[:5] = b'empty'\n"
        )
        sys.path.insert(0, folder)
        yield "shares_memory"
        sys.path.remove(folder)


def test_memory_that_a_package_shares_with_its_forks_is_private(
    sandbox: Sandbox, package: str
) -> None:
    name = sandbox.name if has_namespaces(sandbox) else "native-without-namespaces"
    other = make_sandbox(name, find_view((package,)))
    source = """
        from shares_memory import board
        def f():
            found = bytes(board[:5])
            board[:5] = b"taken"
            return found, bytes(board[:5])
    """
    assert [ask(other, source).value for _ in range(2)] == 2 * [(b"empty", b"taken")]
    other.close()


def test_no_frame_of_the_guest_holds_anything_of_the_host(sandbox: Sandbox) -> None:
    source = """
        import sys
        def f():
            frame, names = sys._getframe(), set()
            while frame:
                names |= {type(value).__name__ for value in frame.f_locals.values()}
                frame = frame.f_back
            return sorted(names)
    """
    assert not {"Relay", "Child", "Printed"} & set(ask(sandbox, source).value)
