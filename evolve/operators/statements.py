"""Operators that move whole statements, within a program or from one to another."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from numpy.random import Generator

from evolve.operators.syntax import Line, Syntax

_FIXED = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Return,
)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def drop_statement(parent: Syntax, rng: Generator) -> str | None:
    """Leaves a statement out."""
    lines = _movable(parent)
    if not lines:
        return None
    line = _pick(lines, rng)
    rest = f"{line.indent}pass\n" if line.siblings == 1 else ""
    return parent.replace([(line.start, line.end, rest)])


def copy_statement(parent: Syntax, rng: Generator) -> str | None:
    """Does a statement again, at once or at another place of its function."""
    lines = _movable(parent)
    if not lines:
        return None
    line = _pick(lines, rng)
    target = line
    if rng.random() < 0.5:
        target = _pick([other for other in lines if other.function == line.function], rng)
    return _insert(parent, target, parent.cut(line), line.indent)


def swap_statements(parent: Syntax, rng: Generator) -> str | None:
    """Exchanges two statements that follow each other."""
    lines = {(line.body, line.index): line for line in _movable(parent)}
    pairs = [(line, lines.get((body, index + 1))) for (body, index), line in lines.items()]
    found = [(first, second) for first, second in pairs if second is not None]
    if not found:
        return None
    first, second = found[int(rng.integers(len(found)))]
    above, below = _ended(parent.cut(first)), _ended(parent.cut(second))
    between = parent.text[first.end : second.start]
    return parent.replace([(first.start, second.end, below + between + above)])


def move_statement(parent: Syntax, rng: Generator) -> str | None:
    """Takes a statement out and puts it at another place of its function."""
    lines = [line for line in _movable(parent) if line.siblings > 1]
    if not lines:
        return None
    line = _pick(lines, rng)
    targets = [
        other
        for other in _movable(parent)
        if other.function == line.function and (other.end <= line.start or other.start >= line.end)
    ]
    if not targets:
        return None
    target = _pick(targets, rng)
    text = _indented(_ended(parent.cut(line)), line.indent, target.indent)
    return parent.replace([(line.start, line.end, ""), (target.end, target.end, text)])


def cross_functions(parent: Syntax, mates: Sequence[Syntax], rng: Generator) -> str | None:
    """Takes a function from another program in place of the one of the same name."""
    ours = _functions(parent)
    found = [
        (ours[name], mate, line)
        for mate in mates
        for name, line in _functions(mate).items()
        if name in ours and mate.cut(line).strip() != parent.cut(ours[name]).strip()
    ]
    if not found:
        return None
    line, mate, other = found[int(rng.integers(len(found)))]
    text = _indented(_ended(mate.cut(other)), other.indent, line.indent)
    return parent.replace([(line.start, line.end, text)])


def cross_statements(parent: Syntax, mates: Sequence[Syntax], rng: Generator) -> str | None:
    """Takes a statement from the function of the same name of another program."""
    known = {parent.cut(line).strip() for line in parent.lines}
    functions = {line.function for line in _movable(parent)}
    donors = [
        (mate, line)
        for mate in mates
        for line in _movable(mate)
        if line.function in functions and mate.cut(line).strip() not in known
    ]
    if not donors:
        return None
    mate, donor = donors[int(rng.integers(len(donors)))]
    targets = [line for line in _movable(parent) if line.function == donor.function]
    similar = [line for line in targets if _target(line) == _target(donor)]
    text = _ended(mate.cut(donor))
    if similar and rng.random() < 0.7:
        target = _pick(similar, rng)
        new = _indented(text, donor.indent, target.indent)
        return parent.replace([(target.start, target.end, new)])
    return _insert(parent, _pick(targets, rng), text, donor.indent)


def cross_blocks(parent: Syntax, mates: Sequence[Syntax], rng: Generator) -> str | None:
    """Takes a run of statements from the function of the same name of another program.

    It stands in the place of the parent's statements between those that the two have in common.
    """
    found = [
        (body, other, mate)
        for mate in mates
        for body, other in _bodies_alike(parent, mate)
        if _text_of(parent, body) != _text_of(mate, other)
    ]
    if not found:
        return None
    ours, theirs, mate = found[int(rng.integers(len(found)))]
    first = int(rng.integers(len(theirs)))
    last = min(len(theirs) - 1, first + int(rng.integers(1, 4)))
    donors = theirs[first : last + 1]
    new = _indented(
        _ended(mate.text[donors[0].start : donors[-1].end]), donors[0].indent, ours[0].indent
    )
    start = min(first, len(ours) - 1)
    stop = min(last, len(ours) - 1)
    return parent.replace([(ours[start].start, ours[stop].end, new)])


def _bodies_alike(parent: Syntax, mate: Syntax) -> list[tuple[list[Line], list[Line]]]:
    """Pairs the bodies of functions of the same name, statement by statement in order."""
    theirs = {name: _body_of(mate, name) for name in {line.function for line in mate.lines}}
    pairs = [
        (_body_of(parent, name), theirs.get(name, []))
        for name in sorted({line.function for line in parent.lines})
    ]
    return [(ours, other) for ours, other in pairs if ours and other]


def _body_of(syntax: Syntax, function: str) -> list[Line]:
    """Returns the movable statements of a function's outermost body, in order."""
    lines = [line for line in _movable(syntax) if line.function == function]
    if not lines or not function:
        return []
    outermost = min(lines, key=lambda line: len(line.indent)).body
    return sorted((line for line in lines if line.body == outermost), key=lambda line: line.start)


def _text_of(syntax: Syntax, lines: Sequence[Line]) -> str:
    return "".join(syntax.cut(line).strip() for line in lines)


def _movable(parent: Syntax) -> list[Line]:
    return [line for line in parent.lines if not isinstance(line.node, _FIXED) and _has_code(line)]


def _has_code(line: Line) -> bool:
    return not (isinstance(line.node, ast.Expr) and isinstance(line.node.value, ast.Constant))


def _functions(parent: Syntax) -> dict[str, Line]:
    return {
        line.node.name: line
        for line in parent.lines
        if isinstance(line.node, _SCOPES) and not line.function
    }


def _target(line: Line) -> str:
    """Says what a statement sets or does, to find its counterpart."""
    if isinstance(line.node, ast.Assign):
        return ast.unparse(line.node.targets[0])
    return type(line.node).__name__


def _insert(parent: Syntax, target: Line, text: str, indent: str) -> str:
    before = "" if parent.text[: target.end].endswith("\n") else "\n"
    new = before + _indented(_ended(text), indent, target.indent)
    return parent.replace([(target.end, target.end, new)])


def _indented(text: str, old: str, new: str) -> str:
    """Moves lines from one indentation to another; those of texts over lines move along."""
    if old == new:
        return text
    lines = [
        new + line.removeprefix(old) if line.strip() else line
        for line in text.splitlines(keepends=True)
    ]
    return "".join(lines)


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _pick(items: Sequence[Line], rng: Generator) -> Line:
    return items[int(rng.integers(len(items)))]
