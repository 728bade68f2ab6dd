"""What people ask of a run while it continues: hints, programs of their own, pinned programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from evolve.records.attempts import AttemptKey, SourceFile


class SteerKind(StrEnum):
    """What is asked."""

    HINT = "hint"
    INJECT = "inject"
    PIN = "pin"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Steer:
    """One thing that somebody asked of a run; rows are only ever added.

    Attributes:
        number: From 1, in the order in which they were asked.
        kind: What is asked.
        text: Words of a hint; where a program comes from; key of a pinned attempt; number of what
            is dropped.
        files: Of a program that is injected.
        generation: The first one that follows it; None until one begins.
        time: When it was asked, UTC, ISO 8601.
    """

    number: int
    kind: SteerKind
    text: str
    files: tuple[SourceFile, ...] = ()
    generation: int | None = None
    time: str = ""

    def describe(self) -> str:
        """Returns it in words, for people."""
        words = {
            SteerKind.HINT: f"hint: {self.text}",
            SteerKind.INJECT: f"a program of the user's: {self.text}",
            SteerKind.PIN: f"attempt {self.text} is pinned",
            SteerKind.DROP: f"number {self.text} is dropped",
        }
        return words[self.kind]


@dataclass(frozen=True, slots=True)
class Steering:
    """What people have asked of one generation.

    Attributes:
        hints: What prompts show, oldest first.
        pins: Attempts that every generation works on, oldest first.
        injected: Programs that this generation evaluates.
    """

    hints: tuple[str, ...] = ()
    pins: tuple[AttemptKey, ...] = ()
    injected: tuple[Steer, ...] = ()


UNSTEERED = Steering()


def steering_of(asked: Sequence[Steer], generation: int) -> Steering:
    """Returns what holds for a generation of all that was asked."""
    begun = [one for one in asked if one.generation is not None and one.generation <= generation]
    dropped = {int(one.text) for one in begun if one.kind is SteerKind.DROP}
    held = [one for one in begun if one.number not in dropped]
    pins = (one.text for one in held if one.kind is SteerKind.PIN)
    return Steering(
        tuple(one.text for one in held if one.kind is SteerKind.HINT),
        tuple(dict.fromkeys(AttemptKey(*map(int, pin.split("."))) for pin in pins)),
        tuple(
            one for one in begun if one.kind is SteerKind.INJECT and one.generation == generation
        ),
    )
