"""The first process of a container that has no init: it reaps what others leave."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

_SIGNALLED = 128


def leave_first_process() -> None:
    """Goes on in a child where this process is the first of its pid namespace.

    The kernel gives orphans to the first process, and each stays a zombie until that one waits for
    it. It also loses signals for which that process has no handler.
    """
    if sys.platform != "linux" or os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child:
        _stand_by(child)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stand_by(child: int) -> NoReturn:
    while True:
        seen = signal.sigwaitinfo(signal.valid_signals())
        # What a terminal sends reaches the child by itself.
        if seen.si_code <= 0 and seen.si_signo != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, seen.si_signo)
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    os._exit(code if code >= 0 else _SIGNALLED - code)
