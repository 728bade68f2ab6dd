"""The settings of a run: defaults, a TOML file, the environment, `--set`; no unknown keys."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evolve.errors import UsageError
from evolve.settings.defaults import MOST_LAG, WITH_MODEL, WITHOUT_MODEL
from evolve.settings.models import EffortSettings, ModelSettings, TemperatureSettings
from evolve.settings.search import SearchSettings, TuningSettings
from evolve.settings.values import (
    check_entry,
    check_value,
    read_value,
    setting,
    suggest_key,
    write_key,
    write_value,
)

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT_PREFIX = "EVOLVE_SET_"


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How the loop is cut into generations and slots."""

    generations: int | None = setting(
        None,
        f"generations to run; by default {WITH_MODEL.generations} with a model, "
        f"{WITHOUT_MODEL.generations} without",
        low=1,
    )
    slots: int = setting(
        0,
        f"slots in a generation; by default {WITH_MODEL.slots} with a model, "
        f"{WITHOUT_MODEL.slots} without",
        low=0,
        high=4096,
    )
    seed: int = setting(0, "seed of every random stream", low=0)
    workers: int | None = setting(
        None, "model calls at a time; by default 8; changes no result", low=1, high=1024
    )
    lag: int = setting(
        1, "generations that may be in flight beside the oldest", low=0, high=MOST_LAG
    )


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """What ends a run early; all caps are hard."""

    max_cost_usd: float | None = setting(None, "US dollars for model calls", low=0)
    max_evaluations: int | None = setting(None, "evaluations, the initial one included", low=1)
    max_calls: int | None = setting(None, "model calls", low=1)
    max_tokens: int | None = setting(None, "tokens read and written", low=1)
    max_seconds: float | None = setting(
        None,
        f"wall-clock seconds; by default {WITHOUT_MODEL.max_seconds:g} without a model",
        low=0,
    )
    target: float | None = setting(None, "objective at which the run stops")
    patience: int | None = setting(
        None, "evaluations without progress after which the run stops", low=1
    )


@dataclass(frozen=True, slots=True)
class StepSettings:
    """How plans are executed."""

    repairs: int = setting(1, "repair turns after a failed edit or program", low=0, high=8)
    form: str = setting(
        "auto",
        "what the editor is asked for; `auto` is edits until a model's edits keep failing",
        choices=("auto", "edit", "rewrite"),
    )
    executor: str = setting(
        "chat",
        "`agent` lets the editor call tools; `fuse` does so when the search has stalled",
        choices=("chat", "agent", "fuse"),
    )
    agent_turns: int = setting(12, "most answers of an agent in a slot", low=1, high=200)
    agent_evaluations: int = setting(3, "most evaluations of an agent", low=1, high=100)
    agent_tokens: int = setting(60_000, "most tokens an agent reads and writes", low=1000)
    summarize: bool = setting(True, "draw lessons from each generation")  # noqa: FBT003
    lessons: bool = setting(True, "show the lessons of the run")  # noqa: FBT003

    @property
    def most_evaluations(self) -> int:
        """Returns the most evaluations that a slot with a model may use."""
        chat = 1 + self.repairs
        return {
            "chat": chat,
            "agent": self.agent_evaluations,
            "fuse": max(chat, self.agent_evaluations),
        }[self.executor]


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Where programs run."""

    backend: str = setting("auto", "`auto` takes the strongest that proves itself")
    allow_weak: bool = setting(False, "run although nothing isolates")  # noqa: FBT003
    fresh: bool = setting(False, "a new sandbox for each program")  # noqa: FBT003
    image: str = setting("", "container image for `docker`; made from this Python by default")
    devices: str = setting(
        "", "GPUs for `docker`: `all`, a number, `device=ID,ID`, or names like `nvidia.com/gpu=0`"
    )
    processes: int | None = setting(
        None, "evaluator processes; by default one per core", low=1, high=256
    )
    evaluator_memory_mb: int = setting(
        4096, "memory of one evaluator process; beyond it is replaced", low=64
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a run, frozen when it starts."""

    loop: LoopSettings = field(default_factory=LoopSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    tuning: TuningSettings = field(default_factory=TuningSettings)
    models: ModelSettings = field(default_factory=ModelSettings)
    steps: StepSettings = field(default_factory=StepSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    temperature: TemperatureSettings = field(default_factory=TemperatureSettings)
    effort: EffortSettings = field(default_factory=EffortSettings)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


# Sections in which any name may stand, and what an entry takes; None for any value. Prices are in
# US dollars per million tokens.
FREE_SECTIONS: Mapping[str, Mapping[str, type] | None] = {
    "parameters": None,
    "prices": dict.fromkeys(("prompt", "completion", "cached"), float),
    "endpoints": {
        "api_base": str,
        "drop": list,
        **dict.fromkeys(("concurrency", "requests_per_minute", "tokens_per_minute"), float),
    },
}


def known_keys() -> dict[str, dataclasses.Field[Any]]:
    """Returns every `section.name` key with its field, in the order of the classes."""
    keys: dict[str, dataclasses.Field[Any]] = {}
    kinds = typing.get_type_hints(Settings)
    for section in dataclasses.fields(Settings):
        if section.name not in FREE_SECTIONS:
            fields = dataclasses.fields(kinds[section.name])
            keys |= {f"{section.name}.{item.name}": item for item in fields}
    return keys


def change_settings(settings: Settings, changes: Mapping[str, Any], *, where: str) -> Settings:
    """Returns the settings with some keys changed.

    Args:
        settings: Where to start from.
        changes: Values by `section.name`; in the sections `parameters` (of the problem),
            `prices` and `endpoints` (of models) any name may stand.
        where: Named in errors: a file, or `--set`.

    Raises:
        UsageError: A key is unknown, or a value has the wrong type or is out of range.
    """
    keys = known_keys()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if section in FREE_SECTIONS and name:
            entries: Any = _change_entries(settings, section, name, value, f"{where}: `{key}`")
            settings = dataclasses.replace(settings, **{section: entries})
            continue
        if key not in keys:
            raise UsageError(f"{where}: unknown key `{key}`; {suggest_key(key, list(keys))}")
        part = getattr(settings, section)
        checked = check_value(value, keys[key], type(part), f"{where}: `{key}`")
        part = dataclasses.replace(part, **{name: checked})
        settings = dataclasses.replace(settings, **{section: part})
    return settings


def _change_entries(
    settings: Settings, section: str, name: str, value: Any, where: str
) -> dict[str, Any]:
    """Returns a free section with one entry changed, or without it when the value is None."""
    entries = {key: entry for key, entry in getattr(settings, section).items() if key != name}
    if value is not None:
        kinds = FREE_SECTIONS[section]
        entries[name] = value if kinds is None else check_entry(value, kinds, where)
    return entries


def parse_assignment(text: str, *, where: str = "--set") -> tuple[str, Any]:
    """Splits `section.name=value`; the value is read as TOML, else taken as text.

    Raises:
        UsageError: There is no `=`.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise UsageError(f"{where}: expected `section.name=value`, got {text!r}")
    return key.strip(), read_value(value.strip())


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
    """Returns the keys set by variables such as `EVOLVE_SET_SEARCH__ISLANDS=2`."""
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).replace("__", ".").lower(): read_value(value)
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
                lines.append(f"{write_key(name)} = {write_value(value)}")
        lines.append("")
    return "\n".join(lines)
