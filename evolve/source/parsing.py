"""Python source to syntax trees, from several threads and without a word on the terminal."""

from __future__ import annotations

import ast
import re
import symtable
import threading
import warnings

FILE_NAME = "<program>"
# Before Python 3.11.8, threads that parse at the same time may meet a SystemError (CPython issue
# 106905).
_turn = threading.Lock()


def parse_module(text: str) -> ast.Module:
    """Parses a file's text.

    Raises:
        SyntaxError: It is no Python.
        ValueError: It holds NUL.
        RecursionError: It is nested too deeply.
        MemoryError: It is nested too deeply for the parser.
    """
    # Not `catch_warnings`, which is not safe between threads: one filter that only matches
    # the name under which programs are parsed, added where it is not there yet.
    warnings.filterwarnings("ignore", module=re.escape(FILE_NAME))
    with _turn:
        return ast.parse(text, FILE_NAME)


def parse_expression(text: str) -> ast.Expression:
    """Parses an expression; raises what `parse_module` raises."""
    with _turn:
        return ast.parse(text, FILE_NAME, mode="eval")


def list_scopes(text: str) -> list[symtable.SymbolTable]:
    """Returns the scopes of a file's text, the module first; raises what `parse_module` raises."""
    with _turn:
        scopes = [symtable.symtable(text, FILE_NAME, "exec")]
    for scope in scopes:
        scopes += scope.get_children()
    return scopes
