"""The settings of a run: defaults, a TOML file, the environment, `--set`; no unknown keys."""

from evolve.settings.reading import (
    change_settings,
    format_settings,
    known_keys,
    load_settings,
    parse_assignment,
    read_environment,
)
from evolve.settings.sections import FREE_SECTIONS, Settings

__all__ = [
    "FREE_SECTIONS",
    "Settings",
    "change_settings",
    "format_settings",
    "known_keys",
    "load_settings",
    "parse_assignment",
    "read_environment",
]
