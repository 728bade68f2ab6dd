import pytest

from evolve.records import Program, SourceFile
from evolve.source import fingerprint


def equal(left: str, right: str) -> bool:
    marks = [fingerprint(Program((SourceFile("initial.py", text),))) for text in (left, right)]
    return marks[0] == marks[1]


ALIKE = [
    ("def f(n):\n    a = n\n    return a + 1", "def f(n):\n    b = n\n    return b + 1"),
    (
        "def f(n):\n    for i in n:\n        print(i)",
        "def f(n):\n    for k in n:\n        print(k)",
    ),
    ("def f(n):\n    return [i * 2 for i in n]", "def f(n):\n    return [j * 2 for j in n]"),
    (
        "def f(n):\n    x, y = n\n    x += y\n    return {x: y for y in n}",
        "def f(n):\n    p, q = n\n    p += q\n    return {p: q for q in n}",
    ),
    (
        "def f():\n    with g() as a:\n        return a",
        "def f():\n    with g() as b:\n        return b",
    ),
]
DIFFERENT = [
    ("def f(a):\n    return a", "def f(b):\n    return b"),
    ("a = 1", "b = 1"),
    ("def f():\n    return a", "def f():\n    return b"),
    ("def f(n):\n    x = 1\n    return x - y", "def f(n):\n    y = 1\n    return y - x"),
    ("def f(n):\n    a, b = n\n    return a - b", "def f(n):\n    a, b = n\n    return b - a"),
    (
        "def f(n):\n    a = 1\n    def g():\n        return a\n    return g",
        "def f(n):\n    b = 1\n    def g():\n        return a\n    return g",
    ),
    (
        "def f():\n    global a\n    a = 1",
        "def f():\n    global b\n    b = 1",
    ),
    ("def f():\n    a = 1\n    return locals()", "def f():\n    b = 1\n    return locals()"),
    ("def f(n):\n    return [a for a in n] + a", "def f(n):\n    return [b for b in n] + b"),
    ("def f(n):\n    return [a for a in a]", "def f(n):\n    return [b for b in b]"),
    ("def f():\n    import a\n    return a", "def f():\n    import b\n    return b"),
    (
        "def f():\n    try:\n        g()\n    except E as a:\n        a = 1",
        "def f():\n    try:\n        g()\n    except E as b:\n        b = 1",
    ),
]


@pytest.mark.parametrize(("left", "right"), ALIKE)
def test_names_of_local_variables_do_not_count(left: str, right: str) -> None:
    assert equal(left, right)


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_names_that_others_see_or_that_differ_in_their_role_count(left: str, right: str) -> None:
    assert not equal(left, right)
