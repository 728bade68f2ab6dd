"""What a program's handle needs of whatever runs the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from evolve.scoring.commands import Command, Finished
    from evolve.scoring.timing import Sample


class Reply(Protocol):
    """What a session gives back: a value and the seconds it took, measured outside."""

    @property
    def value(self) -> Any:
        """Plain data and NumPy arrays."""

    @property
    def seconds(self) -> float:
        """Wall time of the call."""


class Session(Protocol):
    """One program inside the sandbox; `evolve.sandbox` says what it promises."""

    def call(
        self,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Reply:
        """Calls one of the program's functions."""

    def call_many(
        self,
        function: str,
        argument_lists: Sequence[Sequence[Any]],
        *,
        timeout_seconds: float | None = None,
    ) -> Reply:
        """Calls one of the program's functions once for each list of arguments."""

    def run(self, command: Command, *, timeout_seconds: float | None = None) -> Finished:
        """Starts a command beside the program's files."""

    def restart(self) -> None:
        """Ends the program's process; the next call starts another."""

    def other(self, files: Mapping[str, str]) -> Session:
        """Returns a session with a program of the evaluator's own."""

    def quiet(self) -> AbstractContextManager[int]:
        """Waits until nothing else is timed, and gives a core."""

    def time_call(
        self,
        core: int,
        function: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        timeout_seconds: float | None = None,
    ) -> Sample:
        """Calls a function once in a fresh process on a core."""

    def time_run(
        self, core: int, command: Command, *, timeout_seconds: float | None = None
    ) -> Sample:
        """Starts a command once in a fresh process on a core."""

    @property
    def files(self) -> Mapping[str, str]:
        """Returns the program's texts by path."""

    @property
    def start(self) -> Sequence[str]:
        """Returns the words of the command that starts the program; none where it has none."""
