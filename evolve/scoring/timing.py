"""Times of repeated executions, and a machine that is quiet enough to measure them.

One timing run on the machine at a time, on the core that has least to do.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import platform
import stat
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evolve.errors import SandboxError
from evolve.files import lock_file

_LEVEL = 0.95
_TICK = 1e-6
_LOOK_SECONDS = 0.05
_STAT = Path("/proc/stat")
# What tells processors of one name apart, on x86 and on ARM.
_PROCESSOR = (
    *("cpu family", "model", "stepping", "cache size"),
    *("CPU implementer", "CPU part", "CPU variant", "CPU revision"),
)


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


def describe_kind() -> str:
    """Returns what kind of machine this is, as far as it matters for the time programs take."""
    about: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            about[key.strip()] = value.strip()
    name = about.get("model name", platform.machine())
    more = ", ".join(f"{key} {about[key]}" for key in _PROCESSOR if key in about)
    return f"{name} ({more})" if more else name


@contextlib.contextmanager
def hold_quiet(on_wait: Callable[[], None]) -> Iterator[int]:
    """Waits until no other process of this user times a program, and yields the quietest core.

    Args:
        on_wait: Called at the beginning and at the end of a wait, which is not the program's.

    Raises:
        SandboxError: The file of the lock cannot be opened.
    """
    own = os.getuid()
    places = (Path(f"/run/user/{own}/evolve"), Path(tempfile.gettempdir(), f"evolve-{own}"))
    path = find_own_folder(places) / "timing.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SandboxError(f"{path}: cannot be opened: {error.strerror}; remove it") from None
    try:
        if not lock_file(descriptor):
            on_wait()
            lock_file(descriptor, waits=True)
            on_wait()
        yield find_quiet_core()
    finally:
        os.close(descriptor)


def find_own_folder(places: Iterable[Path]) -> Path:
    """Returns the first of some folders that only this user can write, made where it is missing.

    In a folder that all can write, anybody may make and hold the lock of anybody else.

    Raises:
        SandboxError: There is none.
    """
    for place in places:
        with contextlib.suppress(OSError):
            if place.parent.is_dir():
                place.mkdir(mode=0o700, exist_ok=True)
            about = place.lstat()
            is_closed = not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and is_closed:
                return place
    raise SandboxError(
        f"{place}: expected a folder that only this user can write, found something else; "
        "remove it, or set TMPDIR to a folder of your own"
    )


def find_quiet_core() -> int:
    """Returns the core, of those that this process may use, that has least to do just now."""
    allowed = os.sched_getaffinity(0)
    before = _read_idle()
    time.sleep(_LOOK_SECONDS)
    after = _read_idle()
    return max(sorted(allowed), key=lambda core: after.get(core, 0) - before.get(core, 0))


def _read_idle() -> dict[int, int]:
    """Reads how long each core was idle, in ticks; nothing where that is not known."""
    try:
        lines = _STAT.read_text().splitlines()
    except OSError:
        return {}
    rows = [line.split() for line in lines if line.startswith("cpu") and line[3:4].isdigit()]
    return {int(row[0][3:]): int(row[4]) + int(row[5]) for row in rows}
