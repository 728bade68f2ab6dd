"""Each start and resume of a run, and the settings that held for each of its generations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from evolve.settings import FREE_SECTIONS, Settings, change_settings


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
    values: dict[str, Any] = {}
    for section in fields(Settings):
        part = getattr(settings, section.name)
        is_free = section.name in FREE_SECTIONS
        for name in part if is_free else [item.name for item in fields(part)]:
            values[f"{section.name}.{name}"] = part[name] if is_free else getattr(part, name)
    return values


def _show(value: Any) -> str:
    return "none" if value is None else f"{value}"
