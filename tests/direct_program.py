"""Programs for evaluators without a sandbox: called in this process, or started as commands."""

import copy
import runpy
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evolve.problem import Problem
from evolve.sandbox.replies import Finished, OutputFile


class DirectProgram:
    """Calls functions that are given by name."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        self._functions = functions

    @classmethod
    def from_file(cls, path: Path) -> "DirectProgram":
        return cls(
            **{key: item for key, item in runpy.run_path(str(path)).items() if callable(item)}
        )

    def call(self, function: str, *args: Any) -> Any:
        return copy.deepcopy(self._functions[function](*copy.deepcopy(args)))

    def call_many(self, function: str, argument_lists: list[Any]) -> list[Any]:
        return [self.call(function, *arguments) for arguments in argument_lists]


class DirectStart:
    """The starting program of a problem, started as a command in a folder of its own."""

    is_start = True

    def __init__(self, problem: Problem) -> None:
        self._files = {path: text.encode() for path, text in problem.initial.files}

    def run(
        self,
        *arguments: str,
        files: dict[str, bytes],
        command: tuple[str, ...],
        outputs: tuple[str, ...],
    ) -> Finished:
        with tempfile.TemporaryDirectory() as place:
            for path, data in {**self._files, **files}.items():
                Path(place, path).parent.mkdir(parents=True, exist_ok=True)
                Path(place, path).write_bytes(data)
            done = subprocess.run(
                [*command, *arguments], cwd=place, capture_output=True, check=True
            )
            left = tuple(OutputFile(path, Path(place, path).read_bytes(), 0) for path in outputs)
        return Finished(0, done.stdout, done.stderr.decode(), left)


def reply_with(value: Any) -> DirectProgram:
    """Returns a program that returns the same from whatever function problems call."""
    names = ("pack", "place", "heights", "coefficients", "build", "decompose")
    return DirectProgram(**dict.fromkeys(names, lambda *_args: value))
