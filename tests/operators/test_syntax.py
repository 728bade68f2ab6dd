from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.operators.changes import apply_operator
from evolve.operators.syntax import read_syntax
from evolve.records import Program, SourceFile
from tests.builders import C

if TYPE_CHECKING:
    from evolve.operators.syntax import Syntax


def read(text: str, path: str = "main.c") -> Syntax:
    syntax = read_syntax(path, text)
    assert syntax is not None
    return syntax


def values(text: str, path: str = "main.c") -> list[int | float]:
    return [number.value for number in read(text, path).numbers]


def test_numbers_of_the_blocks_are_found_but_not_in_strings_comments_and_names() -> None:
    assert values(C) == [64, 0.25, 10, -3, 6, 12, 0.5, 0.001]


def test_constants_with_a_name_weigh_more() -> None:
    weights = {number.value: number.weight for number in read(C).numbers}
    assert weights[64] == weights[0.25] == weights[10] > weights[6] == weights[12]


def test_symbols_are_those_with_spaces_around() -> None:
    syntax = read(C)
    assert [C[s.start : s.end] for s in syntax.symbols] == ["+", "<=", "&&", "<"]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.rs", "let x: &'a i32 = 1; for i in 0..10 { y += 2.5_f64 * 1_000.0; } // 9", None),
        ("a.sh", "x=1 # 9\necho '8' \"7\" $((x + 2))", [1, 2]),
        ("a.lua", "x = 1 -- 9\ny = '8' .. 2", [1, 2]),
        ("a.sql", "select 1 -- 9\nwhere x = '8'", [1]),
        ("a.f90", "x = 1.5 ! 9\n", [1.5]),
        ("a.txt", "4 # 5 // 6", [4, 5, 6]),
        ("a.js", "const v = '9' + 1 / 2; /* 8\n 7 */ x = 3", [1, 2, 3]),
        ("a.unknown", "1.2.3 v2 4", [4]),
    ],
)
def test_comments_and_strings_are_those_of_the_language(
    path: str, text: str, expected: list[float] | None
) -> None:
    assert values(text, path) == (expected or [1, 0, 10, 2.5, 1000.0])


@given(st.text(max_size=200), st.sampled_from(["c", "rs", "sh", "lua", "txt", ""]))
def test_any_text_can_be_read(text: str, extension: str) -> None:
    syntax = read_syntax(f"main.{extension}", text)
    if syntax is not None:
        for number in syntax.numbers:
            assert (
                float(text[number.start : number.end].strip("()").replace("_", "")) == number.value
            )


def test_unbalanced_markers_leave_nothing_to_change() -> None:
    assert read_syntax("main.c", "// EVOLVE-BLOCK-START\nint x = 1;\n") is None


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_most_changes_of_a_c_program_still_compile(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    text = (root / "problems" / "levenshtein_c" / "main.c").read_text()
    parent = Program((SourceFile("main.c", text),))
    compiled = 0
    for seed in range(8):
        child = apply_operator("jump_constant", parent, [], np.random.default_rng(seed))
        assert isinstance(child, Program)
        source = tmp_path / f"{seed}.c"
        source.write_text(child.entry.text)
        command = ["cc", "-std=c11", "-fsyntax-only", source]
        compiled += not subprocess.run(command, capture_output=True, check=False).returncode
    assert compiled >= 6
