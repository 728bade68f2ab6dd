"""The other systems: where each keeps its parts and settings, and what those become here."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from evolve.errors import UsageError
from evolve.importing.travel import decode, parse_source

_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?)\s*([a-z]*?)(?:onds?|s|utes?|ours?)?")
# Calls that shape a text, which is their argument or, where they trim it, has them as a method.
_SHAPES: Mapping[str, Callable[[str], str]] = {
    "dedent": textwrap.dedent,
    "cleandoc": inspect.cleandoc,
    "strip": str.strip,
    "lstrip": str.lstrip,
    "rstrip": str.rstrip,
}
_DEEPEST = 40


@dataclass(frozen=True, slots=True)
class System:
    """Where another system keeps its parts, and what its settings become: see `systems.toml`."""

    form: str
    evaluators: Sequence[str]
    starts: Sequence[str]
    configs: Sequence[str]
    settings: Mapping[str, str]
    seconds: float
    calls: Mapping[str, str] = field(default_factory=dict)
    thresholds: Sequence[float] = ()

    def find_use(self, key: str) -> str:
        """Returns what a setting becomes here."""
        uses = (use for pattern, use in self.settings.items() if fnmatch(key, pattern))
        return next(uses, "none")


@cache
def read_systems() -> tuple[Mapping[str, System], Mapping[str, str]]:
    """Returns the systems by name, and what people read about a setting by its use."""
    file = resources.files("evolve.importing") / "systems.toml"
    tables = tomllib.loads(file.read_text("utf-8"))
    uses, common = tables.pop("uses"), tables.pop("all")
    systems = {}
    for name, table in tables.items():
        whole = {**common, **tables.get(table.pop("like", ""), {}), **table}
        whole["settings"] = {**whole["settings"], **common["settings"]}
        systems[name] = System(**whole)
    return systems, uses


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Reads a YAML file whose root is a table; an empty file is an empty one.

    Raises:
        UsageError: It is something else.
    """
    import yaml

    try:
        value = yaml.safe_load(decode(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{path}: expected a table of settings, got {value!r:.100}")
    return value


def read_calls(folder: Path, calls: Mapping[str, str]) -> dict[str, Any]:
    """Returns the constant arguments of calls in Python files, as `section.name`.

    Arguments that are computed are None. What is assigned to a name ending in `task_sys_msg` is
    among them, too.
    """
    found: dict[str, Any] = {}
    constants = Constants(folder)
    paths = sorted(folder.glob("*.py")) if calls else []
    for path in sorted(paths, key=lambda path: not path.stem.startswith("run")):
        for node in ast.walk(parse_source(path)):
            for key, value in _list_settings(node, calls):
                if found.get(key) is None:
                    is_name = key == "evaluator" and isinstance(value, ast.Name)
                    found[key] = ast.unparse(value) if is_name else constants.fold(value, path)
    return found


def _list_settings(node: ast.AST, calls: Mapping[str, str]) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        if ast.unparse(node.targets[0]).strip("'\"]").lower().endswith("task_sys_msg"):
            yield "task_sys_msg", node.value
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        section = next((calls[end] for end in calls if name.endswith(end)), None)
        given = [] if section is None else [(one.arg, one.value) for one in node.keywords]
        if section is not None and node.args:
            # Statements come first.
            given.insert(0, ("problem_description", node.args[0]))
        yield from ((f"{section}.{key}".lstrip("."), value) for key, value in given if key)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the settings of a configuration by dotted names; lists are values."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse_duration(value: object, where: str) -> float:
    """Returns seconds from a number, or from texts like `45s`, `5m` and `00:20:00`.

    Raises:
        UsageError: It is something else.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    text = str(value).strip().lower()
    if re.fullmatch(r"\d+(:\d+){1,3}", text):
        factors = (1.0, 60.0, 3600.0, 86400.0)
        parts = [float(part) for part in reversed(text.split(":"))]
        return sum(factor * part for factor, part in zip(factors, parts, strict=False))
    match = _DURATION.fullmatch(text)
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise UsageError(f"{where}: expected seconds, or a text like `45s` or `5m`; got {value!r}")
    return float(match[1]) * _UNITS[match[2]]


class Constants:
    """The values of constant expressions in the Python files of a folder; nothing is run.

    Args:
        folder: Where modules and files are looked for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scopes: dict[Path, dict[str, tuple[ast.expr, Path]]] = {}

    def find(self, path: Path, name: str) -> Any:
        """Returns what a file assigns to a name at its top level; None if that is no constant."""
        return self.fold(ast.Name(name), path)

    def fold(self, node: ast.expr, path: Path, depth: int = 0) -> Any:
        """Returns the value of an expression in a file; None where it is no constant."""

        def inner(part: ast.expr, path: Path = path) -> Any:
            return self.fold(part, path, depth + 1) if depth < _DEEPEST else None

        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return inner(*self._scope(path).get(name, (ast.Constant(None), path)))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _join(map(inner, (left, right)))
            case ast.JoinedStr(values=parts):
                braces = ast.FormattedValue
                return _join(inner(one.value if isinstance(one, braces) else one) for one in parts)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return list(map(inner, items))
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return {inner(key): inner(value) for key, value in pairs if key}
            case ast.Call():
                return self._fold_call(node, inner)
        return None

    def _fold_call(self, node: ast.Call, fold: Callable[[ast.expr], Any]) -> Any:
        """Returns what trimming, dedenting or reading a file comes to, or named arguments."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        if (name == "dict" or name.endswith("Config")) and not node.args:
            return {key.arg: fold(key.value) for key in node.keywords if key.arg}
        if name in _SHAPES and bool(node.args) != name.endswith("strip"):
            text = fold(node.args[0] if node.args else getattr(node.func, "value", node))
            return _SHAPES[name](text) if isinstance(text, str) else None
        if name in {"read_text", "read"}:
            texts = (item.value for item in ast.walk(node) if isinstance(item, ast.Constant))
            for named in (self._folder / str(text) for text in texts if "." in str(text)):
                if named.is_file() and named.resolve().is_relative_to(self._folder.resolve()):
                    return decode(named)
        return None

    def _scope(self, path: Path) -> Mapping[str, tuple[ast.expr, Path]]:
        """Returns what names at a file's top level stand for: expressions, each with its file."""
        if path in self._scopes:
            return self._scopes[path]
        scope = self._scopes[path] = {}
        for node in parse_source(path).body:
            if isinstance(node, ast.Assign):
                scope.update({ast.unparse(target): (node.value, path) for target in node.targets})
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                scope[ast.unparse(node.target)] = node.value, path
            elif isinstance(node, ast.ImportFrom) and node.module:
                other = self._folder / f"{node.module.replace('.', '/')}.py"
                beside = path.with_name(f"{node.module.rpartition('.')[2]}.py")
                source = other if other.is_file() else beside
                if source.is_file():
                    names = self._scope(source) if node.names[0].name == "*" else ()
                    pairs = [(one.asname or one.name, one.name) for one in node.names]
                    pairs += [(name, name) for name in names]
                    scope.update({ours: (ast.Name(theirs), source) for ours, theirs in pairs})
        return scope


def _join(parts: Iterable[Any]) -> str | None:
    texts = list(parts)
    return None if None in texts else "".join(map(str, texts))
