"""A program's process: its fork, its confinement, its start."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from . import kernel, orders, program, seccomp
from .confine import ABOVE, Bounds, Cage, confine
from .wire import CONFINED, MESSAGE, NO_NONCE, SECONDS

if TYPE_CHECKING:
    import socket

    from .orders import Order

_REPLIES = 4


def serve_orders(cage: Cage, channel: socket.socket) -> NoReturn:
    """Forks a confined child for each order of the relay, until that ends.

    The children are the relay's: it alone learns how they end.
    """
    while True:
        try:
            order, pipes = orders.receive_order(channel)
        except EOFError:
            os._exit(0)
        try:
            is_child = _fork_kept(channel) if cage.portable else kernel.fork_sibling(cage.flags)
            if is_child:
                _run(cage, order, pipes, channel)
            told = orders.FORKED, 0
        except OSError as error:
            told = orders.FAILED, error.errno or 0
        orders.close_all(pipes)
        orders.report(channel, *told)


def _fork_kept(channel: socket.socket) -> bool:
    """Forks a child with a parent of its own, which reports its end; for other systems."""
    # Nobody need wait for a keeper.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.fork():
        return False
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        pid = os.fork()
    except OSError as error:
        orders.report(channel, orders.FAILED, error.errno or 0)
        os._exit(1)
    if not pid:
        return True
    # The pipes are the program's: the relay waits for their end.
    os.closerange(0, channel.fileno())
    os.closerange(channel.fileno() + 1, ABOVE)
    _, status, usage = os.wait4(pid, 0)
    orders.report(channel, orders.ENDED, status, usage.ru_utime + usage.ru_stime)
    os._exit(0)


def _pin(core: int) -> None:
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        # The host's cores may be others, as where a container has only some of them.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _run(cage: Cage, order: Order, pipes: tuple[int, ...], channel: socket.socket) -> NoReturn:
    try:
        orders.report(channel, orders.STARTED, os.getpid())
        _take_descriptors([*pipes, *([cage.ruleset] if cage.ruleset >= 0 else [])], cage.above)
        channel.detach()
        bounds = Bounds(order.memory_mb, order.processes, order.workspace_mb)
        core = order.core
        if core is not None and cage.portable is None:
            _pin(core)
        confine(cage, bounds)
        if core is not None and cage.portable is None:
            seccomp.install_filter(seccomp.build_timing_filter(is_alone=order.is_alone))
        random.seed(0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = _printer(1)
        sys.stderr = _printer(2)
        spent = SECONDS.pack(time.process_time())
        os.write(_REPLIES, MESSAGE.pack(NO_NONCE, CONFINED, len(spent)) + spent)
        program.serve(f"{cage.box}/work", cage.data, order.reply_bytes)
    except BaseException as error:  # noqa: BLE001 - nothing may go back into the zygote's own code
        os.write(2, "".join(traceback.format_exception_only(error)).encode())
    finally:
        os._exit(70)


def _take_descriptors(pipes: list[int], above: int) -> None:
    requests, replies, printer, notes, *rest = pipes
    null = os.open("/dev/null", os.O_RDONLY)
    sources = [null, printer, printer, requests, replies, notes, *rest]
    high = [os.dup2(source, above + i) for i, source in enumerate(sources)]
    for target, source in enumerate(high):
        os.dup2(source, target, inheritable=target <= 2)
    os.closerange(len(high), above + len(high) + 1)


def set_environment(cage: Cage) -> None:
    """Leaves of the zygote's environment what programs get."""
    threads = {key: value for key, value in os.environ.items() if key.endswith("_NUM_THREADS")}
    os.environ.clear()
    os.environ.update(threads)
    os.environ.update(
        PATH="/usr/local/bin:/usr/bin:/bin",
        HOME=f"{cage.box}/work",
        TMPDIR=f"{cage.box}/tmp",  # noqa: S108 - its own
        LANG="C.UTF-8",
    )


def _printer(descriptor: int) -> Any:
    return open(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
