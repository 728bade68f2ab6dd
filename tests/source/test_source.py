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
from evolve.records import Program, SourceFile
from evolve.source import (
    BUILT_IN_MEASURES,
    EvolveBlock,
    built_in_measures,
    evolvable_text,
    find_blocks,
    find_fault,
    fingerprint,
    holds_values,
    is_text,
    list_names,
    parse_python,
    syntax_error,
)
from evolve.source.parsing import find_undefined

MARKED = """import math
# EVOLVE-BLOCK-START
A = 1
# EVOLVE-BLOCK-END
B = 2
    # EVOLVE-BLOCK-START the second
C = 3
D = 4
    # EVOLVE-BLOCK-END
"""


def program(text: str, path: str = "initial.py") -> Program:
    return Program((SourceFile(path, text),))


def same(left: str, right: str, path: str = "initial.py") -> bool:
    return fingerprint(program(left, path)) == fingerprint(program(right, path))


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


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x=1", "x  =  (1)  # one\n\n"),
        ('def f():\n    "doc"\n    return 1', "def f():\n  return 1"),
        ('def f():\n    "doc"', "def f():\n    pass"),
        ("x = 'a'", 'x = "a"'),
        ("x = u'a'", "x = 'a'"),
        ("x = 0x10", "x = 16"),
    ],
)
def test_formatting_comments_and_docstrings_do_not_count(left: str, right: str) -> None:
    assert same(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 'None'", "x = None"),
        ("x = b'a'", "x = 'a'"),
        ("f(a, b=c)", "f(a, c)"),
        ("x = [[1], 2]", "x = [[1, 2]]"),
        ("if a:\n    x = 1\nelse:\n    y = 2", "if a:\n    x = 1\n    y = 2"),
        ("x = a - b - c", "x = a - (b - c)"),
        ("def f(a, /): return a", "def f(a): return a"),
    ],
)
def test_what_runs_differently_has_another_fingerprint(left: str, right: str) -> None:
    assert not same(left, right)


def test_paths_and_all_files_count_in_the_fingerprint() -> None:
    one = Program((SourceFile("a.py", "x = 1"), SourceFile("b.py", "")))
    two = Program((SourceFile("a.py", ""), SourceFile("b.py", "x = 1")))
    assert fingerprint(one) != fingerprint(two)


def test_other_languages_and_broken_python_compare_as_trimmed_text() -> None:
    assert same("int x;  \n\n", "int x;\n", "main.c")
    assert not same("int x;", "int  x;", "main.c")
    assert same("def f(:  \n", "def f(:\n")
    assert not same("def f(:", "def g(:")


@pytest.mark.parametrize("text", ["def f(:", "x = '\0'", "(" * 5000, "-" * 100_000 + "1"])
def test_what_does_not_parse_gives_no_tree(text: str) -> None:
    assert parse_python(text) is None
    assert len(fingerprint(program(text))) == 16


def test_parsing_a_program_with_bad_escapes_warns_nobody() -> None:
    assert parse_python(r"x = '\d'") is not None


def test_deep_programs_are_measured_without_recursion() -> None:
    text = "x = " + "+".join(["1"] * 900)
    assert built_in_measures(program(text), program(text))["depth"] > 900


def test_built_in_measures_count_what_they_say() -> None:
    text = "y = 0\n# EVOLVE-BLOCK-START\nx = f(1) if y else g(h(2))\n# EVOLVE-BLOCK-END\n"
    measures = built_in_measures(program(text), program(text))
    assert {*measures, "seconds"} == set(BUILT_IN_MEASURES)
    assert measures["length"] == len("x = f(1) if y else g(h(2))\n")
    assert (measures["branches"], measures["calls"]) == (1.0, 3.0)
    # module, two assignments, target and value, the choice with its test, three calls with
    # their names, and the two numbers that are handed over
    assert measures["nodes"] == 1 + 2 + 2 + 1 + 1 + 1 + 3 + 3 + 2
    assert measures["depth"] == 6.0


def test_similarity_is_one_for_the_same_tokens_and_falls_with_change() -> None:
    initial = program("x = 1\ny = 2\n")
    assert built_in_measures(program("x = 1\n\ny  =  2"), initial)["similarity"] == 1.0
    close = built_in_measures(program("x = 1\ny = 3\n"), initial)["similarity"]
    far = built_in_measures(program("while True: break"), initial)["similarity"]
    assert 1.0 > close > far >= 0.0
    assert built_in_measures(program(""), program(""))["similarity"] == 1.0


def test_tree_measures_are_left_out_where_there_is_no_tree() -> None:
    broken, other = program("def f(:"), program("int x;", "main.c")
    assert set(built_in_measures(broken, broken)) == {"length", "similarity"}
    assert set(built_in_measures(other, other)) == {"length", "similarity"}


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
