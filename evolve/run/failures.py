"""Failures of the machine that Python raises as its own exceptions, told as ours."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from shlex import quote
from typing import TYPE_CHECKING

from evolve.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OF_THE_MACHINE = {
    errno.ENOMEM: "free memory",
    errno.EAGAIN: "let there be fewer processes",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "let fewer files be open on this machine",
    errno.ENOSPC: "free the disk",
    errno.EDQUOT: "free the disk",
    errno.EROFS: "make the disk writable",
    errno.EIO: "look at the disk",
    errno.EACCES: "mend the permissions",
    errno.EPERM: "mend the permissions",
}


@contextmanager
def failures_of_the_machine(folder: Path) -> Iterator[None]:
    """Turns what only the machine can be the cause of into `MachineError`.

    Args:
        folder: Of the run, which is named in what to do.

    Raises:
        MachineError: No memory, no disk, no process, no file to be had.
    """
    try:
        yield
    except MemoryError as error:
        raise MachineError(_tell(folder, "out of memory", "free memory")) from error
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        what = f"{where}{error.strerror}"
        raise MachineError(_tell(folder, what, _OF_THE_MACHINE[error.errno])) from error
    except RuntimeError as error:
        # There is no other sign of it.
        if "can't start new thread" not in str(error):
            raise
        to_do = "let there be fewer processes or more memory"
        raise MachineError(_tell(folder, str(error), to_do)) from error


def _tell(folder: Path, what: str, to_do: str) -> str:
    return (
        f"{folder}: the machine failed: {what}; what was committed is safe: {to_do}, then "
        f"`evolve resume {quote(str(folder))}`"
    )
