"""A program for evaluators that runs in this process: no sandbox, but copies both ways."""

import copy
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any


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


def reply_with(value: Any) -> DirectProgram:
    """Returns a program that returns the same from whatever function problems call."""
    names = ("pack", "place", "heights", "coefficients", "build", "decompose")
    return DirectProgram(**dict.fromkeys(names, lambda *_args: value))
