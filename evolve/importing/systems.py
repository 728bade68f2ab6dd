"""The other systems: where each keeps its parts and settings, and what those become here."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from evolve.errors import UsageError
from evolve.importing.travel import decode, parse_source

# What a setting becomes when it is not an option of `evolve run`, nor a reason why it has no use.
STATEMENT, SECONDS, MEMORY = "statement.md", "limits.seconds", "limits.memory_mb"
THRESHOLDS, FEATURES, OBJECTIVE = "thresholds", "features", "objective"
ARGUMENTS, PART = "arguments", "read"
NONE = "nothing: it has no counterpart here"
KEYS = "nothing: keys do not travel; they are read from the environment"
FEATURES_USE = "left out of the mean; to divide programs by them, give ranges under [[measures]]"
_MODELS = "nothing: name models by --model, addresses by --api-base"
_PROMPTS = "nothing: prompts here have other placeholders; write your own into prompts/"
_FEATURE = "nothing: to divide programs by it, give its range under [[measures]] in problem.toml"
_JUDGE = "nothing: no model scores programs here"
_ARCHIVE = "nothing: the archive here is another one; see docs/reference/settings.md"

# By the dotted name of the setting; the first pattern that fits counts, the first statement, too.
# What follows the settings of a system is common to all of them.
_OPENEVOLVE = {
    "prompt.system_message": STATEMENT,
    "llm.system_message": STATEMENT,
    "evaluator.timeout": SECONDS,
    "evaluator.memory_limit_mb": MEMORY,
    "evaluator.cascade_thresholds": THRESHOLDS,
    "evaluator.cascade_evaluation": PART,
    "evaluator.*llm*": _JUDGE,
    "database.feature_dimensions": FEATURES,
    "database.feature_bins": _FEATURE,
    "diff_based_*": "--set steps.form=",
    "file_suffix": PART,
    "language": PART,
    "prompt.*": _PROMPTS,
}
_LOONGFLOW = {"evolve.task": STATEMENT, "evolve.evaluator.timeout": SECONDS}
_SHINKA = {
    "*task_sys_msg": STATEMENT,
    "*job_config.time": SECONDS,
    "*_program_path": PART,
    "*language": PART,
    "job_config.extra_cmd_args": ARGUMENTS,
}
_CODEEVOLVE = {
    "SYS_MSG": STATEMENT,
    "EVAL_TIMEOUT": SECONDS,
    "MAX_MEM_BYTES": MEMORY,
    "EVOLVE_CONFIG.fitness_key": OBJECTIVE,
    "INIT_FILE_DATA.*": PART,
    "EVAL_FILE_NAME": PART,
    "CODEBASE_PATH": PART,
}
_LEVI = {
    "problem_description": STATEMENT,
    "function_signature": PART,
    "seed_program": PART,
    "score_fn": PART,
    "inputs": PART,
    "*eval_timeout": SECONDS,
    "behavior.*": _FEATURE,
}
_GEPA = {
    "objective": STATEMENT,
    "background": STATEMENT,
    "seed_candidate": PART,
    "evaluator": PART,
}
_BUDGETS = ("max_iterations", "num_generations", "num_epochs", "budget_evals", "max_metric_calls")
_COMMON = {
    "*api_key*": KEYS,
    **{f"*{name}": "--max-evaluations" for name in (*_BUDGETS, "max_candidate_proposals")},
    "*max_api_costs": "--max-cost",
    "*budget_dollars": "--max-cost",
    "*parallel_evaluations": "--workers",
    "*concurrency": "--workers",
    "*max_evaluation_jobs": "--workers",
    "*max_parallel_jobs": "--workers",
    "*early_stopping_patience": "--patience",
    "*early_stopping_rounds": "--patience",
    "*target_score": "--target",
    "*random_seed": "--seed",
    "*.seed": "--seed",
    "*num_islands": "--set search.islands=",
    "*temperature": "--set temperature.all=",
    "*migration_*": _ARCHIVE,
    "*database.*": _ARCHIVE,
    "db_config.*": _ARCHIVE,
    "EVOLVE_CONFIG.*": _ARCHIVE,
    **{f"*{name}*": _MODELS for name in ("llm", "_model", "ENSEMBLE", "_LM", "_lm")},
}


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
    """Where another system keeps its parts, and what its settings become here.

    Attributes:
        form: How its evaluators are asked; see `evolve.scoring.cooperative.Theirs`.
        evaluators: Patterns of the evaluator's path.
        starts: Patterns of the starting program's path; none where a constant has its text.
        configs: Patterns of its YAML files' paths.
        calls: Ends of the names of functions whose arguments are settings, too.
        settings: What each setting becomes, by patterns of their dotted names.
        seconds: Deadline where the configuration has none.
        thresholds: What stages must reach where the configuration does not say.
    """

    form: str
    evaluators: tuple[str, ...]
    starts: tuple[str, ...]
    configs: tuple[str, ...]
    settings: Mapping[str, str]
    calls: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 300.0
    thresholds: tuple[float, ...] = ()


_STARTS = ("initial_program.*", "init_program.*", "initial.*", "init.*", "initial_*.*", "seed*.*")
_YAML = ("config.yaml", "config.yml", "config*.yaml", "config*.yml")
_CASCADE = (0.5, 0.75, 0.9)
SYSTEMS = {
    "openevolve": System(
        "stages", ("evaluator.py", "evaluate.py", "*eval*.py"), _STARTS, _YAML, _OPENEVOLVE,
        thresholds=_CASCADE,
    ),
    "shinka": System(
        "script", ("evaluate.py", "eval*.py"), ("initial.*", *_STARTS), ("*.yaml", "*.yml"),
        _SHINKA, calls={
            "EvolutionConfig": "evo_config", "DatabaseConfig": "db_config",
            "JobConfig": "job_config",
        },
    ),
    "loongflow": System(
        "status", ("eval_program.py", "eval*.py"), _STARTS,
        ("task_config.yaml", "task_config.yml", "*config*.yaml", "*config*.yml"), _LOONGFLOW,
    ),
    "skydiscover": System(
        "stages", ("evaluator/evaluator.py", "evaluator.py"), _STARTS, _YAML, _OPENEVOLVE,
        thresholds=_CASCADE,
    ),
    "codeevolve": System(
        "results", ("input/evaluate.py", "evaluate.py"),
        ("input/src/init_program.*", "input/src/init*.*", "src/init*.*"),
        ("configs/config.yaml", "configs/*.yaml", "config*.yaml"), _CODEEVOLVE,
    ),
    "levi": System(
        "function", ("problem.py",), (), (), _LEVI,
        calls={"evolve_code": "", "PipelineConfig": "pipeline", "BehaviorConfig": "behavior"},
    ),
    "gepa": System(
        "candidate", ("main.py", "*.py"), (), (), _GEPA, calls={"optimize_anything": ""}
    ),
}  # fmt: skip


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
    for path in sorted(
        folder.glob("*.py"), key=lambda path: (not path.stem.startswith("run"), path)
    ):
        for node in ast.walk(parse_source(path)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                section = next((calls[end] for end in calls if name.endswith(end)), None)
                given = {} if section is None else dict(_list_arguments(node, section))
            elif isinstance(node, ast.Assign):
                target = ast.unparse(node.targets[0]).strip("'\"]")
                given = (
                    {"task_sys_msg": node.value} if target.lower().endswith("task_sys_msg") else {}
                )
            else:
                continue
            for key, value in given.items():
                folded = constants.fold(value, path)
                if key == "evaluator" and isinstance(value, ast.Name):
                    folded = value.id
                if found.get(key) is None:
                    found[key] = folded
    return found


def _list_arguments(node: ast.Call, section: str) -> Iterator[tuple[str, ast.expr]]:
    if node.args:
        # Statements come first.
        yield f"{section}.problem_description".lstrip("."), node.args[0]
    for keyword in node.keywords:
        if keyword.arg is not None:
            yield f"{section}.{keyword.arg}".lstrip("."), keyword.value


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the settings of a configuration by dotted names; lists are values."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def find_use(settings: Mapping[str, str], key: str) -> str:
    """Returns what a setting of a system becomes here."""
    rows = (*settings.items(), *_COMMON.items())
    return next((use for pattern, use in rows if fnmatch(key, pattern)), NONE)


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
        self._scopes: dict[Path, dict[str, ast.expr | tuple[Path, str]]] = {}

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
        if name in _SHAPES and bool(node.args) != name.endswith("strip"):
            inner = node.args[0] if node.args else getattr(node.func, "value", node)
            text = self.fold(inner, path, depth)
            return _SHAPES[name](text) if isinstance(text, str) else None
        if name in {"read_text", "read"}:
            texts = (item.value for item in ast.walk(node) if isinstance(item, ast.Constant))
            for named in (self._folder / str(text) for text in texts if "." in str(text)):
                if named.is_file() and named.resolve().is_relative_to(self._folder.resolve()):
                    return decode(named)
        return None

    def _scope(self, path: Path) -> Mapping[str, ast.expr | tuple[Path, str]]:
        """Returns what names at a file's top level stand for: expressions, or other names."""
        if path in self._scopes:
            return self._scopes[path]
        scope = self._scopes[path] = {}
        for node in parse_source(path).body:
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
