"""A problem folder written from Python: from a program and an evaluator in this process."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import os
import re
import subprocess
import symtable
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from evolve.errors import EvolveError, UsageError
from evolve.files import decode_text
from evolve.problem.gallery import (
    expect_empty,
    find_modules,
    imported_names,
    list_files,
    problem_name,
    write_files,
)
from evolve.records import Direction
from evolve.source.parsing import list_names
from evolve.toml import expect, write_value

# Makes annotations texts: what they name need not be there.
_LATE_ANNOTATIONS = "from __future__ import annotations\n\n"
_COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr"}
_FINDS = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]).origin)"
_STANDARD = str(Path(os.__file__).parent), sysconfig.get_path("platstdlib")
# A text of one word, or one that ends as a file's name does.
_LIKE_A_PATH = re.compile(r"[^\s()=]+|.*\.py|[^()=]*\.\w{1,5}")


class Given(NamedTuple):
    """A text for the written folder, and what the user calls it: an argument, or a path."""

    text: str
    name: str


def write_problem(
    folder: Path,
    program: str | Path | Callable[..., Any],
    evaluate: str | Path | Callable[..., Any],
    *,
    statement: str,
    direction: str,
) -> dict[Path, str]:
    """Writes a problem folder from Python.

    Args:
        folder: New or empty.
        program: Source, path of a file or folder, or a function, whose source is taken.
        evaluate: A function of one argument, or the path of a file that defines `evaluate`.
        statement: What the program is to do.
        direction: `maximize` or `minimize`.

    Returns:
        The files written, each with what the user calls it.

    Raises:
        UsageError: The program or the evaluator cannot be taken.
    """
    expect(direction in tuple(Direction), "maximize or minimize", direction, "direction")
    _expect_text(statement, "statement")
    files = _read_program(program)
    others, function = _read_evaluator(evaluate)
    better = "larger" if direction == Direction.MAXIMIZE else "smaller"
    plain = f"Improve the program. The {better} its objective, the better."
    toml = {
        "name": problem_name(getattr(program, "__name__", folder.name)),
        "summary": "Written from Python",
        "direction": direction,
        "function": function,
    }
    lines = [f"{key} = {write_value(value)}\n" for key, value in toml.items()]
    lines.append(f"\n[program]\nfiles = {write_value(list(files))}\n")
    others["problem.toml"] = Given("".join(lines), "problem.toml")
    others["statement.md"] = Given(f"{statement or plain}\n", "statement")
    if taken := sorted(set(files) & set(others)):
        raise UsageError(
            f"program: has a file `{taken[0]}`, which the problem folder needs for itself; rename "
            "it, or write a problem folder and use `evolve.run`"
        )
    expect_empty(folder)
    written = {folder / path: given for path, given in {**files, **others}.items()}
    write_files(folder, {path: given.text for path, given in written.items()})
    return {path: given.name for path, given in written.items()}


@contextmanager
def naming_given(names: Mapping[Path, str]) -> Iterator[None]:
    """Lets errors name files that are written as their user knows them."""
    try:
        yield
    except EvolveError as error:
        text = str(error)
        for path, name in names.items():
            for spelled in (str(path), str(path.resolve())):
                text = text.replace(spelled, name)
        error.args = (text,)
        raise


def _expect_text(text: object, where: str) -> None:
    expect(isinstance(text, str), "a text", text, where)
    try:
        str(text).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{where}: expected text that UTF-8 can hold, got "
            f"{error.object[error.start]!r} at character {error.start}"
        ) from error


def _read_program(program: object) -> dict[str, Given]:
    if callable(program):
        text = f"# EVOLVE-BLOCK-START\n{_read_function(program).rstrip()}\n# EVOLVE-BLOCK-END\n"
        header = _LATE_ANNOTATIONS if getattr(program, "__annotations__", None) else ""
        return {"initial.py": Given(header + text, "program")}
    if not isinstance(program, str | Path):
        raise UsageError(f"program: expected source, a path or a function, got {program!r:.80}")
    path = _find_path(program)
    if path is None:
        text = str(program)
        _expect_text(text, "program")
        return {"initial.py": Given(text if text.endswith("\n") else f"{text}\n", "program")}
    paths = [path]
    if path.is_dir():
        paths = [
            one
            for one in list_files(path)
            if one.suffix != ".pyc"
            and not any(part[0] == "." or part == "__pycache__" for part in _below(one, path))
        ]
    if not paths:
        raise UsageError(f"program: {path}: expected a folder with the program's files, got none")
    top = path if path.is_dir() else path.parent
    return {
        "/".join(_below(one, top)): Given(_read_file(one, "program"), str(one)) for one in paths
    }


def _below(path: Path, folder: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts


def _find_path(program: str | Path) -> Path | None:
    """Returns the file or folder that a text or path names; None where the text is source."""
    if isinstance(program, str):
        if not program.strip():
            raise UsageError("program: expected source, a path or a function, got an empty text")
        if "\n" in program:
            return None
    path = Path(program)
    try:
        if path.is_dir() or path.is_file():
            return path
    except OSError:
        # As of a name that is too long for a file.
        pass
    if isinstance(program, Path) or (len(program) < 256 and _LIKE_A_PATH.fullmatch(program)):
        raise UsageError(
            f"program: {path}: no such file or folder; source of one line ends with a line break"
        )
    return None


def _read_file(path: Path, where: str) -> str:
    try:
        return decode_text(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: {path}: expected text in UTF-8: {error}") from error


def _read_function(function: Callable[..., Any]) -> str:
    """Returns the source of a starting function that needs nothing around it.

    Raises:
        UsageError: It uses something around it; the message names it.
    """
    source = _source_of(function, "program")
    plain = inspect.unwrap(function)
    (at_once, later), own = _split_names(source), plain.__name__
    scope = {**_scope_of(plain), **dict.fromkeys(_closes_over(plain))}
    outside = sorted((at_once | later) & set(scope) - {own})
    needed = [f"`{name}`" for name in outside if not name.startswith("__")]
    if needed:
        raise UsageError(
            f"program: `{own}` uses {', '.join(needed)} from outside of it, and only its own "
            "source is taken; import or define that inside the function, or give a text or a file"
        )
    return source


class _Gathered:
    """What an evaluator uses of the files around it, gathered into one."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[Any, str]] = {}
        self._imports: set[str] = set()
        self._constants: dict[str, str] = {}
        self._definitions: dict[str, str] = {}

    def write(self) -> str:
        """Returns the text."""
        constants = [self._constants[one] for one in sorted(self._constants)]
        blocks = ["\n".join(sorted(self._imports)), "\n".join(constants)]
        body = "\n\n".join(block for block in blocks if block)
        texts = [body] * bool(body) + [text.strip() for text in self._definitions.values()]
        return _LATE_ANNOTATIONS + "\n\n\n".join(texts) + "\n"

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
        """Takes a function or class, after what it uses as it is defined."""
        source, plain = _source_of(value, name), inspect.unwrap(value)
        own = plain.__name__
        if own != name:
            self.take(own, value, plain.__module__)
            self._definitions[name] = f"{name} = {own}"
            return
        (at_once, later), scope = _split_names(source), _scope_of(plain)
        around = _closes_over(plain)
        if isinstance(plain, type) and "<locals>" in plain.__qualname__:
            around = sorted((at_once | later) - {own} - set(scope) - set(dir(builtins)))
        if around:
            raise UsageError(
                f"evaluate: closes over {', '.join(f'`{one}`' for one in around)} of the function "
                "around it; pass the value in through a constant at the top of its file"
            )
        for module in imported_names(source):
            _expect_importable(module)
        self._imports |= _submodules(source, scope)
        self._take_all(at_once - {own}, scope)
        self._definitions[name] = source
        self._take_all(later - {own}, scope)

    def _take_all(self, names: Iterable[str], scope: Mapping[str, Any]) -> None:
        for one in sorted(names):
            # Each module has the other names of this kind itself.
            if one in scope and (one == "__file__" or not one.startswith("__")):
                self.take(one, scope[one], str(scope["__name__"]))


def _split_names(source: str) -> tuple[set[str], set[str]]:
    """Returns the names that a definition uses of its file, when it is defined and when called.

    Of its file are those of no function in it; the names in annotations are left out.
    """
    at_once: set[str] = set()
    later: set[str] = set()

    def look(table: symtable.SymbolTable, found: set[str]) -> None:
        # What is imported is `annotations`.
        used = (one for one in table.get_symbols() if one.is_global() and not one.is_imported())
        found |= {one.get_name() for one in used}
        for child in table.get_children():
            is_called = str(child.get_type()) == "function"
            is_later = is_called and child.get_name() not in _COMPREHENSIONS
            look(child, later if is_later else found)

    look(symtable.symtable(_LATE_ANNOTATIONS + source, "source", "exec"), at_once)
    return at_once, later


def _scope_of(value: Any) -> Mapping[str, Any]:
    """Returns the names of the module in which a function or class was defined."""
    if isinstance(value, FunctionType):
        return value.__globals__
    return vars(sys.modules.get(value.__module__, builtins))


def _closes_over(value: Any) -> list[str]:
    """Returns the names of the function around a function that it uses."""
    return sorted(value.__code__.co_freevars) if isinstance(value, FunctionType) else []


def _submodules(source: str, scope: Mapping[str, Any]) -> set[str]:
    """Returns imports of the modules that a source reaches through a package."""
    tree = ast.walk(ast.parse(source))
    paths = (ast.unparse(node).partition(".") for node in tree if isinstance(node, ast.Attribute))
    inner = ((scope.get(root), below) for root, _, below in paths)
    names = {f"{one.__name__}.{below}" for one, below in inner if isinstance(one, ModuleType)}
    return {f"import {name}" for name in names & sys.modules.keys()}


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


def _source_of(value: Any, where: str) -> str:
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
        raise UsageError(
            f"{where}: its source cannot be found; define it with `def` or `class` in a file (a "
            "notebook's cell keeps that of functions alone, `namedtuple` none), or use plain "
            "values, a path or a text"
        ) from error
    if not isinstance(defined, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        raise UsageError(f"{where}: expected a function defined with `def`, got an expression")
    if plain is not value and not defined.decorator_list:
        raise UsageError(
            f"{where}: expected a function as it was defined, got one that something was wrapped "
            "around later; use a decorator"
        )
    return source


def _read_evaluator(evaluate: object) -> tuple[dict[str, Given], str]:
    """Returns the evaluator's files, and which function of `evaluator.py` is to be called.

    Raises:
        UsageError: It cannot be taken.
    """
    if callable(evaluate):
        _source_of(evaluate, "evaluate")
        _expect_one_argument(evaluate)
        parts = _Gathered()
        name = inspect.unwrap(evaluate).__name__
        parts.take(name, evaluate, getattr(evaluate, "__module__", ""))
        return {"evaluator.py": Given(parts.write(), "evaluate")}, name
    expected = "expected a function, or the path of a file that defines `evaluate`"
    if not isinstance(evaluate, str | Path):
        raise UsageError(f"evaluate: {expected}, got {evaluate!r:.80}")
    path = Path(evaluate)
    try:
        found = path.is_file()
    except OSError:
        found = False
    if not found:
        raise UsageError(f"evaluate: {expected}, found no file {str(evaluate)[:200]!r}")
    return _read_evaluator_file(path), "evaluate"


def _read_evaluator_file(path: Path) -> dict[str, Given]:
    code = _read_file(path, "evaluate")
    try:
        names = list_names(code)
        modules = find_modules(path)[1:]
        imported = {name for one in (path, *modules) for name in imported_names(one.read_bytes())}
    except SyntaxError as error:
        raise UsageError(
            f"evaluate: {error.filename}: cannot be parsed: {error.msg}, line {error.lineno}"
        ) from error
    if "evaluate" not in names and "import *" not in code:
        raise UsageError(f"evaluate: {path}: expected a function `evaluate(program)`, found none")
    for name in sorted(imported):
        if (path.parent / name / "__init__.py").is_file():
            raise UsageError(
                f"evaluate: {path}: imports the package `{name}` next to it, which is not taken; "
                "write a problem folder and use `evolve.run`"
            )
    texts = {one.name: Given(_read_file(one, "evaluate"), str(one)) for one in modules}
    if "evaluator.py" in texts:
        raise UsageError(f"evaluate: {path}: imports `evaluator`, a name it gets itself; rename it")
    return {**texts, "evaluator.py": Given(code, str(path))}


def _expect_one_argument(evaluate: Callable[..., Any]) -> None:
    signature = inspect.signature(evaluate)
    try:
        signature.bind(None)
    except TypeError as error:
        raise UsageError(
            "evaluate: expected a function of one argument, the program, got "
            f"`{evaluate.__name__}{signature}`"
        ) from error
    if inspect.iscoroutinefunction(evaluate) or inspect.isgeneratorfunction(evaluate):
        raise UsageError(
            f"evaluate: expected a function that returns a number or a `Score`, got "
            f"`{evaluate.__name__}`, which is `async` or yields"
        )
