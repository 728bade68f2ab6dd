"""Files that hold text or data in place of code."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import PurePosixPath

from evolve.source.parsing import syntax_error

# All numbers in these are values that somebody chose, under a name or in a list.
VALUES = frozenset({".json", ".toml", ".yaml", ".yml"})
TEXTS = VALUES | {".txt", ".md", ".rst", ".prompt", ".regex", ".csv", ".ini", ".cfg", ".conf"}
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)$")


def is_text(path: str) -> bool:
    """Returns whether a file is text or data by its name, so that no part of it is code."""
    return PurePosixPath(path).suffix.lower() in TEXTS


def is_readable(path: str) -> bool:
    """Returns whether a file can be a program that evaluators read: text, data or SQL."""
    return is_text(path) or PurePosixPath(path).suffix.lower() == ".sql"


def holds_values(path: str) -> bool:
    """Returns whether a file is one of JSON, TOML or YAML by its name."""
    return PurePosixPath(path).suffix.lower() in VALUES


def find_fault(path: str, text: str) -> str | None:
    """Returns in one line why a file is not what its name says; None where nothing is known.

    Python, JSON and TOML are read.
    """
    suffix = PurePosixPath(path).suffix.lower()
    try:
        if suffix == ".py":
            return syntax_error(text)
        if suffix == ".json":
            json.loads(text)
        elif suffix == ".toml":
            tomllib.loads(text)
    except json.JSONDecodeError as error:
        return f"line {error.lineno}: {error.msg}"
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        return f"line {at[1] if at else 1}: {_AT_LINE.sub('', str(error)).strip()}"
    except RecursionError:
        return "line 1: nested too deeply"
    return None
