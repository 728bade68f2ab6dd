from __future__ import annotations

import pytest

from evolve.records import Program, SourceFile
from evolve.source.analysis import (
    BUILT_IN_MEASURES,
    SPECIAL_CASE,
    STATE,
    TABLE,
    built_in_measures,
    find_suspicions,
    fingerprint,
)
from tests.builders import make_program


def same(left: str, right: str, path: str = "initial.py") -> bool:
    return fingerprint(make_program(left, path)) == fingerprint(make_program(right, path))


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


def test_deep_programs_are_measured_without_recursion() -> None:
    text = "x = " + "+".join(["1"] * 900)
    assert built_in_measures(make_program(text), make_program(text))["depth"] > 900


def test_built_in_measures_count_what_they_say() -> None:
    text = "y = 0\n# EVOLVE-BLOCK-START\nx = f(1) if y else g(h(2))\n# EVOLVE-BLOCK-END\n"
    measures = built_in_measures(make_program(text), make_program(text))
    assert {*measures, "seconds"} == set(BUILT_IN_MEASURES)
    assert measures["length"] == len("x = f(1) if y else g(h(2))\n")
    assert (measures["branches"], measures["calls"]) == (1.0, 3.0)
    # module, two assignments, target and value, the choice with its test, three calls with
    # their names, and the two numbers that are handed over
    assert measures["nodes"] == 1 + 2 + 2 + 1 + 1 + 1 + 3 + 3 + 2
    assert measures["depth"] == 6.0


def test_similarity_is_one_for_the_same_tokens_and_falls_with_change() -> None:
    initial = make_program("x = 1\ny = 2\n")
    assert built_in_measures(make_program("x = 1\n\ny  =  2"), initial)["similarity"] == 1.0
    close = built_in_measures(make_program("x = 1\ny = 3\n"), initial)["similarity"]
    far = built_in_measures(make_program("while True: break"), initial)["similarity"]
    assert 1.0 > close > far >= 0.0
    assert built_in_measures(make_program(""), make_program(""))["similarity"] == 1.0


def test_tree_measures_are_left_out_where_there_is_no_tree() -> None:
    broken, other = make_program("def f(:"), make_program("int x;", "main.c")
    assert set(built_in_measures(broken, broken)) == {"length", "similarity"}
    assert set(built_in_measures(other, other)) == {"length", "similarity"}


START = "def f(n):\n    return n\n"


def kinds(text: str) -> list[str]:
    return [one.kind for one in find_suspicions(make_program(text), make_program(START))]


@pytest.mark.parametrize(
    "text",
    [
        "def f(n):\n    if n == 26:\n        return 2.6\n    return n\n",
        "def f(xs):\n    return 1 if len(xs) == 120 else 0\n",
        "def f(n):\n    match n:\n        case 7:\n            return 1\n    return n\n",
        "ANSWERS = {3: 9, 4: 16}\n\n\ndef f(n):\n    return ANSWERS[n]\n",
        "def f(n):\n    return n in (5, 9)\n",
        "ANSWERS = {3: 9}\n\n\ndef f(n):\n    return ANSWERS.get(n, 0.5)\n",
    ],
)
def test_inputs_that_are_singled_out_are_found(text):
    assert kinds(text) == [SPECIAL_CASE]


@pytest.mark.parametrize(
    "text",
    [
        "calls = 0\n\n\ndef f(n):\n    global calls\n    calls += 1\n    return calls\n",
        "def f(n, seen=[]):\n    seen.append(n)\n    return len(seen)\n",
        "import itertools\nTURN = itertools.count()\n\n\ndef f(n):\n    return next(TURN)\n",
        "SEEN = {}\n\n\ndef f(n):\n    SEEN[n] = 1\n    return len(SEEN)\n",
        "def f(n):\n    return n\n\n\nLOG = []\n\n\ndef g(n):\n    LOG.append(n)\n",
        "def f(n):\n    f.calls = getattr(f, 'calls', 0) + 1\n    return f.calls\n",
    ],
)
def test_what_outlives_a_call_is_found(text):
    assert set(kinds(text)) == {STATE}


def test_a_long_table_of_numbers_is_found():
    assert kinds(f"T = {list(range(150))}\n\n\ndef f(n):\n    return T[n % 150]\n") == [TABLE]


@pytest.mark.parametrize(
    "text",
    [
        "def f(n):\n    if n == 0 or n == 1:\n        return n\n    return f(n - 1) + f(n - 2)\n",
        "def f(n, mode='fast'):\n    return n if mode == 'fast' else -n\n",
        "STEPS = [0.5, 0.25]\n\n\ndef f(n):\n    out = []\n    out.append(STEPS)\n    return out\n",
        "def f(n):\n    best = {}\n    best[n] = 1\n    return best\n",
        "def f(n):\n    return sum(i for i in range(n) if i % 7 == 3)\n",
    ],
)
def test_base_cases_and_local_values_are_no_signs(text):
    assert kinds(text) == []


def test_what_the_starting_program_has_is_not_held_against_others():
    text = "def f(n):\n    if n == 26:\n        return 2.6\n    return n\n"
    assert find_suspicions(make_program(text + "\n# more\n"), make_program(text)) == []


def test_a_sign_names_its_place():
    text = "def f(n):\n    return n if n != 1 else 2\n\n\ndef g(n):\n    return n == 26\n"
    (found,) = find_suspicions(make_program(text), make_program(START))
    assert (found.path, found.line, found.code) == ("initial.py", 6, "return n == 26")


def test_what_is_not_python_is_not_read():
    assert find_suspicions(make_program("if (n == 26) {}", "a.c"), make_program("", "a.c")) == []
