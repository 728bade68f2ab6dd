"""Texts of strangers: decoded, durations read, keys hidden, constants of Python files found."""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evolve.errors import UsageError

_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?)\s*([a-z]*?)(?:onds?|s|utes?|ours?)?")
_CODING = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*[-\w.]+", re.MULTILINE)
# Keys of known forms, which are hidden wherever they stand.
_KEY = re.compile(
    r"\b(?:sk|gsk|hf|xai|pplx|ghp|gho|ghs|github_pat|glpat|xox[abp])[-_][\w-]{12,}"
    r"|\bAIza[\w-]{30,}|\bAKIA[0-9A-Z]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
    re.DOTALL,
)
# What is assigned to a name that says so; code needs quotes, for it has names and calls as well.
_NAMED = (
    r"(?P<name>[\w.-]*(?:api[_-]?key|secret|passw(?:or)?d|credential"
    r"|(?:access|auth|api|hf|hub|bot|github|bearer)[_-]?token)s?)"
)
_IN_CODE = re.compile(
    _NAMED + r"""(?P<sign>["']?\]?\s*[:=]\s*["'])(?P<value>[^\s"'$<{]{8,})""", re.IGNORECASE
)
_IN_CONFIG = re.compile(
    _NAMED + r"""(?P<sign>["']?\s*[:=]\s*["']?)(?P<value>[^\s"'$<{,}#]+)""", re.IGNORECASE
)
_CONFIGS = {".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".properties", ".xml"}
_NO_KEY = {"null", "none", "~", "true", "false", "env"}
HIDDEN = "HIDDEN"
_TRIMS = ("strip", "lstrip", "rstrip")
_DEEPEST = 40
# Longer files are data.
_LONGEST_BYTES = 1 << 20


def decode(path: Path) -> tuple[str, str]:
    """Returns a text file as text, and by which encoding, Latin-1 where no other fits.

    Raises:
        UsageError: It cannot be read, or is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if b"\0" in data:
        raise UsageError(f"{path}: expected a text, got bytes that are none")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        encoding, text = "latin-1", data.decode("latin-1")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not encoding.startswith("utf-8"):
        text = _CODING.sub("# coding: utf-8", text, count=1)
    return text, encoding


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


def hide_keys(text: str, suffix: str) -> tuple[str, int]:
    """Returns a text without the keys of services that stand in it, and how many they were."""

    def replace(match: re.Match[str]) -> str:
        value = match["value"]
        if value.lower() in _NO_KEY or value.replace(".", "").isdigit():
            return match[0]
        counts.append(value)
        return f"{match['name']}{match['sign']}{HIDDEN}"

    counts: list[str] = []
    pattern = _IN_CONFIG if suffix in _CONFIGS else _IN_CODE
    text, known = _KEY.subn(HIDDEN, text)
    text = pattern.sub(lambda match: match[0] if match["value"] == HIDDEN else replace(match), text)
    return text, known + len(counts)


def hide_in(source: Path) -> tuple[str, int] | None:
    """Returns a file's text without its keys, and their number; None where it has none."""
    if source.stat().st_size > _LONGEST_BYTES or b"\0" in source.read_bytes():
        return None
    text, count = hide_keys(decode(source)[0], source.suffix)
    return (text, count) if count else None


class Constants:
    """The values of constant expressions in the Python files of a folder; nothing is run.

    Args:
        folder: Where modules and files are looked for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scopes: dict[Path, dict[str, ast.expr | tuple[Path, str]]] = {}

    def parse(self, path: Path) -> ast.Module:
        """Returns the tree of a Python file; an empty one where it cannot be parsed."""
        try:
            return ast.parse(decode(path)[0])
        except (SyntaxError, ValueError, RecursionError):
            return ast.Module([], [])

    def find(self, path: Path, name: str) -> Any:
        """Returns what a file assigns to a name at its top level; None if that is no constant."""
        return self.fold(ast.Name(name), path)

    def fold(self, node: ast.expr, path: Path, depth: int = 0) -> Any:
        """Returns the value of an expression in a file; None where it is no constant."""
        if depth > _DEEPEST:
            return None
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                found = self._scope(path).get(name)
                if isinstance(found, tuple):
                    path, found = found[0], ast.Name(found[1])
                return None if found is None else self.fold(found, path, depth + 1)
            case ast.FormattedValue(value=inner):
                return self.fold(inner, path, depth + 1)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _join([self.fold(part, path, depth + 1) for part in (left, right)])
            case ast.JoinedStr(values=parts):
                return _join([self.fold(part, path, depth + 1) for part in parts])
            case ast.Call():
                return self._fold_call(node, path, depth + 1)
        return self._fold_items(node, path, depth + 1)

    def _fold_items(self, node: ast.expr, path: Path, depth: int) -> Any:
        match node:
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.fold(item, path, depth) for item in items]
            case ast.Dict(keys=keys, values=values):
                pairs = [(key, value) for key, value in zip(keys, values, strict=True) if key]
                return {
                    self.fold(key, path, depth): self.fold(value, path, depth)
                    for key, value in pairs
                }
        return None

    def _fold_call(self, node: ast.Call, path: Path, depth: int) -> Any:
        """Returns what trimming, dedenting or reading a file comes to, or named arguments."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        if (name == "dict" or name.endswith("Config")) and not node.args:
            return {key.arg: self.fold(key.value, path, depth) for key in node.keywords if key.arg}
        if name in {"dedent", "cleandoc"} and node.args:
            text = self.fold(node.args[0], path, depth)
            shape = textwrap.dedent if name == "dedent" else inspect.cleandoc
            return shape(text) if isinstance(text, str) else None
        if name in _TRIMS and isinstance(node.func, ast.Attribute):
            text = self.fold(node.func.value, path, depth)
            return getattr(text, name)() if isinstance(text, str) and not node.args else None
        if name in {"read_text", "read"}:
            texts = (item.value for item in ast.walk(node) if isinstance(item, ast.Constant))
            for named in (self._folder / str(text) for text in texts if "." in str(text)):
                if named.is_file() and named.resolve().is_relative_to(self._folder.resolve()):
                    return decode(named)[0]
        return None

    def _scope(self, path: Path) -> Mapping[str, ast.expr | tuple[Path, str]]:
        """Returns what names at a file's top level stand for: expressions, or other names."""
        if path in self._scopes:
            return self._scopes[path]
        scope = self._scopes[path] = {}
        for node in self.parse(path).body:
            if isinstance(node, ast.Assign):
                scope.update({ast.unparse(target): node.value for target in node.targets})
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                scope[ast.unparse(node.target)] = node.value
            elif isinstance(node, ast.ImportFrom) and node.module:
                other = self._folder / f"{node.module.replace('.', '/')}.py"
                beside = path.with_name(f"{node.module.rpartition('.')[2]}.py")
                source = other if other.is_file() else beside
                if source.is_file():
                    names = self._scope(source) if node.names[0].name == "*" else ()
                    pairs = [(one.asname or one.name, one.name) for one in node.names]
                    pairs += [(name, name) for name in names]
                    scope.update({ours: (source, theirs) for ours, theirs in pairs})
        return scope


def _join(parts: list[Any]) -> str | None:
    return None if None in parts else "".join(map(str, parts))
