import ast

import numpy as np

from evolve.operators.idioms import insert_idiom
from evolve.operators.statements import cross_blocks
from evolve.operators.syntax import Syntax, read_syntax

PARENT = "def f(a, b):\n    c = a\n    d = b + c\n    return d\n"
MATE = "import math\ndef f(u, v):\n    w = min(max(u, v), 1.0 - math.cos(v))\n    return w\n"


def syntax(text: str) -> Syntax:
    found = read_syntax(text)
    assert found is not None
    return found


def test_an_idiom_of_an_elite_is_written_with_names_of_its_new_place() -> None:
    found = set()
    for seed in range(200):
        text = insert_idiom(syntax(PARENT), [syntax(MATE)], np.random.default_rng(seed))
        assert text is not None
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        assert names <= {"a", "b", "c", "d", "min", "max", "math"}
        found.add(text.replace(" ", ""))
    assert any("min(max(" in text for text in found)
    assert len(found) > 20


def test_without_names_or_idioms_nothing_is_inserted() -> None:
    rng = np.random.default_rng(0)
    assert insert_idiom(syntax("x = 1\n"), [], rng) is None
    assert insert_idiom(syntax("x = 1\n"), [syntax(MATE)], rng) is None


def test_a_run_of_statements_comes_from_the_function_of_the_same_name() -> None:
    parent = syntax("def f(a):\n    b = a\n    c = b\n    return c\n")
    mate = syntax("def f(a):\n    b = a * 2\n    if a:\n        b = 3\n    c = -b\n    return c\n")
    texts = {cross_blocks(parent, [mate], np.random.default_rng(seed)) for seed in range(40)}
    assert "def f(a):\n    b = a * 2\n    if a:\n        b = 3\n    return c\n" in texts
    assert "def f(a):\n    b = a\n    if a:\n        b = 3\n    c = -b\n    return c\n" in texts
    for text in texts:
        assert text is not None
        ast.parse(text)


def test_programs_that_are_alike_have_no_blocks_to_give() -> None:
    parent = syntax(PARENT)
    assert cross_blocks(parent, [syntax(PARENT)], np.random.default_rng(0)) is None
    assert cross_blocks(parent, [syntax("x = 1\n")], np.random.default_rng(0)) is None
