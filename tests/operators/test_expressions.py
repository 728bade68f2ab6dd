from __future__ import annotations

import ast

import numpy as np
import pytest

from evolve.operators.expressions import EXPRESSIONS
from evolve.operators.syntax import read_syntax


def results(name: str, text: str, seeds: int = 60) -> set[str]:
    """Collects what an operator makes of a text, written uniformly."""
    found = read_syntax("a.py", text)
    assert found is not None
    texts = [EXPRESSIONS[name](found, np.random.default_rng(seed)) for seed in range(seeds)]
    return {ast.unparse(ast.parse(new)) for new in texts if new is not None}


def test_operators_are_exchanged_within_their_kind() -> None:
    assert results("change_operator", "y = a + b * c") >= {
        "y = a - b * c",
        "y = a + b / c",
        "y = a / (b * c)",
    }
    assert results("change_operator", "y = a < b") == {
        f"y = a {symbol} b" for symbol in ("<=", ">", ">=", "==", "!=")
    }
    assert results("change_operator", "y = a and b") == {"y = a or b"}
    assert results("change_operator", "y = a < b < c or d or e") == set()


def test_sides_are_exchanged_where_they_matter() -> None:
    assert results("swap_operands", "y = a - b + c") == {"y = b - a + c"}
    assert results("swap_operands", "y = (a - 1) / b") == {
        "y = b / (a - 1)",
        "y = (1 - a) / b",
    }


def test_calls_are_exchanged_within_their_family() -> None:
    assert results("change_call", "y = min(a, b)") == {
        f"y = {name}(a, b)" for name in ("max", "sum")
    }
    assert results("change_call", "y = np.argmin(a)") == {"y = np.argmax(a)"}
    assert "y = np.median(a)" in results("change_call", "y = np.min(a)")
    assert results("change_call", "y = mine(a)") == set()


def test_bounds_of_ranges_move() -> None:
    found = results("change_range", "for i in range(n):\n    f(i)\n")
    changed = {text.splitlines()[0] for text in found}
    assert changed == {
        "for i in range(n + 1):",
        "for i in range(n + 2):",
        "for i in range(n - 1):",
        "for i in range(n - 2):",
        "for i in reversed(range(n)):",
    }


def test_expressions_are_replaced_by_what_the_function_knows() -> None:
    found = results("replace_expression", "def f(a, b):\n    return a - b\n", 100)
    bodies = {text.splitlines()[1].strip() for text in found}
    assert {"return b - b", "return a - a", "return a", "return b"} <= bodies


def test_parts_take_the_place_of_the_whole() -> None:
    assert results("lift_expression", "y = a * (b + 1)") == {
        "y = a",
        "y = b + 1",
        "y = a * b",
        "y = a * 1",
    }


def test_new_constants_begin_near_to_no_effect() -> None:
    for text in results("scale_expression", "y = x"):
        value = eval(text.removeprefix("y = "), {"x": 1.0})
        assert abs(value - 1.0) < 1.5


def test_one_turn_of_a_loop_is_singled_out() -> None:
    text = "for i, (x, y) in enumerate(z):\n    w = x\nw = 1\n"
    found = results("single_out", text)
    assert found
    assert all(" * (i == " in new and new.endswith("w = 1") for new in found)
    assert results("single_out", "w = x\n") == set()


def test_loop_variables_are_brought_in() -> None:
    found = results("use_loop_variable", "for i in z:\n    w = x\n")
    assert any(new.endswith("* i") for new in found)
    assert any("* (i % " in new for new in found)


@pytest.mark.parametrize(
    "text", ["f'{a + 1}'", "@a(1)\ndef f(x: int) -> int: pass", "'text'", "import a", "x = 'a'"]
)
def test_texts_annotations_and_decorators_are_left_alone(text: str) -> None:
    for name in ("scale_expression", "change_operator"):
        assert results(name, text) == set()
