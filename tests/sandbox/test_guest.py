import errno
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.sandbox.guest import confine, kernel, program, resources, seccomp
from evolve.sandbox.guest.wire import Printed

ON_LINUX = pytest.mark.skipif(os.uname().sysname != "Linux", reason="needs Linux")


class TestOutput:
    @given(st.lists(st.binary(max_size=40)), st.integers(0, 24))
    def test_head_and_tail_are_kept(self, parts: list[bytes], limit: int) -> None:
        output = Printed(limit)
        for part in parts:
            output.add(part)
        text, half = b"".join(parts), limit // 2
        if len(text) <= 2 * half:
            assert output.text() == text
        else:
            cut = f"\n[... {len(text) - 2 * half} bytes cut ...]\n".encode()
            assert output.text() == text[:half] + cut + text[len(text) - half :]


class TestTracebacks:
    def test_only_the_programs_frames_are_told(self) -> None:
        code = compile("def f():\n    raise ValueError('no')\nf()", "/scratch/work/a.py", "exec")
        with pytest.raises(ValueError, match="no") as caught:
            exec(code)
        reason, detail = program.describe(caught.value, "/scratch/work")
        assert reason == "ValueError: no"
        assert detail == (
            '  File "a.py", line 3, in <module>\n  File "a.py", line 2, in f\nValueError: no'
        )

    def test_long_chains_are_cut(self) -> None:
        code = compile("def f(): f()\nf()", "/scratch/work/a.py", "exec")
        with pytest.raises(RecursionError) as caught:
            exec(code, {})
        assert program.describe(caught.value, "/scratch/work")[1].count("File") == 12

    def test_an_exception_whose_text_raises_is_named(self) -> None:
        class Odd(Exception):
            def __str__(self) -> str:
                raise KeyboardInterrupt

        assert "Odd" in program.describe(Odd(), "/scratch/work")[0]


class TestMemory:
    @ON_LINUX
    def test_the_memory_of_a_process_is_read(self) -> None:
        own = str(os.getpid())
        size = resources.read_bytes(own)
        assert size > 1 << 20
        assert own not in resources.list_strangers(frozenset({own}))
        assert own in resources.list_group(os.getpgid(0))
        assert resources.is_exceeded([own], 0, size // 4)
        assert not resources.is_exceeded([own], 0, 4 * size)
        assert not resources.is_exceeded([own, own], size, 2 * size)
        assert resources.read_bytes("0") == 0

    def test_files_are_summed_with_all_folders(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b").write_bytes(bytes(100_000))
        (tmp_path / "link").symlink_to("/")
        found = resources.measure(str(tmp_path), resources.Usage(1 << 30, 100))
        assert 100_000 <= found.size < 200_000
        assert found.number == 3
        assert resources.measure(str(tmp_path), resources.Usage(1 << 30, 1)).number > 1

    def test_a_wiped_folder_is_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b" / "c").mkdir(parents=True)
        (tmp_path / "a" / "link").symlink_to("/")
        (tmp_path / "file").write_text("x")
        resources.wipe(str(tmp_path))
        assert list(tmp_path.iterdir()) == []
        resources.remove(str(tmp_path))
        assert not tmp_path.exists()


# Of calls that depend on an argument, one that is allowed.
ORDINARY = {
    "setrlimit": 3,
    "prlimit64": 3,
    "socket": 1,
    "socketpair": 1,
    "setsockopt": 2,
    "prctl": 15,
    "ioctl": 0x5401,
}


def interpret(code: bytes, number: int, argument: int) -> int:
    """Runs a filter on a system call all of whose arguments are the same."""
    architecture = (0xC000003E, 0xC00000B7)[kernel.machine_column()]
    data = struct.pack("=IIQ6Q", number, architecture, 0, *[argument] * 6)
    lines = list(struct.iter_unpack("=HBBI", code))
    place = value = 0
    while True:
        kind, if_true, if_false, constant = lines[place]
        place += 1
        if kind == 0x20:
            value = struct.unpack_from("=I", data, constant)[0]
        elif kind == 0x54:
            value &= constant
        elif kind == 0x06:
            return int(constant)
        else:
            holds = {0x15: value == constant, 0x35: value >= constant}[kind]
            place += if_true if holds else if_false


@ON_LINUX
class TestFilter:
    @pytest.mark.parametrize("own_pid", [None, 77])
    @pytest.mark.parametrize("may_signal", [True, False])
    @pytest.mark.parametrize("has_devices", [True, False])
    def test_jumps_stay_inside_and_the_end_refuses(
        self, own_pid: int | None, may_signal: bool, has_devices: bool
    ) -> None:
        code = seccomp.build_filter(own_pid, may_signal=may_signal, has_devices=has_devices)
        lines = list(struct.iter_unpack("=HBBI", code))
        assert lines[-1] == (0x06, 0, 0, 0x00050000 | errno.ENOSYS)
        assert len(lines) < 4096
        for place, (kind, if_true, if_false, _) in enumerate(lines):
            if kind & 0x07 == 0x05:
                assert place + 1 + max(if_true, if_false) < len(lines)

    @given(st.integers(0, 500) | st.integers(0, 2**32 - 1))
    def test_what_stands_in_no_table_is_unknown(self, number: int) -> None:
        column = kernel.machine_column()
        tables = {
            0x7FFF0000: kernel.ALLOWED,
            0x00050000: kernel.GRANTED,
            0x00050000 | errno.EPERM: kernel.REFUSED,
        }
        wanted = 0x00050000 | errno.ENOSYS
        for answer, table in tables.items():
            if number in {pair[column] for pair in table.values()}:
                wanted = answer
        ordinary = {kernel.number_of(name): value for name, value in ORDINARY.items()}
        assert interpret(seccomp.build_filter(), number, ordinary.get(number, 0)) == wanted

    def test_no_call_is_in_two_tables(self) -> None:
        for column in kernel.MACHINES.values():
            tables = (kernel.ALLOWED, kernel.GRANTED, kernel.REFUSED)
            numbers = [pair[column] for table in tables for pair in table.values()]
            there = [number for number in numbers if number is not None]
            assert len(there) == len(set(there))

    def test_it_is_stricter_without_namespaces(self) -> None:
        kill, setsid, tgkill = map(kernel.number_of, ("kill", "setsid", "tgkill"))
        refused = 0x00050000 | errno.EPERM
        for code, wanted in (
            (seccomp.build_filter(), []),
            (seccomp.build_filter(77), [setsid]),
            (seccomp.build_filter(77, may_signal=False), [kill, setsid, tgkill]),
        ):
            held = [n for n in (kill, setsid, tgkill) if interpret(code, n or 0, 5) == refused]
            assert held == wanted
        assert interpret(seccomp.build_filter(77, may_signal=False), tgkill or 0, 77) == 0x7FFF0000

    def test_a_first_process_keeps_its_limit_of_processor_time(self) -> None:
        for name in ("setrlimit", "prlimit64"):
            number = kernel.number_of(name) or 0
            assert interpret(seccomp.build_filter(), number, 0) == 0x00050000 | errno.EPERM
            assert interpret(seccomp.build_filter(), number, 7) == 0x7FFF0000

    def test_refused_calls_carry_their_reason(self) -> None:
        with pytest.raises(OSError, match="mount on /nowhere"):
            kernel.mount("/nowhere", "/nowhere", "", kernel.MS_BIND)
        with pytest.raises(OSError, match="prctl 99999"):
            kernel.prctl(99999)

    def test_rights_grow_with_the_version(self) -> None:
        rights = [confine.all_rights(version) for version in range(1, 9)]
        assert rights == sorted(rights)
        assert rights[-1] == (1 << 16) - 1
