"""Signs that a program answers the test, and innocent code that has none."""

import pytest

from evolve.records import Program, SourceFile
from evolve.source.suspicions import SPECIAL_CASE, STATE, TABLE, find_suspicions

START = "def f(n):\n    return n\n"


def program(text: str, path: str = "a.py") -> Program:
    return Program((SourceFile(path, text),))


def kinds(text: str) -> list[str]:
    return [one.kind for one in find_suspicions(program(text), program(START))]


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
    assert find_suspicions(program(text + "\n# more\n"), program(text)) == []


def test_a_sign_names_its_place():
    text = "def f(n):\n    return n if n != 1 else 2\n\n\ndef g(n):\n    return n == 26\n"
    (found,) = find_suspicions(program(text), program(START))
    assert (found.path, found.line, found.code) == ("a.py", 6, "return n == 26")


def test_what_is_not_python_is_not_read():
    assert find_suspicions(program("if (n == 26) {}", "a.c"), program("", "a.c")) == []
