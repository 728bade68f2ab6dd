"""What comes of executing a program: results of commands, and times of repeated executions."""

from __future__ import annotations

import itertools
import math
import signal
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from evolve.errors import ProgramError
from evolve.records import Status

_LEVEL = 0.95
_TICK = 1e-6


class OutputFile(NamedTuple):
    """A file that a command left in the workspace."""

    path: str
    data: bytes
    is_executable: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A command to start in the workspace.

    Attributes:
        words: The command and its arguments; no shell reads them.
        stdin: Its standard input.
        files: Files put into the workspace before, by path.
        outputs: Paths of the files that are brought back.
        collects: Whether all files that are new in the workspace are brought back instead.
        is_alone: Whether it may start no other process.
    """

    words: tuple[str, ...]
    stdin: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    collects: bool = False
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left; all but the times is the program's own word.

    Attributes:
        code: Exit code; the negative number of the signal that ended it.
        stdout: What it wrote on standard output, whole.
        stderr: Beginning and end of what it wrote on standard error, without control characters.
        files: Files that were asked for.
        seconds: Wall time, measured outside the sandbox.
        cpu_seconds: Processor time of it and of the processes that it waited for.
    """

    code: int
    stdout: bytes
    stderr: str = ""
    files: tuple[OutputFile, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def file(self, path: str) -> bytes:
        """Returns the content of a file that was asked for."""
        return next(data for name, data, _ in self.files if name == path)

    @property
    def text(self) -> str:
        """Returns standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode(errors="replace")


def check_path(path: str, where: str) -> str:
    """Returns a path if it lies inside the workspace.

    Raises:
        ValueError: It is absolute, empty, or leads out of it.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise ValueError(f"{where}: expected a path inside the workspace, got {path!r}")
    return str(pure)


def make_command(
    words: tuple[str, ...],
    stdin: str | bytes,
    files: Mapping[str, str | bytes] | None,
    outputs: Sequence[str],
) -> Command:
    """Makes a command from what an evaluator asks for.

    Raises:
        ValueError: There are no words, or a path leads out of the workspace.
    """
    if not words:
        raise ValueError('run: expected `command=...`, or `run = "..."` in [program]')
    given = {check_path(path, "run"): _bytes(data) for path, data in (files or {}).items()}
    wanted = tuple(check_path(path, "run") for path in outputs)
    return Command(words, _bytes(stdin), given, wanted)


def check_code(finished: Finished, name: str) -> None:
    """Checks the exit code of a command.

    Raises:
        ProgramError: It stands for a failure.
    """
    if not finished.code:
        return
    if finished.code < 0:
        reason = f"`{name}` was ended by {name_signal(-finished.code)}"
        raise ProgramError(Status.CRASHED, reason)
    lines = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
    plain = f"`{name}` exited with code {finished.code}"
    reason = f"{plain}: {lines[-1][:200]}" if lines else plain
    raise ProgramError(Status.ERROR, reason, plain=plain)


def name_signal(number: int) -> str:
    """Returns a signal's name, or its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


class Sample(NamedTuple):
    """One timed execution in a fresh process.

    Attributes:
        value: What came back.
        seconds: Wall time, measured outside the sandbox.
        cpu_seconds: Processor time, as the kernel counted it.
    """

    value: Any
    seconds: float
    cpu_seconds: float


class Spread(NamedTuple):
    """A median and its interval.

    Attributes:
        median: Of the values.
        low: Lower end of an interval that holds the true median with a probability of at least
            95 percent where there are six values or more; of fewer the least value.
        high: Upper end of it; of fewer than six the greatest value.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Repeated executions of a program, and of a reference in turn with it.

    Attributes:
        samples: Of the program.
        references: Of the reference, one for each of the program's; empty without one.
        inputs: What each of them was given.
    """

    samples: tuple[Sample, ...]
    references: tuple[Sample, ...] = ()
    inputs: tuple[Any, ...] = ()

    @property
    def values(self) -> tuple[Any, ...]:
        """Returns what each execution returned: each is to be checked, against its own input."""
        return tuple(sample.value for sample in self.samples)

    @property
    def seconds(self) -> Spread:
        """Returns the wall time, measured outside the sandbox."""
        return spread_of([sample.seconds for sample in self.samples])

    @property
    def cpu_seconds(self) -> Spread:
        """Returns the processor time, as the kernel counted it: much steadier on a busy machine."""
        return spread_of([sample.cpu_seconds for sample in self.samples])

    @property
    def ratio(self) -> Spread:
        """Returns the processor time as a multiple of the reference's, pair by pair.

        Raises:
            ValueError: No reference was timed.
        """
        return self._compare(lambda sample: sample.cpu_seconds)

    @property
    def wall_ratio(self) -> Spread:
        """Returns the wall time as a multiple of the reference's, pair by pair.

        Raises:
            ValueError: No reference was timed.
        """
        return self._compare(lambda sample: sample.seconds)

    def _compare(self, time_of: Callable[[Sample], float]) -> Spread:
        if not self.references:
            raise ValueError("ratio: expected a timing with `reference=...`, got one without")
        pairs = zip(self.samples, self.references, strict=True)
        return spread_of([time_of(ours) / max(time_of(theirs), _TICK) for ours, theirs in pairs])


def spread_of(values: Sequence[float]) -> Spread:
    """Returns the median with an interval from order statistics.

    The interval takes nothing for granted about the distribution (Conover 1999, Practical
    nonparametric statistics, section 3.2).

    Args:
        values: At least one.
    """
    ordered = sorted(values)
    count = len(ordered)
    # The true median lies outside of the values of rank r and n - 1 - r as often as n throws of a
    # coin give at most r heads, or at most r tails.
    misses = itertools.accumulate(2 * math.comb(count, rank) / 2**count for rank in range(count))
    rank = max(sum(miss <= 1 - _LEVEL for miss in misses) - 1, 0)
    return Spread(statistics.median(ordered), ordered[rank], ordered[count - 1 - rank])


def measure_times(
    program: Callable[[Any], Sample],
    reference: Callable[[Any], Sample] | None,
    repeats: int,
    draw: Callable[[], Any] = lambda: None,
) -> Timing:
    """Executes a program again and again, in turn with a reference.

    A first round, in which files and memory are read for the first time, does not count.

    Args:
        program: Executes it once on an input, in a fresh process.
        reference: Executes the reference once.
        repeats: Rounds that count, at least 1.
        draw: Returns the input of a round, which both are given.

    Raises:
        ProgramError: The program failed.
        ValueError: There are no repeats.
    """
    if repeats < 1:
        raise ValueError(f"time: expected at least 1 repeat, got {repeats}")
    samples: list[Sample] = []
    references: list[Sample] = []
    inputs = []
    for number in range(repeats + 1):
        # Whoever comes second in a round may find warmer caches.
        turns = [(program, samples), *([(reference, references)] if reference else [])]
        inputs.append(draw())
        for execute, found in turns if number % 2 else reversed(turns):
            found.append(execute(inputs[-1]))
    return Timing(tuple(samples[1:]), tuple(references[1:]), tuple(inputs[1:]))
