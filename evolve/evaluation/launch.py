"""An evaluator's process before it is told what to evaluate."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import IO, NamedTuple

# What the process may see of our environment: no key of any provider is among it.
_DOCKER = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
_PYTHON = ("PYTHONPATH", "VIRTUAL_ENV")
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", *_PYTHON, *_DOCKER)


class Blank(NamedTuple):
    """A process that imports what every evaluator needs, and then waits for its configuration.

    It ends by itself when its standard input is closed.

    Attributes:
        process: Its standard input and output are pipes.
        log: Gets what it prints.
    """

    process: subprocess.Popen[bytes]
    log: IO[bytes]


def start_blank() -> Blank:
    """Starts a process, without waiting for it."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
    process = subprocess.Popen(
        # Not with the current folder on its path, which may be a stranger's.
        [sys.executable, "-P", "-m", "evolve.evaluation.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        # A Ctrl-C on the terminal is for the run, which then ends its evaluators in order.
        start_new_session=True,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )
    return Blank(process, log)
