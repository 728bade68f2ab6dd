from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evolve.operators import statements
from evolve.operators.syntax import read_syntax

if TYPE_CHECKING:
    from collections.abc import Callable

    from evolve.operators.syntax import Syntax

    Change = Callable[[Syntax, np.random.Generator], str | None]

TEXT = """def f(x):
    '''Says what.'''
    a = 1
    # why
    b = 2
    return a + b
"""


def syntax(text: str) -> Syntax:
    found = read_syntax(text)
    assert found is not None
    return found


def results(change: Change, text: str, seeds: int = 60) -> set[str]:
    texts = (change(syntax(text), np.random.default_rng(seed)) for seed in range(seeds))
    return {new for new in texts if new is not None}


def crossed(operator: Callable[..., str | None], text: str, mate: str) -> set[str]:
    mates = [syntax(mate)]
    texts = (operator(syntax(text), mates, np.random.default_rng(seed)) for seed in range(60))
    return {new for new in texts if new is not None}


def test_a_statement_is_left_out_but_neither_docstrings_nor_returns() -> None:
    assert results(statements.drop_statement, TEXT) == {
        TEXT.replace("    a = 1\n", ""),
        TEXT.replace("    b = 2\n", ""),
    }


def test_a_body_is_never_left_empty() -> None:
    text = "for i in x:\n    f(i)\ny = 1\n"
    assert "for i in x:\n    pass\ny = 1\n" in results(statements.drop_statement, text)


def test_a_statement_is_copied_within_its_function() -> None:
    assert results(statements.copy_statement, "a = 1\nb = 2") == {
        "a = 1\na = 1\nb = 2",
        "a = 1\nb = 2\nb = 2\n",
        "a = 1\nb = 2\na = 1\n",
        "a = 1\nb = 2\nb = 2",
    }


def test_neighbours_are_exchanged_with_what_stands_between_them_kept() -> None:
    swapped = TEXT.replace("a = 1", "?").replace("b = 2", "a = 1").replace("?", "b = 2")
    assert results(statements.swap_statements, TEXT) == {swapped}
    assert results(statements.swap_statements, "a = 1\nb = 2") == {"b = 2\na = 1\n"}


def test_a_moved_statement_takes_the_indentation_of_its_new_place() -> None:
    text = "for i in x:\n    a = i\n    if a:\n        b = a\nc = 1\n"
    found = results(statements.move_statement, text)
    assert "for i in x:\n    a = i\n    if a:\n        b = a\n        c = 1\n" in found
    assert "for i in x:\n    if a:\n        b = a\n        a = i\nc = 1\n" in found


def test_functions_of_the_same_name_are_crossed() -> None:
    text = "def f(x):\n    return 1\n\n\ndef g(x):\n    return 2\n"
    mate = "def g(x):\n    y = 3\n    return y\n\n\ndef h(x):\n    return 4\n"
    assert crossed(statements.cross_functions, text, mate) == {
        "def f(x):\n    return 1\n\n\ndef g(x):\n    y = 3\n    return y\n"
    }
    assert crossed(statements.cross_functions, text, text) == set()


def test_statements_come_from_the_same_function_of_a_mate() -> None:
    text = "def f(x):\n    a = 1\n    return a\n"
    mate = "def f(x):\n    if x:\n        a = 5\n    return a\n"
    found = crossed(statements.cross_statements, text, mate)
    assert "def f(x):\n    a = 5\n    return a\n" in found
    assert "def f(x):\n    a = 1\n    if x:\n        a = 5\n    return a\n" in found
    assert crossed(statements.cross_statements, text, text) == set()
    assert crossed(statements.cross_statements, text, "def g(x):\n    a = 5\n") == set()


def test_statements_that_share_a_line_are_left_alone() -> None:
    for text in ("a = 1; b = 2\n", "if x: a = 1\n"):
        moved = results(statements.swap_statements, text) | results(statements.move_statement, text)
        assert moved == set()
