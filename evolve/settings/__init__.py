"""The settings of a run: defaults, a TOML file, the environment, `--set`; no unknown keys."""

from evolve.settings.reading import (
    Invocation,
    SettingsHistory,
    change_settings,
    find_changes,
    flatten_settings,
    format_settings,
    known_keys,
    load_settings,
    parse_assignment,
    read_environment,
)
from evolve.settings.sections import Settings

__all__ = [
    "Invocation",
    "Settings",
    "SettingsHistory",
    "change_settings",
    "find_changes",
    "flatten_settings",
    "format_settings",
    "known_keys",
    "load_settings",
    "parse_assignment",
    "read_environment",
]
