"""Operators that change expressions."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TypeVar

from numpy.random import Generator

from evolve.operators.constants import draw_offset, format_number
from evolve.operators.syntax import Place, Syntax

T = TypeVar("T")

_ARITHMETIC = ("+", "-", "*", "/")
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.And: "and",
    ast.Or: "or",
}
# Calls that take the same arguments: of names, and of attributes such as `np.sin`.
_BUILT_IN_FAMILIES = (
    ("min", "max"),
    ("sum", "max", "min"),
    ("any", "all"),
    ("abs", "round"),
    ("sorted", "list", "reversed"),
)
_LIBRARY_FAMILIES = (
    ("sin", "cos", "tan", "tanh"),
    ("arcsin", "arccos", "arctan"),
    ("floor", "ceil", "round", "trunc"),
    ("sqrt", "cbrt", "log1p", "exp", "abs", "log", "square"),
    ("minimum", "maximum", "add", "subtract", "multiply", "hypot"),
    ("argmin", "argmax"),
    ("mean", "median", "std", "var", "sum", "min", "max", "prod"),
    ("zeros", "ones"),
    ("cumsum", "cumprod"),
)
_BARE_PARENTS = (ast.Assign, ast.AugAssign, ast.Return, ast.Call, ast.Tuple, ast.List, ast.keyword)


def change_operator(parent: Syntax, rng: Generator) -> str | None:
    """Puts another arithmetic, comparison or boolean operator in the place of one."""
    if parent.symbols:
        found = _pick(parent.symbols, rng)
        old = parent.text[found.start : found.end]
        new = _pick([symbol for symbol in found.group if symbol != old], rng)
        return parent.replace([(found.start, found.end, new)])
    places = [place for place in parent.places if len(_operands(place.node)) == 2]
    if not places:
        return None
    place = _pick(places, rng)
    symbol = _symbol(place.node)
    choices = next(
        (group for group in (_ARITHMETIC, _COMPARISONS, ("and", "or")) if symbol in group),
        _ARITHMETIC,
    )
    others = [choice for choice in choices if choice != symbol]
    left, right = (_cut_node(parent, node) for node in _operands(place.node))
    return _put(parent, place, f"{left} {_pick(others, rng)} {right}")


def swap_operands(parent: Syntax, rng: Generator) -> str | None:
    """Exchanges the two sides of an operator whose sides matter."""
    symmetric = {"+", "*", "==", "!=", "and", "or"}
    places = [
        place
        for place in parent.places
        if len(_operands(place.node)) == 2 and _symbol(place.node) not in symmetric
    ]
    if not places:
        return None
    place = _pick(places, rng)
    left, right = (_cut_node(parent, node) for node in _operands(place.node))
    return _put(parent, place, f"{right} {_symbol(place.node)} {left}")


def change_call(parent: Syntax, rng: Generator) -> str | None:
    """Calls another function of the same family, such as `max` for `min`."""
    places = [
        place
        for place in parent.places
        if isinstance(place.parent, ast.Call)
        and place.parent.func is place.node
        and _relatives(place.node)
    ]
    if not places:
        return None
    place = _pick(places, rng)
    new = _pick(_relatives(place.node), rng)
    return parent.replace([(place.end - len(_last_name(place.node)), place.end, new)])


def change_range(parent: Syntax, rng: Generator) -> str | None:
    """Moves a bound of a `range` by one or two, or makes a loop run backwards."""
    places = [place for place in parent.places if _is_call_of(place.node, "range")]
    if not places:
        return None
    place = _pick(places, rng)
    if rng.random() < 0.15:
        return _put(parent, place, f"reversed({parent.cut(place)})")
    bounds = _parts(place.node, parent)
    if not bounds:
        return None
    bound = _pick(bounds, rng)
    step = int(rng.integers(1, 3))
    return _put(parent, bound, f"{parent.cut(bound)} {_pick(('+', '-'), rng)} {step}")


def replace_expression(parent: Syntax, rng: Generator) -> str | None:
    """Puts a number, a name or another expression of the same function in place of one."""
    places = _values(parent)
    if not places:
        return None
    place = _pick(places, rng)
    donors = [other for other in places if other.function == place.function]
    names = [other for other in donors if isinstance(other.node, ast.Name)]
    kind = int(rng.integers(3))
    if kind == 0:
        return _put(parent, place, format_number(round(10.0 ** rng.uniform(-2.0, 1.0), 3)))
    return _put(parent, place, parent.cut(_pick(names if kind == 1 and names else donors, rng)))


def lift_expression(parent: Syntax, rng: Generator) -> str | None:
    """Puts a part of an expression in the place of the whole."""
    places = _values(parent)
    by_node = {id(place.node): place for place in places}
    inside = [(by_node[id(inner.parent)], inner) for inner in places if id(inner.parent) in by_node]
    if not inside:
        return None
    place, inner = _pick(inside, rng)
    return _put(parent, place, parent.cut(inner))


def scale_expression(parent: Syntax, rng: Generator) -> str | None:
    """Multiplies an expression by a new constant near 1, or adds one near 0 to it."""
    places = _values(parent)
    if not places:
        return None
    place = _pick(places, rng)
    offset = draw_offset(rng)
    inner = _enclose(place, parent.cut(place))
    if rng.random() < 0.5:
        return _put(parent, place, f"{inner} * {format_number(round(1.0 + offset, 4))}")
    return _put(parent, place, f"{inner} + {format_number(round(offset, 4))}".replace("+ -", "- "))


def single_out(parent: Syntax, rng: Generator) -> str | None:
    """Treats one turn of a loop differently from the others, by a small amount."""
    places = [place for place in _values(parent) if place.loops and _is_computed(place)]
    if not places:
        return None
    place = _pick(places, rng)
    offset = format_number(round(draw_offset(rng), 4))
    turn = int(10.0 ** rng.uniform(0.0, 1.6)) - 1
    name = _pick(place.loops, rng)
    inner = _enclose(place, parent.cut(place))
    return _put(parent, place, f"{inner} + {offset} * ({name} == {turn})".replace("+ -", "- "))


def use_loop_variable(parent: Syntax, rng: Generator) -> str | None:
    """Makes an expression in a loop depend on how far the loop is, a little."""
    places = [place for place in _values(parent) if place.loops and _is_computed(place)]
    if not places:
        return None
    place = _pick(places, rng)
    offset = format_number(round(draw_offset(rng) * 0.3, 4))
    name = _pick(place.loops, rng)
    period = int(rng.integers(2, 5))
    term = _pick((name, f"({name} % {period})"), rng)
    inner = _enclose(place, parent.cut(place))
    return _put(parent, place, f"{inner} + {offset} * {term}".replace("+ -", "- "))


def _values(parent: Syntax) -> list[Place]:
    """Lists expressions that stand for a value of their own: no called names, no subscripts."""
    return [
        place
        for place in parent.places
        if not isinstance(place.node, ast.Tuple | ast.List | ast.GeneratorExp | ast.Lambda)
        and not (isinstance(place.node, ast.Constant) and isinstance(place.node.value, str))
        and not (isinstance(place.parent, ast.Call) and place.parent.func is place.node)
        and not isinstance(place.parent, ast.Attribute | ast.Expr | ast.For | ast.comprehension)
    ]


def _is_computed(place: Place) -> bool:
    return isinstance(place.node, ast.BinOp | ast.Name | ast.Call | ast.Constant | ast.UnaryOp)


def _parts(node: ast.expr, parent: Syntax) -> list[Place]:
    return [inner for inner in _values(parent) if inner.parent is node]


def _operands(node: ast.expr) -> tuple[ast.expr, ...]:
    if isinstance(node, ast.BinOp) and type(node.op) in _SYMBOLS:
        return (node.left, node.right)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _SYMBOLS:
        return (node.left, node.comparators[0])
    return tuple(node.values) if isinstance(node, ast.BoolOp) else ()


def _symbol(node: ast.expr) -> str:
    if isinstance(node, ast.Compare):
        return _SYMBOLS[type(node.ops[0])]
    return _SYMBOLS[type(node.op)] if isinstance(node, ast.BinOp | ast.BoolOp) else ""


def _relatives(node: ast.expr) -> list[str]:
    name = _last_name(node)
    is_built_in = isinstance(node, ast.Name) and any(name in each for each in _BUILT_IN_FAMILIES)
    families = _BUILT_IN_FAMILIES if is_built_in else _LIBRARY_FAMILIES
    return [other for family in families if name in family for other in family if other != name]


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_call_of(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _cut_node(parent: Syntax, node: ast.expr) -> str:
    """Returns the source of an operand, in parentheses where it has an operator of its own."""
    inner = next((other for other in parent.places if other.node is node), None)
    return _enclose(inner, parent.cut(inner)) if inner is not None else ast.unparse(node)


def _enclose(place: Place, text: str) -> str:
    compound = ast.BinOp | ast.UnaryOp | ast.BoolOp | ast.Compare | ast.IfExp | ast.Lambda
    return f"({text})" if isinstance(place.node, compound) else text


def _put(parent: Syntax, place: Place, text: str) -> str:
    """Replaces an expression, in parentheses where its surroundings might tear it apart."""
    bare = isinstance(place.parent, _BARE_PARENTS) or text.replace(".", "", 1).isalnum()
    return parent.replace([(place.start, place.end, text if bare else f"({text})")])


def _pick(items: Sequence[T], rng: Generator) -> T:
    return items[int(rng.integers(len(items)))]
