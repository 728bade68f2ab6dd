"""What a function uses of the files around it, gathered into one text."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import os
import subprocess
import symtable
import sys
import sysconfig
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from evolve.errors import UsageError
from evolve.problem.gallery import imported_names

LATE_ANNOTATIONS = "from __future__ import annotations\n\n"
"""Makes annotations texts: what they name need not be there."""

_COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr"}
_FINDS = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]).origin)"
_STANDARD = str(Path(os.__file__).parent), sysconfig.get_path("platstdlib")


class Names(NamedTuple):
    """The names that a definition uses of its file.

    Attributes:
        at_once: When it is defined: in its decorators, defaults, bases and class bodies.
        later: When it is called.
    """

    at_once: set[str]
    later: set[str]


class _Definition(NamedTuple):
    """A function or class, or a second name of one: its text, and what it uses."""

    text: str
    names: Names


class Gathered:
    """What an evaluator uses of the files around it, gathered into one."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[Any, str]] = {}
        self._imports: set[str] = set()
        self._constants: dict[str, str] = {}
        self._definitions: dict[str, _Definition] = {}

    @property
    def names(self) -> Iterable[str]:
        """Returns all names that are used."""
        return self._owners

    def write(self, name: str) -> str:
        """Returns the text: each part after those that it needs when it is defined."""
        texts: list[str] = []
        seen: set[str] = set()

        def place(name: str) -> None:
            part = self._definitions.get(name)
            if part is None or name in seen:
                return
            seen.add(name)
            for one in sorted(part.names.at_once):
                place(one)
            texts.append(part.text.strip())
            for one in sorted(part.names.later):
                place(one)

        place(name)
        constants = [self._constants[one] for one in sorted(self._constants)]
        blocks = ["\n".join(sorted(self._imports)), "\n".join(constants)]
        body = "\n\n".join(block for block in blocks if block)
        return LATE_ANNOTATIONS + "\n\n\n".join([body, *texts] if body else texts) + "\n"

    def take(self, name: str, value: Any, home: str) -> None:
        """Takes a value under a name, with all that it uses.

        Args:
            name: As the evaluator's code calls it.
            value: What it is now.
            home: The module that calls it so.

        Raises:
            UsageError: It only lives in this process, or another value has the name.
        """
        spelled = _spell(value)
        if name in self._owners:
            other, where = self._owners[name]
            if other is not value and (not spelled or _spell(other) != spelled):
                raise UsageError(
                    f"evaluate: `{name}` of {where} and `{name}` of {home} are different things, "
                    "and both would go into one file; rename one of them"
                )
            return
        self._owners[name] = value, home
        if isinstance(value, ModuleType):
            _expect_importable(value.__name__)
            alias = "" if name == value.__name__ else f" as {name}"
            self._imports.add(f"import {value.__name__}{alias}")
        elif spelled:
            self._constants[name] = f"{name} = {spelled}"
        elif line := _find_import(name, value):
            self._imports.add(line)
        elif callable(value) and isinstance(inspect.unwrap(value), FunctionType | type):
            self._take_definition(name, value)
        else:
            raise UsageError(
                f"evaluate: uses `{name}` ({type(value).__name__}), which only lives in this "
                "process; build it inside the function, or give the path of a file"
            )

    def _take_definition(self, name: str, value: Any) -> None:
        source, plain = source_of(value, name), inspect.unwrap(value)
        own = plain.__name__
        if own != name:
            self.take(own, value, plain.__module__)
            self._definitions[name] = _Definition(f"{name} = {own}", Names({own}, set()))
            return
        names, scope = split_names(source), scope_of(plain)
        used = names.at_once | names.later
        around = closes_over(plain)
        if isinstance(plain, type) and "<locals>" in plain.__qualname__:
            around = sorted(used - {own} - set(scope) - set(dir(builtins)))
        if around:
            raise UsageError(
                f"evaluate: closes over {', '.join(f'`{one}`' for one in around)} of the function "
                "around it; pass the value in through a constant at the top of its file"
            )
        self._definitions[name] = _Definition(source, names)
        for module in imported_names(source):
            _expect_importable(module)
        self._imports |= _submodules(source, scope)
        for one in sorted(used):
            # Each module has the other names of this kind itself.
            is_given = one.startswith("__") and one != "__file__"
            if one in scope and one != own and not is_given:
                self.take(one, scope[one], str(scope["__name__"]))


def split_names(source: str) -> Names:
    """Returns the names that a definition uses of its file; those of annotations are left out."""
    names = Names(set(), set())

    def look(table: symtable.SymbolTable, found: set[str]) -> None:
        found |= {one.get_name() for one in table.get_symbols() if one.is_global()}
        for child in table.get_children():
            is_called = str(child.get_type()) == "function"
            is_later = is_called and child.get_name() not in _COMPREHENSIONS
            look(child, names.later if is_later else found)

    bare = _Bare().visit(ast.parse(source))
    look(symtable.symtable(ast.unparse(bare), "source", "exec"), names.at_once)
    return names


class _Bare(ast.NodeTransformer):
    """Leaves annotations out."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Returns the argument alone."""
        return ast.copy_location(ast.arg(node.arg), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Returns the function without the type that it returns."""
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Returns the function without the type that it returns."""
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Returns a plain assignment, or nothing where nothing is assigned."""
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        plain = ast.Assign([node.target], self.visit(node.value))
        return ast.copy_location(plain, node)


def scope_of(value: Any) -> Mapping[str, Any]:
    """Returns the names of the module in which a function or class was defined."""
    if isinstance(value, FunctionType):
        return value.__globals__
    return vars(sys.modules.get(value.__module__, builtins))


def closes_over(value: Any) -> list[str]:
    """Returns the names of the function around a function that it uses."""
    return sorted(value.__code__.co_freevars) if isinstance(value, FunctionType) else []


def _submodules(source: str, scope: Mapping[str, Any]) -> set[str]:
    """Returns imports of the modules that a source reaches through a package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        root, *parts = ast.unparse(node).split(".")
        module = scope.get(root)
        for part in parts:
            if not isinstance(module, ModuleType):
                break
            name = f"{module.__name__}.{part}"
            module = getattr(module, part, None)
            if isinstance(module, ModuleType) and sys.modules.get(name) is module:
                found.add(f"import {name}")
    return found


def _spell(value: Any) -> str:
    """Returns a plain value, or a container of some, as source; empty where it is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    try:
        return repr(value) if ast.literal_eval(repr(value)) == value else ""
    # An object may have any text, and may compare as it likes.
    except Exception:  # noqa: BLE001
        return ""


def _find_import(name: str, value: Any) -> str:
    """Returns the import of what the standard library or a package defines; empty for others."""
    module, own = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(own, str) or not _is_installed(module):
        return ""
    if getattr(sys.modules[module], own, None) is not value:
        return ""
    return f"from {module} import {own}" + ("" if own == name else f" as {name}")


def _is_installed(module: str) -> bool:
    """Returns whether a module that was imported is the standard library's or a package's."""
    file = _file_of(module)
    root = module.partition(".")[0]
    # A file next to a script may have the name of a standard module.
    is_standard = root in sys.stdlib_module_names and (not file or file.startswith(_STANDARD))
    is_package = root == "evolve" or "site-packages" in file or "dist-packages" in file
    return module in sys.modules and (is_standard or is_package)


def _file_of(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or ""


def _expect_importable(module: str) -> None:
    """Checks that an evaluator's process imports the module that is imported here.

    Raises:
        UsageError: It does not find it, or finds another one.
    """
    root = module.partition(".")[0]
    found = PathFinder.find_spec(root)
    here = _file_of(root) or (found.origin if found is not None else None)
    is_here = root in sys.modules or found is not None
    if not is_here or _is_installed(root) or _find_elsewhere(root) == str(here):
        return
    raise UsageError(
        f"evaluate: uses the module `{module}`, which the evaluator's process does not find; "
        f"import its functions by `from {module} import ...` at the top of the file, with which "
        "they are taken, or install it"
    )


@cache
def _find_elsewhere(root: str) -> str:
    """Returns where a Python that does not start in this folder finds a module, if it does."""
    command = [sys.executable, "-P", "-c", _FINDS, root]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def source_of(value: Any, where: str) -> str:
    """Returns the source of a function or class.

    Raises:
        UsageError: It is something else, or its source cannot be found.
    """
    plain = inspect.unwrap(value) if callable(value) else value
    if not isinstance(plain, FunctionType | type):
        kind = type(plain).__name__
        raise UsageError(f"{where}: expected a function defined with `def`, got a {kind}")
    try:
        source = textwrap.dedent(inspect.getsource(plain))
        defined = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError) as error:
        if isinstance(plain, type):
            raise UsageError(
                f"{where}: the source of this class cannot be read; write it with `class` in a "
                "file and import it (a notebook's cell or `namedtuple` keep none), or use "
                "functions and plain values"
            ) from error
        raise UsageError(
            f"{where}: its source cannot be found; define it with `def` in a file or a notebook's "
            "cell, or give a path or a text"
        ) from error
    if not isinstance(defined, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        raise UsageError(f"{where}: expected a function defined with `def`, got an expression")
    if plain is not value and not defined.decorator_list:
        raise UsageError(
            f"{where}: expected a function as it was defined, got one that something was wrapped "
            "around later; use a decorator"
        )
    return source
