"""What is found in another system's folder, before it becomes a problem."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from evolve.errors import UsageError
from evolve.files import find_stray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SECONDS = 60.0
# What is no part of a problem: results, hidden and compiled files.
SKIPPED = ("__pycache__", ".*", "*output*", "results*", "runs", "*.db", "*.sqlite", "*.log")


@dataclass(frozen=True, slots=True)
class Foreign:
    """A problem as another system states it.

    Attributes:
        kind: `openevolve`, `shinka` or `loongflow`.
        folder: Where it lies.
        initial: Its starting program.
        evaluator: Its evaluator.
        statement: What its models are told.
        seconds: Its deadline for one evaluation.
        thresholds: What each stage but the last must reach.
    """

    kind: str
    folder: Path
    initial: Path
    evaluator: Path
    statement: str
    seconds: float
    thresholds: tuple[float, ...]


def read_foreign(kind: str, folder: Path) -> Foreign:
    """Reads the folder of another system.

    Raises:
        UsageError: A file is missing, or cannot be read as what it should be.
    """
    if kind not in _READERS:
        raise UsageError(f"--from: expected one of {', '.join(_READERS)}; got {kind!r}")
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder of {kind}, got nothing of that name")
    stray = find_stray(folder, folder, lambda name: any(fnmatch(name, one) for one in SKIPPED))
    if stray is not None:
        raise UsageError(f"{stray}: expected a file of the folder, got a link that leads out of it")
    return _READERS[kind](folder.resolve())


def _read_openevolve(folder: Path) -> Foreign:
    config = _read_yaml(folder, ("config.yaml", "config.yml"))
    evaluator = _part(config, "evaluator")
    cascade = evaluator.get("cascade_evaluation", True)
    thresholds = evaluator.get("cascade_thresholds", [0.5, 0.75, 0.9]) if cascade else []
    return Foreign(
        "openevolve",
        folder,
        _find(folder, "initial_program.*"),
        _find(folder, "evaluator.py"),
        str(_part(config, "prompt").get("system_message") or ""),
        float(evaluator.get("timeout", 300)),
        tuple(float(value) for value in thresholds),
    )


def _read_loongflow(folder: Path) -> Foreign:
    config = _part(_read_yaml(folder, ("task_config.yaml", "task_config.yml")), "evolve")
    return Foreign(
        "loongflow",
        folder,
        _find(folder, "initial_program.*"),
        _find(folder, "eval_program.py"),
        str(config.get("task") or ""),
        float(_part(config, "evaluator").get("timeout", _SECONDS)),
        (),
    )


def _read_shinka(folder: Path) -> Foreign:
    texts = [_find_message(path) for path in sorted(folder.glob("run*.py"))]
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        config = _read_yaml(folder, (path.name,))
        texts += [str(part["task_sys_msg"]) for part in _tables(config) if "task_sys_msg" in part]
    return Foreign(
        "shinka",
        folder,
        _find(folder, "initial.*"),
        _find(folder, "evaluate.py"),
        next((text for text in texts if text), ""),
        _SECONDS,
        (),
    )


_READERS = {"openevolve": _read_openevolve, "shinka": _read_shinka, "loongflow": _read_loongflow}


def _find(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise UsageError(f"{folder}: expected a file `{pattern}`, got none")
    return found[0]


def _read_yaml(folder: Path, names: Sequence[str]) -> Mapping[str, Any]:
    import yaml

    for path in (folder / name for name in names):
        if path.is_file():
            try:
                value = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
                raise UsageError(f"{path}: expected YAML: {error}") from error
            return value if isinstance(value, dict) else {}
    return {}


def _part(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _tables(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = [config]
    for table in found:
        found += [value for value in table.values() if isinstance(value, dict)]
    return found


def _find_message(path: Path) -> str:
    """Returns the text that a Python file gives as `task_sys_msg`, or names so."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return ""
    values: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "task_sys_msg":
            values.append(node.value)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("task_sys_msg"):
            values.append(node.value)
    texts = [value.value for value in values if isinstance(value, ast.Constant)]
    return next((text for text in texts if isinstance(text, str)), "")
