"""What Python statements define and use."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from evolve.source.parsing import bound_names, list_statements

if TYPE_CHECKING:
    from collections.abc import Iterable


def slice_statements(text: str) -> list[tuple[ast.stmt, str]]:
    """Returns the statements at the top level with their source."""
    lines = text.replace("\r\n", "\n").split("\n")
    return [
        (node, "\n".join(lines[first_line(node) - 1 : node.end_lineno]))
        for node in list_statements("\n".join(lines))
    ]


def first_line(node: ast.stmt) -> int:
    """Returns the line, counted from 1, where a statement starts, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def loaded_names(statements: Iterable[ast.stmt]) -> set[str]:
    """Returns the names that statements use, at any depth."""
    return {
        child.id
        for node in statements
        for child in ast.walk(node)
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load)
    }


def needed_names(block: str, frozen: str) -> set[str]:
    """Returns the names that a block must define.

    Those are the ones that the frozen part uses, and the functions and classes that nothing in
    the block uses: somebody outside must.
    """
    statements = list_statements(block)
    offered = bound_names(
        node
        for node in statements
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    )
    used: set[str] = set()
    for node in statements:
        used |= loaded_names([node]) - bound_names([node])
    return (offered - used) | (loaded_names(list_statements(frozen)) & bound_names(statements))
