"""The settings of a run: defaults, a TOML file, the environment, `--set`; no unknown keys."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping  # noqa: TC003 - read at run time by `known_keys`
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evolve.errors import UsageError
from evolve.strategies import DEFAULT_STRATEGY, STRATEGIES

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT_PREFIX = "EVOLVE_SET_"


def _setting(default: Any, about: str, **bounds: Any) -> Any:
    """Gives a field that carries its description and bounds (`low`, `high`, `choices`)."""
    return field(default=default, metadata={"about": about, **bounds})


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How the loop is cut into generations and slots."""

    generations: int | None = _setting(
        None, "generations to run; by default 30 with a model, 400 without", low=1
    )
    slots: int = _setting(8, "slots in a generation", low=1, high=4096)
    seed: int = _setting(0, "seed of every random stream", low=0)
    workers: int | None = _setting(
        None, "model calls at a time; by default 8; changes no result", low=1, high=1024
    )
    lag: int = _setting(1, "generations that may be in flight beside the oldest", low=0, high=16)


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """What ends a run early; all caps are hard."""

    max_cost_usd: float | None = _setting(None, "US dollars for model calls", low=0)
    max_evaluations: int | None = _setting(None, "evaluations, the initial one included", low=1)
    max_calls: int | None = _setting(None, "model calls", low=1)
    max_tokens: int | None = _setting(None, "tokens read and written", low=1)
    max_seconds: float | None = _setting(
        None, "wall-clock seconds; by default 150 without a model", low=0
    )
    target: float | None = _setting(None, "objective at which the run stops")


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Population, selection and migration."""

    strategy: str = _setting(DEFAULT_STRATEGY, "where parents come from", choices=tuple(STRATEGIES))
    archive: str = _setting("grid", "how measure space is cut", choices=("grid", "single"))
    islands: int = _setting(4, "islands, each with an archive of its own", low=1, high=256)
    migration_every: int = _setting(10, "generations between migrations; 0 never", low=0)
    migrants: int = _setting(2, "best elites that each island sends to the next", low=1)
    entropy: float = _setting(
        0.7, "normalised entropy of parent selection: 0 greedy, 1 uniform", low=0, high=1
    )
    visit_penalty: float = _setting(0.5, "exponent of 1 / (1 + children)", low=0, high=4)
    inspirations: int = _setting(2, "elites shown beside the parent", low=0, high=16)
    dedup: bool = _setting(True, "reject programs seen before, unevaluated")  # noqa: FBT003


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Language models by role; empty means none, and the model-free steps run."""

    model: str = _setting("", "model for every role that names none")
    planner: str = _setting("", "model that makes plans")
    editor: str = _setting("", "model that writes edits")
    summarizer: str = _setting("", "model that draws lessons")
    api_base: str = _setting("", "address of an OpenAI-compatible server")
    temperature: float | None = _setting(None, "sent only when set", low=0, high=2)
    deadline_seconds: float = _setting(300.0, "one call, all retries included", low=1)
    plan_tokens: int = _setting(1024, "most tokens of a plan", low=16)
    edit_tokens: int = _setting(8192, "most tokens of an edit or rewrite", low=16)
    summary_tokens: int = _setting(512, "most tokens of a summary", low=16)
    digest_tokens: int = _setting(12000, "most tokens of what a prompt shows", low=500)

    def name_for(self, role: str) -> str:
        """Gives the model's name for `planner`, `editor` or `summarizer`."""
        return str(getattr(self, role)) or self.model

    @property
    def is_configured(self) -> bool:
        """Tells whether every role has a model."""
        return all(self.name_for(role) for role in ("planner", "editor", "summarizer"))


@dataclass(frozen=True, slots=True)
class StepSettings:
    """How plans are executed."""

    repairs: int = _setting(1, "repair turns after a failed edit or program", low=0, high=8)
    form: str = _setting("edit", "what the editor is asked for", choices=("edit", "rewrite"))


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Where programs run."""

    backend: str = _setting("auto", "`auto` takes the strongest that proves itself")
    allow_weak: bool = _setting(False, "run although nothing isolates")  # noqa: FBT003
    image: str = _setting("", "container image for `docker`; made from this Python by default")
    processes: int | None = _setting(
        None, "evaluator processes; by default one per core", low=1, high=256
    )
    evaluator_memory_mb: int = _setting(
        4096, "memory of one evaluator process; beyond it is replaced", low=64
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a run, frozen when it starts."""

    loop: LoopSettings = field(default_factory=LoopSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    models: ModelSettings = field(default_factory=ModelSettings)
    steps: StepSettings = field(default_factory=StepSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    parameters: Mapping[str, Any] = field(default_factory=dict)


def known_keys() -> dict[str, dataclasses.Field[Any]]:
    """Gives every `section.name` key with its field, in the order of the classes."""
    keys: dict[str, dataclasses.Field[Any]] = {}
    for section in dataclasses.fields(Settings):
        if section.name != "parameters":
            kind = typing.get_type_hints(Settings)[section.name]
            keys |= {f"{section.name}.{item.name}": item for item in dataclasses.fields(kind)}
    return keys


def change_settings(settings: Settings, changes: Mapping[str, Any], *, where: str) -> Settings:
    """Gives the settings with some keys changed.

    Args:
        settings: Where to start from.
        changes: Values by `section.name`, or `parameters.name` for the problem's parameters.
        where: Named in errors: a file, or `--set`.

    Raises:
        UsageError: A key is unknown, or a value has the wrong type or is out of range.
    """
    keys = known_keys()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if section == "parameters" and name:
            parameters = {**settings.parameters, name: value}
            settings = dataclasses.replace(settings, parameters=parameters)
            continue
        if key not in keys:
            raise UsageError(_unknown_key(key, list(keys), where))
        part = getattr(settings, section)
        checked = _checked(value, keys[key], type(part), f"{where}: `{key}`")
        part = dataclasses.replace(part, **{name: checked})
        settings = dataclasses.replace(settings, **{section: part})
    return settings


def parse_assignment(text: str, *, where: str = "--set") -> tuple[str, Any]:
    """Splits `section.name=value`; the value is read as TOML, else taken as text.

    Raises:
        UsageError: There is no `=`.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise UsageError(f"{where}: expected `section.name=value`, got {text!r}")
    return key.strip(), _toml_value(value.strip())


def load_settings(path: Path) -> dict[str, Any]:
    """Reads a settings file as values by `section.name`.

    Raises:
        UsageError: The file cannot be read or is no TOML.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: expected a TOML file of settings: {error}") from error
    changes: dict[str, Any] = {}
    for section, values in document.items():
        if not isinstance(values, dict):
            raise UsageError(f"{path}: expected a section `[{section}]`, got the value {values!r}")
        changes |= {f"{section}.{name}": value for name, value in values.items()}
    return changes


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Gives the keys set by variables such as `EVOLVE_SET_SEARCH__ISLANDS=2`."""
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).replace("__", ".").lower(): _toml_value(value)
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }


def format_settings(settings: Settings) -> str:
    """Writes settings as TOML that `load_settings` reads back to the same values."""
    lines: list[str] = []
    for section, values in dataclasses.asdict(settings).items():
        lines.append(f"[{section}]")
        for name, value in values.items():
            if value is not None:
                lines.append(f"{name} = {json.dumps(value)}")
        lines.append("")
    return "\n".join(lines)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _unknown_key(key: str, known: list[str], where: str) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    by_name = [candidate for candidate in known if candidate.endswith("." + key)]
    hint = (
        f"did you mean `{(by_name or near)[0]}`?" if by_name or near else "see `evolve run --help`"
    )
    return f"{where}: unknown key `{key}`; {hint}"


def _checked(value: Any, item: dataclasses.Field[Any], section: type, where: str) -> Any:
    hint = typing.get_type_hints(section)[item.name]
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = next(kind for kind in kinds if kind is not type(None))
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UsageError(f"{where}: expected {_KIND_NAMES[kind]}, got {value!r:.200}")
    low, high = item.metadata.get("low"), item.metadata.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        ends = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{where}: expected a value {ends}, got {value!r}")
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        raise UsageError(f"{where}: expected one of {', '.join(choices)}, got {value!r}")
    return value


_KIND_NAMES = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
