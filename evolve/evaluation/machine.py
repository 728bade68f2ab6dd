"""The machine: what kind it is, and which versions and modules programs find in the sandbox."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evolve.records import Evaluation, Program, SourceFile

_SOURCE = """import importlib.metadata, pkgutil, platform


def probe(names):
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    modules = sorted({found.name for found in pkgutil.iter_modules()})
    return {"python": platform.python_version(), "versions": versions, "modules": modules}
"""
PROBE = Program((SourceFile("initial.py", _SOURCE),))
"""A program that reports what it finds."""

PACKAGES = ("numpy", "scipy", "numba", "scikit-learn", "pandas", "networkx", "sympy", "torch")


@dataclass(frozen=True, slots=True)
class Machine:
    """What programs find in the sandbox.

    Attributes:
        python: Version of Python.
        versions: Versions of well-known packages, by name.
        modules: All modules at the top level apart from the standard library's.
    """

    python: str
    versions: Mapping[str, str]
    modules: frozenset[str]

    def describe(self) -> str:
        """Returns one sentence for a prompt."""
        found = "".join(f", {name} {version}" for name, version in self.versions.items())
        return f"It runs with Python {self.python}{found}."

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data that `from_dict` turns back into an equal machine."""
        return {
            "python": self.python,
            "versions": dict(self.versions),
            "modules": sorted(self.modules),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Machine:
        """Returns the machine that `as_dict`, or the probe, wrote.

        Raises:
            TypeError: A field has another type; the sandbox returned something else.
        """
        versions, modules = data["versions"], data["modules"]
        if not isinstance(versions, dict) or not isinstance(modules, list):
            raise TypeError("machine: expected versions by name and a list of modules")
        known = {str(name): str(version)[:40] for name, version in versions.items()}
        return cls(str(data["python"])[:40], known, frozenset(map(str, modules)))


def read_machine(verdict: Evaluation) -> Machine | None:
    """Returns the machine that the evaluation of `PROBE` reports; None where it failed."""
    try:
        return Machine.from_dict(json.loads(verdict.artifacts["machine"]))
    except (KeyError, TypeError, ValueError):
        return None


def describe_kind() -> str:
    """Returns what kind of machine this is, as far as it matters for the time programs take."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
