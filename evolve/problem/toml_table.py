"""Strict reading of TOML tables: no unknown key, no wrong type, every message with its place."""

from __future__ import annotations

import difflib
import math
from typing import Any

from evolve.errors import ProblemError


class TomlTable:
    """A TOML table all of whose keys are known.

    Args:
        values: What the file says.
        where: Place for messages: file and table.
        known: The keys that may occur.

    Raises:
        ProblemError: There is another key; the nearest known one is named.
    """

    def __init__(self, values: dict[str, Any], where: str, known: tuple[str, ...]) -> None:
        for key in values:
            if key not in known:
                raise ProblemError(f"{where}: unknown key `{key}`; {_suggest(key, known)}")
        self.values = values
        self.where = where

    def text(self, key: str, default: str | None = None) -> str:
        """Returns a text; without a default the key is required.

        Raises:
            ProblemError: It is missing, not a text, or empty though required.
        """
        value = self._take(key, default, str, "a text")
        if default is None and not value.strip():
            raise ProblemError(f"{self.where}: `{key}`: expected a text, got an empty one")
        return str(value)

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        """Returns one of several texts.

        Raises:
            ProblemError: It is missing or something else.
        """
        value = self.text(key, default)
        if value not in choices:
            names = " or ".join(f"`{choice}`" for choice in choices)
            raise ProblemError(f"{self.where}: `{key}`: expected {names}, got {value!r:.200}")
        return value

    def texts(
        self, key: str, default: tuple[str, ...], *, required: bool = False
    ) -> tuple[str, ...]:
        """Returns a list of texts; a single text is short for a list of one.

        Raises:
            ProblemError: It is something else, repeats itself, or is empty though required.
        """
        value = self.values.get(key, list(default))
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ProblemError(
                f"{self.where}: `{key}`: expected a list of texts, got {value!r:.200}"
            )
        if required and not items:
            raise ProblemError(f"{self.where}: `{key}`: expected at least one, got none")
        if len(set(items)) < len(items) or "" in items:
            raise ProblemError(f"{self.where}: `{key}`: expected different names, got {items!r}")
        return tuple(items)

    def number(
        self, key: str, default: float | None = None, *, above: float | None = None
    ) -> float:
        """Returns a finite number; without a default the key is required.

        Raises:
            ProblemError: It is missing, not a finite number, or not above the limit.
        """
        value = float(self._take(key, default, (int, float), "a number"))
        if not math.isfinite(value) or (above is not None and value <= above):
            bound = "finite number" if above is None else f"number above {above:g}"
            raise ProblemError(f"{self.where}: `{key}`: expected a {bound}, got {value}")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """Returns a whole number of at least 1; without a default the key is required.

        Raises:
            ProblemError: It is missing, not a whole number, or too small.
        """
        value = self._take(key, default, int, "a whole number")
        if value < 1:
            raise ProblemError(f"{self.where}: `{key}`: expected at least 1, got {value}")
        return int(value)

    def flag(self, key: str) -> bool:
        """Returns true or false; false when it is missing.

        Raises:
            ProblemError: It is something else.
        """
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise ProblemError(f"{self.where}: `{key}`: expected true or false, got {value!r:.200}")
        return value

    def free(self, key: str) -> dict[str, Any]:
        """Returns a table in which every key may occur; empty when it is missing.

        Raises:
            ProblemError: It is not a table, or holds something other than plain data.
        """
        values = self._take(key, {}, dict, "a table")
        for name, value in values.items():
            if not _is_plain(value):
                raise ProblemError(
                    f"{self.where}: [{key}]: `{name}`: expected plain data, got {value!r:.200}"
                )
        return dict(values)

    def table(self, key: str, known: tuple[str, ...]) -> TomlTable:
        """Returns a table inside this one; empty when it is missing.

        Raises:
            ProblemError: It is not a table, or has an unknown key.
        """
        return TomlTable(self._take(key, {}, dict, "a table"), f"{self.where}: [{key}]", known)

    def tables(self, key: str, known: tuple[str, ...]) -> tuple[TomlTable, ...] | None:
        """Returns a list of tables, None when it is missing.

        Raises:
            ProblemError: It is not a list of tables, or one of them has an unknown key.
        """
        if key not in self.values:
            return None
        items = self._take(key, None, list, "a list of tables")
        where = f"{self.where}: [[{key}]]"
        for number, item in enumerate(items, start=1):
            if not isinstance(item, dict):
                raise ProblemError(f"{where} {number}: expected a table, got {item!r:.200}")
        return tuple(
            TomlTable(item, f"{where} {n}", known) for n, item in enumerate(items, start=1)
        )

    def _take(self, key: str, default: Any, kinds: Any, expected: str) -> Any:
        value = self.values.get(key, default)
        if value is None:
            raise ProblemError(f"{self.where}: `{key}`: expected {expected}, got nothing")
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ProblemError(f"{self.where}: `{key}`: expected {expected}, got {value!r:.200}")
        return value


def _suggest(key: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known are " + ", ".join(f"`{name}`" for name in known) if known else "none is known"


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for item in value.values())
    return isinstance(value, bool | int | float | str)
