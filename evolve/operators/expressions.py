"""Operators that change expressions: each finds its places in a file, and changes one of them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import TypeVar

from numpy.random import Generator

from evolve.operators.syntax import Place, Symbol, Syntax, edit_text, format_number, pick

P = TypeVar("P", bound=Place | Symbol | tuple[Place, Place])
Change = Callable[[Syntax, Generator], str | None]
"""Returns the changed text of a file; None where it finds no place."""
PlaceChange = Callable[[Syntax, P, Generator], str | None]

Symbols = dict[type[ast.AST], str]

EXPRESSIONS: dict[str, Change] = {}
"""The changes of this module by name."""

# What may stand in one another's place; all others are changed to arithmetic.
_ARITHMETIC: Symbols = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_ORDER: Symbols = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_BOOLEAN: Symbols = {ast.And: "and", ast.Or: "or"}
_UNLIKE: Symbols = {ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**"}
_SYMBOLS = _ARITHMETIC | _ORDER | _BOOLEAN | _UNLIKE
_SYMMETRIC = {"+", "*", "==", "!=", "and", "or"}
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
_COMPOUND = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Lambda)
_COMPUTED = (ast.BinOp, ast.Name, ast.Call, ast.Constant, ast.UnaryOp)


def _at(find: Callable[[Syntax], Sequence[P]]) -> Callable[[PlaceChange[P]], PlaceChange[P]]:
    """Adds a function that changes one of some places to the changes of this module."""

    def register(change: PlaceChange[P]) -> PlaceChange[P]:
        def change_any(parent: Syntax, rng: Generator) -> str | None:
            places = find(parent)
            return change(parent, pick(places, rng), rng) if places else None

        EXPRESSIONS[change.__name__] = change_any
        return change

    return register


def _values(parent: Syntax) -> list[Place]:
    """Lists expressions that stand for a value of their own: no called names, no subscripts."""
    return [
        place
        for place in parent.places
        if not isinstance(place.node, ast.Tuple | ast.List | ast.GeneratorExp | ast.Lambda)
        and not (isinstance(place.node, ast.Constant) and isinstance(place.node.value, str))
        and not _is_called(place)
        and not isinstance(place.parent, ast.Attribute | ast.Expr | ast.For | ast.comprehension)
    ]


def _values_in_loops(parent: Syntax) -> list[Place]:
    return [one for one in _values(parent) if one.loops and isinstance(one.node, _COMPUTED)]


def _exchangeable(parent: Syntax) -> Sequence[Symbol | Place]:
    return parent.symbols or [place for place in parent.places if _split(place.node)]


def _asymmetric(parent: Syntax) -> list[Place]:
    pairs = ((place, _split(place.node)) for place in parent.places)
    return [place for place, parts in pairs if parts and parts[1] not in _SYMMETRIC]


def _calls(parent: Syntax) -> list[Place]:
    return [one for one in parent.places if _is_called(one) and _relatives(one.node)]


def _ranges(parent: Syntax) -> list[Place]:
    called = ((place, getattr(place.node, "func", None)) for place in parent.places)
    return [place for place, func in called if isinstance(func, ast.Name) and func.id == "range"]


def _lifted(parent: Syntax) -> list[tuple[Place, Place]]:
    """Lists pairs of an expression and a part of it."""
    values = _values(parent)
    by_node = {place.node: place for place in values}
    return [(by_node[one.parent], one) for one in values if one.parent in by_node]


@_at(_exchangeable)
def change_operator(parent: Syntax, place: Symbol | Place, rng: Generator) -> str:
    """Puts another arithmetic, comparison or boolean operator in the place of one."""
    if isinstance(place, Symbol):
        old = _cut(parent, place)
        new = pick([symbol for symbol in place.group if symbol != old], rng)
        return edit_text(parent.text, [(place.start, place.end, new)])
    left, symbol, right = _split_source(parent, place)
    alike = next((one for one in (_ORDER, _BOOLEAN) if symbol in one.values()), _ARITHMETIC)
    new = pick([other for other in alike.values() if other != symbol], rng)
    return _put(parent, place, f"{left} {new} {right}")


@_at(_asymmetric)
def swap_operands(parent: Syntax, place: Place, _rng: Generator) -> str:
    """Exchanges the two sides of an operator whose sides matter."""
    left, symbol, right = _split_source(parent, place)
    return _put(parent, place, f"{right} {symbol} {left}")


@_at(_calls)
def change_call(parent: Syntax, place: Place, rng: Generator) -> str:
    """Calls another function of the same family, such as `max` for `min`."""
    new = pick(_relatives(place.node), rng)
    return edit_text(parent.text, [(place.end - len(_last_name(place.node)), place.end, new)])


@_at(_ranges)
def change_range(parent: Syntax, place: Place, rng: Generator) -> str | None:
    """Moves a bound of a `range` by one or two, or makes a loop run backwards."""
    if rng.random() < 0.15:
        return _put(parent, place, f"reversed({_cut(parent, place)})")
    bounds = [inner for inner in _values(parent) if inner.parent is place.node]
    if not bounds:
        return None
    bound = pick(bounds, rng)
    step = int(rng.integers(1, 3))
    return _put(parent, bound, f"{_cut(parent, bound)} {pick(('+', '-'), rng)} {step}")


@_at(_values)
def replace_expression(parent: Syntax, place: Place, rng: Generator) -> str:
    """Puts a number, a name or another expression of the same function in place of one."""
    donors = [other for other in _values(parent) if other.function == place.function]
    names = [other for other in donors if isinstance(other.node, ast.Name)]
    kind = int(rng.integers(3))
    if kind == 0:
        return _put(parent, place, format_number(round(10.0 ** rng.uniform(-2.0, 1.0), 3)))
    return _put(parent, place, _cut(parent, pick((names if kind == 1 else []) or donors, rng)))


@_at(_lifted)
def lift_expression(parent: Syntax, pair: tuple[Place, Place], _rng: Generator) -> str:
    """Puts a part of an expression in the place of the whole."""
    whole, part = pair
    return _put(parent, whole, _cut(parent, part))


@_at(_values)
def scale_expression(parent: Syntax, place: Place, rng: Generator) -> str:
    """Multiplies an expression by a new constant near 1, or adds one near 0 to it."""
    offset = _draw_offset(rng)
    if rng.random() < 0.5:
        factor = format_number(round(1.0 + offset, 4))
        return _put(parent, place, f"{_cut_operand(parent, place)} * {factor}")
    return _add(parent, place, offset)


@_at(_values_in_loops)
def single_out(parent: Syntax, place: Place, rng: Generator) -> str:
    """Treats one turn of a loop differently from the others, by a small amount."""
    offset = _draw_offset(rng)
    turn = int(10.0 ** rng.uniform(0.0, 1.6)) - 1
    return _add(parent, place, offset, f" * ({pick(place.loops, rng)} == {turn})")


@_at(_values_in_loops)
def use_loop_variable(parent: Syntax, place: Place, rng: Generator) -> str:
    """Makes an expression in a loop depend on how far the loop is, a little."""
    offset = _draw_offset(rng) * 0.3
    name = pick(place.loops, rng)
    period = int(rng.integers(2, 5))
    return _add(parent, place, offset, f" * {pick((name, f'({name} % {period})'), rng)}")


def _draw_offset(rng: Generator) -> float:
    """Draws a number of either sign on a scale from 0.001 to 0.3."""
    return float(10.0 ** rng.uniform(-3.0, -0.5) * rng.standard_normal())


def _add(parent: Syntax, place: Place, offset: float, factor: str = "") -> str:
    text = f"{_cut_operand(parent, place)} + {format_number(round(offset, 4))}{factor}"
    return _put(parent, place, text.replace("+ -", "- "))


def _split(node: ast.expr) -> tuple[ast.expr, str, ast.expr] | None:
    """Returns both operands of an operator and the operator between them."""
    match node:
        case (
            ast.BinOp(left, operator, right)
            | ast.Compare(left, [operator], [right])
            | ast.BoolOp(operator, [left, right])
        ) if type(operator) in _SYMBOLS:
            return left, _SYMBOLS[type(operator)], right
    return None


def _split_source(parent: Syntax, place: Place) -> tuple[str, str, str]:
    """Returns both operands as source, and the operator between them."""
    left, symbol, right = _split(place.node) or (place.node, "", place.node)
    by_node = {other.node: other for other in parent.places}
    sides = [
        _cut_operand(parent, by_node[node]) if node in by_node else ast.unparse(node)
        for node in (left, right)
    ]
    return sides[0], symbol, sides[1]


def _is_called(place: Place) -> bool:
    return isinstance(place.parent, ast.Call) and place.parent.func is place.node


def _relatives(node: ast.expr) -> list[str]:
    name = _last_name(node)
    is_built_in = isinstance(node, ast.Name) and any(name in each for each in _BUILT_IN_FAMILIES)
    families = _BUILT_IN_FAMILIES if is_built_in else _LIBRARY_FAMILIES
    return [other for family in families if name in family for other in family if other != name]


def _last_name(node: ast.expr) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _cut(parent: Syntax, place: Place | Symbol) -> str:
    return parent.text[place.start : place.end]


def _cut_operand(parent: Syntax, place: Place) -> str:
    """Returns the source of an operand, in parentheses where it has an operator of its own."""
    text = _cut(parent, place)
    return f"({text})" if isinstance(place.node, _COMPOUND) else text


def _put(parent: Syntax, place: Place, text: str) -> str:
    """Replaces an expression, in parentheses where its surroundings might tear it apart."""
    is_bare = isinstance(place.parent, _BARE_PARENTS) or text.replace(".", "", 1).isalnum()
    new = text if is_bare else f"({text})"
    return edit_text(parent.text, [(place.start, place.end, new)])
