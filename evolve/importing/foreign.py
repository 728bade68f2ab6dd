"""Another system's problem folder: read, and written as one of ours."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from evolve.errors import UsageError
from evolve.files import find_stray
from evolve.problem.gallery import expect_empty, list_files, write_files
from evolve.scoring.cooperative import THEIRS
from evolve.settings.reading import write_value

_SECONDS = 60.0
# Not part of a problem: results, hidden and compiled files.
SKIPPED = ("__pycache__", ".*", "*output*", "results*", "runs", "*.db", "*.sqlite", "*.log")
_MOST_BYTES = 8 << 20
_NO_STATEMENT = "Improve the program below."
_TOML = """\
# Imported from {kind}.
name = {name}
summary = {summary}
direction = "maximize"
evaluator = "evaluator/evaluator.py"
evaluator_seconds = {evaluator_seconds:g}
# Their evaluator imports the program: its scores can be forged by the program.
cooperative = true

[program]
files = [{initial}]
{start}
[limits]
seconds = {seconds:g}
memory_mb = 2048
workspace_mb = 256
"""
_EVALUATOR = '''\
"""Lets the evaluator of {kind} in `theirs/` score programs, inside the sandbox."""

from pathlib import Path

from evolve.scoring.cooperative import THEIRS, evaluate_there
from evolve.scoring import ProgramHandle, Score


def evaluate(program: ProgramHandle) -> Score:
    """Takes their evaluator at its word."""
    return evaluate_there(
        program,
        Path(__file__).with_name(THEIRS),
        kind={kind!r},
        evaluator={evaluator!r},
        initial={initial!r},
        thresholds={thresholds!r},
    )
'''


@dataclass(frozen=True, slots=True)
class Foreign:
    """A problem as another system states it.

    Attributes:
        kind: `openevolve`, `shinka` or `loongflow`.
        folder: Where it lies.
        initial: Its starting program.
        evaluator: Its evaluator.
        statement: What its models read.
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
        raise UsageError(f"{folder}: expected a folder of {kind}, got none")
    stray = find_stray(folder, folder, _is_skipped)
    if stray is not None:
        raise UsageError(f"{stray}: expected a file of the folder, got a link that leads out of it")
    return _READERS[kind](folder.resolve())


def write_foreign(foreign: Foreign, target: Path) -> list[Path]:
    """Writes another system's problem as a problem folder.

    Returns:
        The files written.

    Raises:
        UsageError: The target is not empty or cannot be written, or their folder is too large.
    """
    expect_empty(target)
    size = sum(path.stat().st_size for path in _list_theirs(foreign.folder))
    if size > _MOST_BYTES:
        raise UsageError(
            f"{foreign.folder}: expected at most {_MOST_BYTES} bytes without results, got {size}; "
            "their files go into the sandbox with every evaluation"
        )
    initial = f"initial{foreign.initial.suffix}"
    texts = {
        target / "problem.toml": _format_toml(foreign, initial),
        target / "statement.md": escape_braces(foreign.statement.strip() or _NO_STATEMENT) + "\n",
        target / initial: foreign.initial.read_text(encoding="utf-8"),
        target / "evaluator/evaluator.py": _EVALUATOR.format(
            kind=foreign.kind,
            evaluator=foreign.evaluator.name,
            initial=initial,
            thresholds=foreign.thresholds,
        ),
    }
    try:
        shutil.copytree(
            foreign.folder,
            target / "evaluator" / THEIRS,
            ignore=shutil.ignore_patterns(*SKIPPED, foreign.initial.name),
        )
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error}") from error
    write_files(target, texts)
    return list_files(target)


def escape_braces(text: str) -> str:
    """Returns a text of strangers in which nothing is a placeholder of ours."""
    return text.replace("{{", "{ {").replace("}}", "} }")


def _list_theirs(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(map(_is_skipped, path.relative_to(folder).parts))
    ]


def _is_skipped(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in SKIPPED)


def _format_toml(foreign: Foreign, initial: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", foreign.folder.name).strip("_-") or "imported"
    return _TOML.format(
        kind=foreign.kind,
        name=write_value(name),
        summary=write_value(f"imported from {foreign.kind}: {foreign.folder.name}"),
        initial=write_value(initial),
        # Their evaluator starts the program, but what is not Python needs a command here.
        start="" if initial.endswith(".py") else 'run = "false"\n',
        seconds=foreign.seconds,
        evaluator_seconds=foreign.seconds + 60.0,
    )


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
    """Returns the text that a Python file holds as `task_sys_msg`, or names so."""
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
