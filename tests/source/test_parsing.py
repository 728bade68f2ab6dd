from __future__ import annotations

import argparse
import ast
import dataclasses
import gc
import random
import statistics
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.errors import ProblemError
from evolve.problem import load_problem
from evolve.records import Program, SourceFile
from evolve.search.knowledge import find_misfit
from evolve.settings.sections import ModelSettings
from evolve.source.analysis import fingerprint
from evolve.source.parsing import (
    EvolveBlock,
    cut_frozen,
    evolvable_text,
    find_blocks,
    find_fault,
    find_oddities,
    find_undefined,
    holds_values,
    is_text,
    list_names,
    parse_python,
    syntax_error,
)
from evolve.steps.prompt import Block, fit_blocks, show_program
from tests.builders import MARKED, make_program
from tests.commands import write_problem


def test_blocks_lie_between_marker_lines() -> None:
    texts = [MARKED[block.start : block.end] for block in find_blocks(MARKED)]
    assert texts == ["A = 1\n", "C = 3\nD = 4\n"]
    assert evolvable_text(MARKED) == "A = 1\nC = 3\nD = 4\n"


def test_without_markers_the_whole_text_may_change() -> None:
    assert find_blocks("x = 1\n") == (EvolveBlock(0, 6),)
    assert find_blocks("") == (EvolveBlock(0, 0),)


@pytest.mark.parametrize("comment", ["# {}", "// {}", "/* {} */", "-- {}", "<!-- {} -->", "; {}"])
def test_markers_work_in_any_comment_syntax(comment: str) -> None:
    start, end = (comment.format(f"EVOLVE-BLOCK-{word}") for word in ("START", "END"))
    assert evolvable_text(f"a\n{start}\nb\n{end}\nc") == "b\n"


def test_windows_line_ends_do_not_confuse_the_markers() -> None:
    text = "a\r\n# EVOLVE-BLOCK-START\r\nb\r\n# EVOLVE-BLOCK-END\r\n"
    assert evolvable_text(text) == "b\r\n"


def test_a_block_may_be_empty_and_end_with_the_file() -> None:
    text = "# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END"
    assert find_blocks(text) == (EvolveBlock(21, 21),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n# EVOLVE-BLOCK-START\nb\n", r"^line 2: expected `EVOLVE-BLOCK-END`"),
        ("a\n\n# EVOLVE-BLOCK-END\n", r"^line 3: expected `EVOLVE-BLOCK-START`"),
        (
            "# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n",
            r"^line 2: .* starts in line 1, .* cannot be nested",
        ),
    ],
)
def test_unbalanced_markers_are_refused_with_their_line(text: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        find_blocks(text)


@given(st.lists(st.sampled_from(["x = 1", "# EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-END"])))
def test_blocks_are_in_order_and_hold_no_marker(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        blocks = find_blocks(text)
    except ProblemError:
        return
    ends = [0]
    for block in blocks:
        assert ends[-1] <= block.start <= block.end <= len(text)
        assert "EVOLVE-BLOCK" not in text[block.start : block.end]
        ends.append(block.end)


@pytest.mark.parametrize("text", ["def f(:", "x = '\0'", "(" * 5000, "-" * 100_000 + "1"])
def test_what_does_not_parse_gives_no_tree(text: str) -> None:
    assert parse_python(text) is None
    assert len(fingerprint(make_program(text))) == 16


def test_parsing_a_program_with_bad_escapes_warns_nobody() -> None:
    assert parse_python(r"x = '\d'") is not None


def test_a_syntax_error_is_told_with_its_line() -> None:
    assert syntax_error("x = 1\n") is None
    assert syntax_error("x = 1\ndef f(:\n") == "line 2: invalid syntax"
    assert str(syntax_error("-" * 100_000 + "1")).removeprefix("line 1: ")


def test_names_bound_at_the_top_level_are_listed() -> None:
    text = """
import os.path
from math import pi as half
def f():
    inner = 1
class C: pass
a = b, c = 1, 2
for d in (): pass
"""
    assert list_names(text) == {"os", "half", "f", "C", "a", "b", "c", "d"}
    assert list_names("def f(:") == frozenset()


def test_threads_may_parse_at_the_same_time() -> None:
    text = "\n".join(f"def f{n}(x):\n    return [x * {n} for _ in range({n})]" for n in range(60))
    found: list[object] = []

    def pause(*_: object) -> None:
        time.sleep(0.00005)

    # What runs while garbage is collected lets another thread in, in the middle of a parse.
    gc.callbacks.append(pause)
    try:
        threads = [
            threading.Thread(target=lambda: found.extend(parse_python(text) for _ in range(30)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.callbacks.remove(pause)
    assert len(found) == 120


class TestUndefined:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("print(a)\n", ("a", 0)),
            ("\ndef f():\n    return g(h)\n", ("g", 2)),
            ("def f():\n    x = 1\n\ndef g():\n    return x\n", ("x", 4)),
            ("class A:\n    b = 1\n    def f(self):\n        return b\n", ("b", 3)),
            ("x = [i for i in range(3)]\nprint(i)\n", ("i", 0)),
            ("def f(a: int = c): pass\n", ("c", 0)),
            ("def f():\n    return [n for n in range(3) if much]\n", ("much", 2)),
        ],
    )
    def test_what_nothing_defines_is_found(self, text, found):
        assert find_undefined(text) == found

    @pytest.mark.parametrize(
        "text",
        [
            "def f():\n    return later\n\nlater = 1\n",
            "def f():\n    global made\n    made = 1\n\ndef g():\n    return made\n",
            "def f(n):\n    def g():\n        nonlocal n\n        n += 1\n    return g\n",
            "def top(a, *b, c=1, **d):\n    e = 1\n    return a, b, c, d, e\n",
            "class A:\n    def f(self):\n        return __class__, super().f()\n",
            "try:\n    profile\nexcept (TypeError, NameError):\n    profile = None\n",
            "from math import *\nprint(sqrt(2))\n",
            "exec('a = 1')\nprint(a)\n",
            "import os.path as p, sys\nprint(p, sys, __name__, __file__)\n",
            "with open('x') as f, f:\n    print([y := 1], y, f)\n",
            "match 1:\n    case {'a': q, **rest}:\n        print(q, rest)\n",
            "for i in range(3): pass\nprint(i, (lambda a, *b, **c: (a, b, c))(1))\n",
            "x = (\n",
            "",
        ],
    )
    def test_what_may_be_defined_is_not_told(self, text):
        assert find_undefined(text) is None

    @pytest.mark.parametrize("module", [argparse, ast, dataclasses, statistics, random])
    def test_modules_that_work_have_nothing_undefined(self, module):
        assert find_undefined(Path(module.__file__).read_text(encoding="utf-8")) is None

    @given(st.text(alphabet="ab=()[]:, \n\tdefforinlambda"))
    def test_any_text_is_looked_at(self, text):
        found = find_undefined(text)
        assert found is None or found[0] in text


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.json", '{"x": 1.5}', None),
        ("a.json", '{\n"x": 1.5,\n}', "line 3: "),
        ("a.json", "[" * 100_000, "line 1: "),
        ("a.toml", "x = 1.5\n", None),
        ("a.toml", "x = 1\ny = = 2\n", "line 2: Invalid value"),
        ("a.py", "x = (", "line 1: "),
        ("a.yaml", "x: [", None),
        ("a.txt", "{", None),
    ],
)
def test_what_can_be_read_is_checked_with_the_line(path, text, expected):
    found = find_fault(path, text)
    assert (found is None) if expected is None else str(found).startswith(expected)


def test_texts_and_values_are_told_by_their_names():
    assert [is_text(name) for name in ("a.txt", "b/c.JSON", "main.c", "Makefile", "x.py")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert holds_values("a.yml")
    assert not holds_values("a.txt")


REAL = "# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\n"


@pytest.mark.parametrize(
    "prose",
    [
        '"""Only code between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END is evolved."""\n',
        '"""Only code between\nEVOLVE-BLOCK-START and EVOLVE-BLOCK-END is evolved."""\n',
        '"""The part\nbegins at EVOLVE-BLOCK-START\nand ends at EVOLVE-BLOCK-END.\n"""\n',
        '"""Usage:\n\n    # EVOLVE-BLOCK-START\n    # EVOLVE-BLOCK-END\n"""\n',
        '"""Usage:\n\n    # EVOLVE-BLOCK-START\n"""\n',
        "# Code between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change.\n",
        "# EVOLVE-BLOCK-START and EVOLVE-BLOCK-END bound what may change.\n",
        "# EVOLVE-BLOCK-START marks the first line that may change.\n",
        "MARKERS = [\n    'EVOLVE-BLOCK-START',\n    'EVOLVE-BLOCK-END',\n]\n",
        'START = "EVOLVE-BLOCK-START"\n',
        'if "# EVOLVE-BLOCK-END" in __doc__: pass\n',
        "print('# EVOLVE-BLOCK-END')\n",
    ],
)
def test_marker_words_in_prose_are_prose(prose: str) -> None:
    assert evolvable_text(prose + REAL) == "x = 1\n"
    assert evolvable_text(REAL + prose) == "x = 1\n"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("# EVOLVE-BLOCK-START: the fit", "# EVOLVE-BLOCK-END: the fit"),
        ("# EVOLVE-BLOCK-START the fit", "# EVOLVE-BLOCK-END the fit"),
        ("#EVOLVE-BLOCK-START", "#EVOLVE-BLOCK-END"),
        ("    ### EVOLVE-BLOCK-START ###", "    ### EVOLVE-BLOCK-END ###"),
        ("/* EVOLVE-BLOCK-START */", "/* EVOLVE-BLOCK-END */"),
        ("<!-- EVOLVE-BLOCK-START -->", "<!-- EVOLVE-BLOCK-END -->"),
        ("-- EVOLVE-BLOCK-START", "-- EVOLVE-BLOCK-END"),
        ("(* EVOLVE-BLOCK-START *)", "(* EVOLVE-BLOCK-END *)"),
        ("% EVOLVE-BLOCK-START", "% EVOLVE-BLOCK-END"),
        ("C EVOLVE-BLOCK-START", "C EVOLVE-BLOCK-END"),
        ("EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END"),
        ("def f():  # EVOLVE-BLOCK-START", "    pass  # EVOLVE-BLOCK-END"),
        ("int f() { // EVOLVE-BLOCK-START", "} // EVOLVE-BLOCK-END"),
    ],
)
def test_markers_are_read_in_any_comment(start: str, end: str) -> None:
    assert evolvable_text(f"before\n{start}\nx\n{end}\nafter\n") == "x\n"


def test_markers_in_a_string_alone_bound_a_text_that_is_evolved() -> None:
    assert evolvable_text(f'PROMPT = """\n{REAL}"""\n') == "x = 1\n"


@pytest.mark.parametrize(
    "line",
    [
        "# EVOLVE_BLOCK_START",
        "# evolve-block-start",
        "# EVOLVE BLOCK START",
        "// EVOLVE-BLOCK-BEGIN",
        "# EVOLVE-START",
        "# EVLOVE-BLOCK-START",
        "# EVOLVE-BLOCKS-START",
        "# Evolve-Block-End",
    ],
)
def test_a_misspelt_marker_is_warned_of(line: str) -> None:
    first, second = find_oddities(f"x = 1\n{line}\ny = 2\n")
    assert first.startswith(f"line 2: `{line}` is no marker")
    assert second.startswith("all of the file may change")


@pytest.mark.parametrize("inside", ["", "\n", "# your code here\n"])
def test_an_empty_block_is_warned_of(inside: str) -> None:
    text = f"a = 1\n# EVOLVE-BLOCK-START\n{inside}# EVOLVE-BLOCK-END\n"
    assert find_oddities(text) == [
        "line 2: the block is empty: only a model can put something there"
    ]


@pytest.mark.parametrize("text", [REAL, "x = 1\n", "", "# evolve the block from the start on\n"])
def test_nothing_is_said_of_what_is_well(text: str) -> None:
    assert find_oddities(text) == []


HELPERS = "".join(f"def helper_{i}(x):\n    return x + {i}\n\n\n" for i in range(1500))


BLOCK = "# EVOLVE-BLOCK-START\ndef point():\n    return helper_700(math.pi)\n# EVOLVE-BLOCK-END\n"


LARGE = f"import math\n\n{HELPERS}{BLOCK}" + "LAST = 1\n" * 100


def test_the_block_and_what_it_uses_are_left_of_a_long_file() -> None:
    short = cut_frozen(LARGE)
    assert BLOCK in short
    assert "import math\n" in short
    assert "def helper_700(x):\n    return x + 700\n" in short
    assert "helper_300" not in short
    assert len(short.splitlines()) < 60
    cut = [int(line.split()[0][1:]) for line in short.splitlines() if "are left out]" in line]
    assert sum(cut) + len(short.splitlines()) - len(cut) == len(LARGE.splitlines())


def test_what_a_block_uses_is_left_in_other_languages_too() -> None:
    frozen = "".join(f"static int helper_{i}(int x) {{ return x; }}\n" for i in range(2000))
    block = "// EVOLVE-BLOCK-START\nint f() { return helper_700(1); }\n// EVOLVE-BLOCK-END\n"
    short = cut_frozen(f"#include <math.h>\n{frozen}{block}")
    assert block in short
    assert "static int helper_700(" in short


def test_a_file_of_which_all_may_change_is_left_whole() -> None:
    assert cut_frozen(HELPERS) == HELPERS


def test_frozen_text_gives_way_before_a_program_does() -> None:
    program = Program((SourceFile("initial.py", LARGE),))
    long, short = show_program(program), show_program(program, is_short=True)
    block = Block("programs", (long, long), shorter=(short, short))
    text = fit_blocks([block], "", 2000)["programs"]
    assert text.count(BLOCK) == 2
    assert fit_blocks([block], "", 200_000)["programs"].count(HELPERS) == 2


def test_a_program_that_no_prompt_holds_is_warned_of(tmp_path: Path) -> None:
    whole = load_problem(write_problem(tmp_path / "a", initial=LARGE.replace("EVOLVE", "NO")))
    (warning,) = find_misfit(whole, ModelSettings(digest_tokens=4000))
    assert "does not fit into a prompt, which holds 3000 tokens of programs" in warning
    assert "raise `models.digest_tokens` (at least" in warning
    bounded = load_problem(write_problem(tmp_path / "b", initial=LARGE))
    assert find_misfit(bounded, ModelSettings(digest_tokens=4000)) == []
