"""Small numeric idioms learnt from elites: expressions with the names of another place in them."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from numpy.random import Generator

from evolve.operators.syntax import Place, Syntax
from evolve.source.parsing import parse_expression

_FEWEST, _MOST = 4, 24
_HOLDERS = (ast.Assign, ast.AugAssign, ast.Return, ast.Call, ast.BinOp, ast.Tuple, ast.Compare)
_KINDS = (ast.BinOp, ast.Call, ast.IfExp, ast.Compare)


def insert_idiom(parent: Syntax, mates: Sequence[Syntax], rng: Generator) -> str | None:
    """Puts the form of an elite's expression in the place of one, with names known there.

    Names that the place knows stay, others become names of the same function; a third of the time
    the old expression takes the place of one of them, so that the idiom works on it.
    """
    donors = [(mate, place) for mate in (*mates, parent) for place in _idioms(mate)]
    places = [place for place in parent.places if _is_value(place)]
    if not donors or not places:
        return None
    mate, donor = donors[int(rng.integers(len(donors)))]
    place = places[int(rng.integers(len(places)))]
    known = _names_near(parent, place)
    if not known:
        return None
    old = parent.cut(place)
    text = _fill(mate.cut(donor), known, old if rng.random() < 1 / 3 else "", rng)
    return parent.replace([(place.start, place.end, f"({text})")])


def _idioms(syntax: Syntax) -> list[Place]:
    """Lists expressions of numbers that say something and are not long."""
    return [
        place
        for place in syntax.places
        if _is_value(place)
        and isinstance(place.node, _KINDS)
        and _FEWEST <= sum(1 for _ in ast.walk(place.node)) <= _MOST
        and not any(isinstance(one, ast.Lambda | ast.comprehension) for one in ast.walk(place.node))
        and "\n" not in syntax.cut(place)
    ]


def _is_value(place: Place) -> bool:
    """Returns whether an expression stands where a number may."""
    node = place.node
    return (
        isinstance(place.parent, _HOLDERS)
        and not (isinstance(place.parent, ast.Call) and place.parent.func is node)
        and not isinstance(node, ast.Tuple | ast.List | ast.GeneratorExp | ast.Lambda | ast.Dict)
        and not (isinstance(node, ast.Constant) and isinstance(node.value, str))
    )


def _names_near(parent: Syntax, place: Place) -> list[str]:
    """Lists the names that are read as values in the same function up to the place."""
    return [
        other.node.id
        for other in parent.places
        if other.function == place.function
        and other.start <= place.end
        and isinstance(other.node, ast.Name)
        and _is_value(other)
    ]


def _fill(text: str, known: Sequence[str], old: str, rng: Generator) -> str:
    """Returns an idiom with names that are not known replaced by known ones, alike by alike."""
    tree = parse_expression(text)
    called = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call | ast.Attribute)
        for part in ast.walk(node.func if isinstance(node, ast.Call) else node.value)
    }
    free = [one for one in ast.walk(tree) if isinstance(one, ast.Name) and id(one) not in called]
    names = list(dict.fromkeys(one.id for one in free))
    chosen = {
        name: name if name in known and rng.random() < 0.5 else known[int(rng.integers(len(known)))]
        for name in names
    }
    if names and old:
        chosen[names[int(rng.integers(len(names)))]] = old
    parts = {id(one): parse_expression(f"({chosen[one.id]})").body for one in free}
    return ast.unparse(_Replacer(parts).visit(tree))


class _Replacer(ast.NodeTransformer):
    def __init__(self, parts: dict[int, ast.expr]) -> None:
        self._parts = parts

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._parts.get(id(node), node)
