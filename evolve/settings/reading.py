"""Settings from a TOML file, the environment and `--set`, and written back; no unknown keys."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from evolve.errors import UsageError
from evolve.files import decode_text
from evolve.keys import PASSWORD, split_password
from evolve.settings.sections import FREE_SECTIONS, ROLES, Settings

ENVIRONMENT_PREFIX = "EVOLVE_SET_"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KIND_NAMES = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple: "a text or a list of texts",
}
# Slow, and asked for every key.
_read_hints = cache(typing.get_type_hints)


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
        _expect_no_password(value, f"{where}: `{key}`")
        if section in FREE_SECTIONS and name:
            entries: Any = _change_entries(settings, section, name, value, f"{where}: `{key}`")
            settings = dataclasses.replace(settings, **{section: entries})
            continue
        if key not in keys:
            raise UsageError(f"{where}: unknown key `{key}`; {_suggest_key(key, list(keys))}")
        part = getattr(settings, section)
        checked = _check_value(value, keys[key], type(part), f"{where}: `{key}`")
        if name == "api_base":
            checked = clean_address(checked, f"{where}: `{key}`")
        part = dataclasses.replace(part, **{name: checked})
        settings = dataclasses.replace(settings, **{section: part})
    return settings


def _expect_no_password(value: Any, where: str) -> None:
    """Refuses a value with a password in an address: settings are kept and shown.

    Raises:
        UsageError: It has one.
    """
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, str) and split_password(value)[1]:
        raise UsageError(
            f"{where}: expected an address without a password, which would be kept in the run's"
            f" folder; leave it out and set the environment variable {PASSWORD}"
        )
    if isinstance(parts, Iterable) and not isinstance(parts, str):
        for part in parts:
            _expect_no_password(part, where)


def _change_entries(
    settings: Settings, section: str, name: str, value: Any, where: str
) -> dict[str, Any]:
    """Returns a free section with one entry changed, or without it when the value is None."""
    entries = {key: entry for key, entry in getattr(settings, section).items() if key != name}
    kinds = FREE_SECTIONS[section]
    if isinstance(kinds, type) and name not in {"all", *ROLES}:
        roles = ", ".join(["all", *ROLES])
        raise UsageError(f"{where}: unknown role; expected one of {roles}")
    if value is None:
        return entries
    if isinstance(kinds, type):
        value = _check_amount(value, kinds, where)
    elif kinds is not None:
        value = _check_entry(value, kinds, where)
    return {**entries, name: value}


def parse_assignment(text: str) -> tuple[str, Any]:
    """Splits `section.name=value`; the value is read as TOML, else taken as text.

    Raises:
        UsageError: There is no `=`.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise UsageError(f"--set: expected `section.name=value`, got {text!r}")
    return key.strip(), read_value(value.strip())


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


def _check_value(value: Any, item: dataclasses.Field[Any], section: type, where: str) -> Any:
    """Returns the value as its field takes it.

    A whole number serves as a number, and one text as a list of texts.

    Args:
        value: From a file, the environment or an option.
        item: The field, with its bounds.
        section: The class that has the field.
        where: Named in errors.

    Raises:
        UsageError: It has the wrong type or is out of range.
    """
    hint = _read_hints(section)[item.name]
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    kind = next(kind for kind in kinds if kind is not type(None))
    choices = item.metadata.get("choices")
    if typing.get_origin(kind) is tuple:
        texts = _check_texts(value, where)
        for text in texts:
            _check_choice(text, choices, where)
        return texts
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UsageError(f"{where}: expected {_KIND_NAMES[kind]}, got {value!r:.200}")
    low, high = item.metadata.get("low"), item.metadata.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        ends = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{where}: expected a value {ends}, got {value!r}")
    # Neither can be written into the run's settings.
    if kind is float and not math.isfinite(value):
        raise UsageError(f"{where}: expected a finite number, got {value!r}")
    _check_choice(value, choices, where)
    return value


def _check_choice(value: Any, choices: Sequence[str] | None, where: str) -> None:
    if choices and value not in choices:
        raise UsageError(f"{where}: expected one of {', '.join(choices)}, got {value!r}")


def _check_texts(value: Any, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise UsageError(f"{where}: expected {_KIND_NAMES[tuple]}, got {value!r:.200}")
    if items is value and not all(item.strip() for item in items):
        # As where a shell puts in a variable that is not set.
        raise UsageError(f"{where}: expected a text, got an empty one; leave it out for none")
    return tuple(item.strip() for item in items if item.strip())


def _check_entry(value: Any, kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    """Returns a table in which each key is known; numbers are finite and not negative.

    Args:
        value: What was set.
        kinds: What each key takes: `float`, `str`, `list` for texts, or `dict` for any table.
        where: Named in errors.

    Raises:
        UsageError: It is no table, a key is unknown, or a value does not fit.
    """
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected a table {_describe(kinds)}, got {value!r:.200}")
    checked: dict[str, Any] = {}
    for key, item in value.items():
        if key not in kinds:
            raise UsageError(f"{where}: unknown key `{key}`; expected a table {_describe(kinds)}")
        checked[key] = _check_amount(item, kinds[key], f"{where}: `{key}`")
        if key == "api_base":
            checked[key] = clean_address(checked[key], f"{where}: `{key}`")
    return checked


def clean_address(text: str, where: str) -> str:
    """Returns the base of an address that may name the whole path of a request; empty for none.

    Raises:
        UsageError: It has no scheme.
    """
    address = text.strip().rstrip("/")
    address = address.removesuffix("/chat/completions").removesuffix("/completions")
    if address and not re.match("https?://[^/]", address):
        # What stands before an `@` may be a password.
        shown = address.rpartition("@")[2]
        raise UsageError(
            f"{where}: expected an address that begins with http:// or https://, got {shown!r};"
            f" try http://{shown}"
        )
    return address


def _check_amount(value: Any, kind: type, where: str) -> Any:
    """Returns a text, a list of texts, a table, or a finite number of at least 0."""
    if kind is list:
        return list(_check_texts(value, where))
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    if kind is str and isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number and math.isfinite(value) and value >= 0:
        return float(value)
    kinds: dict[type, str] = {str: "text", dict: "a table"}
    what = kinds.get(kind, "a number of at least 0")
    raise UsageError(f"{where}: expected {what}, got {value!r:.200}")


def read_value(text: str) -> Any:
    """Reads a value as TOML; anything that is not valid TOML is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def write_value(value: Any) -> str:
    """Writes a value as TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{write_key(k)} = {write_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write_value(item) for item in value) + "]"
    # TOML has no pairs of surrogates, and takes no control characters as they are.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_key(name: str) -> str:
    """Writes a key as TOML."""
    return name if _BARE_KEY.fullmatch(name) else write_value(name)


def _suggest_key(key: str, known: list[str]) -> str:
    """Names the known key that was probably meant."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    by_name = [candidate for candidate in known if candidate.endswith("." + key)]
    if by_name or near:
        return f"did you mean `{(by_name or near)[0]}`?"
    return "docs/reference/settings.md lists all"


def _describe(kinds: Mapping[str, type]) -> str:
    return "{" + ", ".join(f"{key} = ..." for key in kinds) + "}"
