"""Settings from a TOML file, the environment and `--set`, and how they changed within a run."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from evolve.errors import UsageError
from evolve.files import decode_text
from evolve.keys import PASSWORD, split_password
from evolve.settings.sections import BY_ROLE, FREE_SECTIONS, Settings
from evolve.toml import read_given, read_value, suggest, write_key, write_value

_ENVIRONMENT_PREFIX = "EVOLVE_SET_"


def known_keys() -> dict[str, dataclasses.Field[Any]]:
    """Returns every `section.name` key with its field, in the order of the classes."""
    kinds = typing.get_type_hints(Settings)
    return {
        f"{section.name}.{item.name}": item
        for section in fields(Settings)
        if section.name not in FREE_SECTIONS
        for item in fields(kinds[section.name])
    }


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
        _expect_no_password(value, f"{where}: `{key}`")
        if section in FREE_SECTIONS and name:
            part: Any = _change_entry(getattr(settings, section), section, name, value, where)
        elif key in keys:
            old = getattr(settings, section)
            part = replace(old, **{name: read_value(value, type(old), keys[key], where, key)})
        else:
            by_name = next((one for one in keys if one.endswith(f".{key}")), key)
            near = suggest(by_name, keys, "docs/reference/settings.md lists all")
            raise UsageError(f"{where}: unknown key `{key}`; {near}")
        settings = replace(settings, **{section: part})
    return settings


def _expect_no_password(value: Any, where: str) -> None:
    """Refuses a value with a password in an address: settings are kept and shown.

    Raises:
        UsageError: It has one.
    """
    if isinstance(value, str):
        if split_password(value)[1]:
            raise UsageError(
                f"{where}: expected an address without a password, which would be kept in the"
                f" run's folder; leave it out and set the environment variable {PASSWORD}"
            )
    elif isinstance(value, Iterable):
        for part in value.values() if isinstance(value, Mapping) else value:
            _expect_no_password(part, where)


def _change_entry(
    entries: Mapping[str, Any], section: str, name: str, value: Any, where: str
) -> dict[str, Any]:
    """Returns a free section with one entry changed, or without it when the value is None."""
    others = {key: entry for key, entry in entries.items() if key != name}
    kind = FREE_SECTIONS[section]
    if value is None:
        return others
    if section in BY_ROLE:
        return {**others, **read_given(BY_ROLE[section], {name: value}, f"{where}: [{section}]")}
    return {
        **others,
        name: read_given(kind, value, f"{where}: `{section}.{name}`") if kind else value,
    }


def parse_assignment(text: str) -> tuple[str, Any]:
    """Splits `section.name=value`; the value is read as TOML, else taken as text.

    Raises:
        UsageError: There is no `=`.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise UsageError(f"--set: expected `section.name=value`, got {text!r}")
    return key.strip(), _parse_value(value.strip())


def load_settings(path: Path) -> dict[str, Any]:
    """Reads a settings file as values by `section.name`.

    Raises:
        UsageError: The file cannot be read or is not valid TOML.
    """
    try:
        document = tomllib.loads(decode_text(path.read_bytes()))
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
        name.removeprefix(_ENVIRONMENT_PREFIX).replace("__", ".").lower(): _parse_value(value)
        for name, value in environment.items()
        if name.startswith(_ENVIRONMENT_PREFIX)
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


def _parse_value(text: str) -> Any:
    """Reads a value as TOML; anything that is not valid TOML is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


@dataclass(frozen=True, slots=True)
class Invocation:
    """One start or resume of a run.

    Attributes:
        number: From 1.
        started: UTC, ISO 8601.
        pid: Of the process that ran.
        host: Name of the machine.
        version: Of this tool.
        generation: The first generation of which nothing was recorded.
        changes: Settings that were changed from that generation on: old and new value.
        evaluator: Checksum of the evaluator's code, and of all that lies beside it.
        replaced: Checksum of the one before, where it was another.
    """

    number: int
    started: str
    pid: int
    host: str
    version: str
    generation: int
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    evaluator: str = ""
    replaced: str = ""

    def describe_changes(self) -> str:
        """Returns the changes on one line, empty when there are none."""
        lines = [
            f"{name} {_show(old)} -> {_show(new)}" for name, (old, new) in self.changes.items()
        ]
        lines += [f"another evaluator ({self.evaluator[:12]})"] * bool(self.replaced)
        return ", ".join(lines)


class SettingsHistory:
    """The settings that held, or hold, for each generation.

    What a generation was asked with holds for all of it, also when a resume changed settings
    while it was in flight: recorded replies stay the answers to what was asked.

    Args:
        settings: As they are now.
        invocations: In order.
    """

    def __init__(self, settings: Settings, invocations: Sequence[Invocation] = ()) -> None:
        self.now = settings
        self._invocations = [invocation for invocation in invocations if invocation.changes]
        self._before = lru_cache(maxsize=64)(self._undo)

    def at(self, generation: int) -> Settings:
        """Returns the settings of a generation."""
        return self._before(
            sum(invocation.generation <= generation for invocation in self._invocations)
        )

    def _undo(self, invocations: int) -> Settings:
        """Returns the settings after this number of the invocations that changed any."""
        settings = self.now
        for invocation in reversed(self._invocations[invocations:]):
            old = {name: change[0] for name, change in invocation.changes.items()}
            where = f"invocation {invocation.number} of the run"
            settings = change_settings(settings, old, where=where)
        return settings


def find_changes(old: Settings, new: Settings) -> dict[str, tuple[Any, Any]]:
    """Returns what differs between two settings: old and new value by `section.name`."""
    before, after = flatten_settings(old), flatten_settings(new)
    return {
        name: (before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    }


def flatten_settings(settings: Settings) -> dict[str, Any]:
    """Returns all settings by `section.name`."""
    return {
        f"{section}.{name}": value
        for section, values in dataclasses.asdict(settings).items()
        for name, value in values.items()
    }


def _show(value: Any) -> str:
    return "none" if value is None else f"{value}"
