"""The other systems: where each keeps its parts, and what each of its settings becomes here."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from evolve.errors import UsageError
from evolve.importing.texts import Constants, decode

# What a setting becomes when it is not an option of `evolve run`, nor a reason why it has no use.
STATEMENT, SECONDS, MEMORY, THRESHOLDS = (
    "statement.md",
    "limits.seconds",
    "limits.memory_mb",
    "thresholds",
)
FEATURES, OBJECTIVE, ARGUMENTS, PART = "features", "objective", "arguments", "read"
NONE = "nothing: it has no counterpart here"
_MODELS = "nothing: name models by --model, addresses by --api-base"
KEYS = "nothing: keys do not travel; they are read from the environment"
_PROMPTS = "nothing: prompts here have other placeholders; write your own into prompts/"
FEATURES_USE = "left out of the mean; to divide programs by them, give ranges under [[measures]]"
_FEATURE = "nothing: to divide programs by it, give its range under [[measures]] in problem.toml"
_JUDGE = "nothing: no model scores programs here"
_ARCHIVE = "nothing: the archive here is another one; see docs/reference/settings.md"

# By the dotted name of the setting; the first pattern that fits counts, the first statement, too.
_OPENEVOLVE = {
    "prompt.system_message": STATEMENT,
    "llm.system_message": STATEMENT,
    "evaluator.timeout": SECONDS,
    "evaluator.memory_limit_mb": MEMORY,
    "evaluator.cascade_thresholds": THRESHOLDS,
    "evaluator.cascade_evaluation": PART,
    "evaluator.parallel_evaluations": "--workers",
    "evaluator.*llm*": _JUDGE,
    "database.feature_dimensions": FEATURES,
    "database.feature_bins": _FEATURE,
    "database.num_islands": "--set search.islands=",
    "database.random_seed": "--seed",
    "database.*": _ARCHIVE,
    "max_iterations": "--max-evaluations",
    "random_seed": "--seed",
    "target_score": "--target",
    "diff_based_evolution": "--set steps.form=",
    "diff_based_generation": "--set steps.form=",
    "early_stopping_patience": "--patience",
    "file_suffix": PART,
    "language": PART,
    "llm.temperature": "--set temperature.all=",
    "*api_key*": KEYS,
    "llm.*": _MODELS,
    "prompt.template*": _PROMPTS,
    "prompt.*": _PROMPTS,
}
_LOONGFLOW = {
    "evolve.task": STATEMENT,
    "evolve.evaluator.timeout": SECONDS,
    "evolve.target_score": "--target",
    "evolve.max_iterations": "--max-evaluations",
    "evolve.concurrency": "--workers",
    "evolve.database.num_islands": "--set search.islands=",
    "evolve.database.*": _ARCHIVE,
    "*api_key*": KEYS,
    "*llm_config.temperature": "--set temperature.all=",
    "*llm_config.*": _MODELS,
}
_SHINKA = {
    "*task_sys_msg": STATEMENT,
    "*job_config.time": SECONDS,
    "*_program_path": PART,
    "*language": PART,
    "job_config.extra_cmd_args": ARGUMENTS,
    "evo_config.num_generations": "--max-evaluations",
    "evo_config.max_api_costs": "--max-cost",
    "*max_evaluation_jobs": "--workers",
    "*max_parallel_jobs": "--workers",
    "*num_islands": "--set search.islands=",
    "*migration_interval": _ARCHIVE,
    "db_config.*": _ARCHIVE,
    "*api_key*": KEYS,
    "*llm_models*": _MODELS,
    "*llm_kwargs*": _MODELS,
    "*_model*": _MODELS,
}
_CODEEVOLVE = {
    "SYS_MSG": STATEMENT,
    "EVAL_TIMEOUT": SECONDS,
    "MAX_MEM_BYTES": MEMORY,
    "EVOLVE_CONFIG.fitness_key": OBJECTIVE,
    "EVOLVE_CONFIG.num_epochs": "--max-evaluations",
    "EVOLVE_CONFIG.early_stopping_rounds": "--patience",
    "EVOLVE_CONFIG.num_islands": "--set search.islands=",
    "EVOLVE_CONFIG.*": _ARCHIVE,
    "INIT_FILE_DATA.*": PART,
    "EVAL_FILE_NAME": PART,
    "CODEBASE_PATH": PART,
    "*ENSEMBLE*": _MODELS,
    "*_LM*": _MODELS,
}
_LEVI = {
    "problem_description": STATEMENT,
    "function_signature": PART,
    "seed_program": PART,
    "score_fn": PART,
    "inputs": PART,
    "*eval_timeout": SECONDS,
    "budget_dollars": "--max-cost",
    "budget_evals": "--max-evaluations",
    "target_score": "--target",
    "*_model": _MODELS,
    "behavior.*": _FEATURE,
}
_GEPA = {
    "objective": STATEMENT,
    "background": STATEMENT,
    "seed_candidate": PART,
    "evaluator": PART,
    "config.engine.max_metric_calls": "--max-evaluations",
    "config.engine.max_candidate_proposals": "--max-evaluations",
    "config.engine.seed": "--seed",
    "*reflection_lm": _MODELS,
}


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


def find_one(folder: Path, patterns: tuple[str, ...], what: str, kind: str, advice: str) -> Path:
    """Returns the first file that a pattern fits; one that defines `evaluate` before others.

    Raises:
        UsageError: None does.
    """
    found = [path for one in patterns for path in sorted(folder.glob(one)) if path.is_file()]
    if found:
        return next((path for path in found if b"def evaluate" in path.read_bytes()), found[0])
    raise UsageError(
        f"{folder}: expected {what} of {kind}, `{patterns[0]}` or the like, got none{advice}"
    )


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Reads a YAML file whose root is a table; an empty file is an empty one.

    Raises:
        UsageError: It is something else.
    """
    import yaml

    try:
        value = yaml.safe_load(decode(path)[0])
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
        for node in ast.walk(constants.parse(path)):
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
    """Returns what a setting becomes here."""
    return next((use for pattern, use in settings.items() if fnmatch(key, pattern)), NONE)
