"""The process that programs are forked from: it warms up, and then obeys the relay.

It is forked before the relay knows of any program, and never learns how one ended. What passes
between the two are numbers and descriptors, never a byte of a program: the relay orders a process
and hands over its ends of four pipes; the process reports for itself, or the zygote that there is
none. So each program inherits what the first one did.
"""

# System calls stand here by their own names.
# ruff: noqa: PTH112, PTH114, PTH123, PTH208, S108

from __future__ import annotations

import errno
import faulthandler
import gc
import importlib
import os
import random
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Iterable
from typing import Any, NoReturn

from . import confine, kernel, program, resources, seccomp, wire
from .confine import ABOVE, Setup
from .program import NOTES, REPLIES
from .wire import ProgramLimits

_WARM_UP_ROUNDS = 20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MAX_GREETING = 1 << 16
# Descriptors that an order brings.
_SPARE = 16
# Makes a program write its stack to its notes; prepared once, here.
STACK_SIGNAL = signal.SIGUSR1
# The report of a new process; other numbers are those of errors, which the zygote reports.
_STARTED = 0
_REPORT = struct.Struct("<i")
_SENDER = struct.Struct("iII")
_MAX_ORDER = 4096
_PIPES = 4


class ZygoteLostError(Exception):
    """The zygote has ended."""


def order_process(channel: socket.socket, order: bytes, pipes: tuple[int, ...]) -> int:
    """Orders a process from the zygote, and returns its id once it is there.

    Args:
        channel: To the zygote.
        order: Its limits, as the host sent them.
        pipes: The program's ends: requests, replies, output, notes.

    Raises:
        OSError: No process can be made.
        ZygoteLostError: The zygote has ended.
    """
    try:
        socket.send_fds(channel, [order], list(pipes))
    except ConnectionError:
        raise ZygoteLostError from None
    number, sender = receive_report(channel)
    if number != _STARTED:
        raise OSError(number, os.strerror(number))
    return sender


def receive_report(channel: socket.socket) -> tuple[int, int]:
    """Waits for a report, and returns it with the process id of its sender, as the relay sees it.

    Raises:
        ZygoteLostError: Nobody is left to report.
    """
    data, extra, _, _ = channel.recvmsg(_REPORT.size, socket.CMSG_SPACE(_SENDER.size))
    if len(data) < _REPORT.size:
        raise ZygoteLostError
    # The kernel adds who sent it.
    return _REPORT.unpack(data)[0], _SENDER.unpack(extra[0][2])[0]


def close_all(descriptors: Iterable[int]) -> None:
    """Closes descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


def fork_zygote(settings: dict[str, Any]) -> tuple[int, socket.socket, dict[str, Any]]:
    """Forks the zygote off the relay, and waits until it is warm.

    Args:
        settings: As for `relay.main`.

    Returns:
        Its process id, a channel to it, and its greeting: `namespaces`, `landlock` and `baseline`
        (memory of the zygote, in bytes), or a `reason` why it cannot serve, with the `package` that
        is missing.

    Raises:
        OSError: It ended without a word.
    """
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    relay = os.getpid()
    pid = os.fork()
    if not pid:
        ours.close()
        _run(settings, theirs, relay)
    theirs.close()
    data = ours.recv(_MAX_GREETING)
    if not data:
        raise OSError("the process that starts programs ended while it was prepared")
    return pid, ours, wire.decode(data)


def _run(settings: dict[str, Any], channel: socket.socket, relay: int) -> NoReturn:
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    try:
        setup, greeting = _prepare(settings, relay)
    except (OSError, ImportError) as error:
        package = error.name if isinstance(error, ImportError) else None
        channel.sendall(wire.encode({"reason": str(error), "package": package}))
        os._exit(1)
    os.dup2(null, 2)
    os.close(null)
    channel.sendall(wire.encode(greeting))
    _serve_orders(setup, channel)


def _prepare(settings: dict[str, Any], relay: int) -> tuple[Setup, dict[str, Any]]:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    if os.getppid() != relay:
        os._exit(1)
    sys.path[:] = [path for path in sys.path if path] + settings["paths"]
    for name in settings["preload"]:
        _import(name)
    if "numpy" in sys.modules:
        # Programs that forget to seed are repeatable all the same.
        sys.modules["numpy"].random.seed(0)
    kernel.prepare_fork()
    if not settings["devices"]:
        kernel.make_private()
    setup = _build_setup(settings)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    _set_environment(setup, settings["environment"])
    _warm_up()
    gc.collect()
    gc.freeze()
    greeting = {
        "namespaces": setup.is_namespaced,
        "landlock": setup.landlock_version,
        "baseline": resources.read_bytes("self"),
    }
    # What a package opened while it was imported is closed in each program.
    above = max(map(int, os.listdir("/proc/self/fd"))) + _SPARE
    return setup._replace(above=max(above, ABOVE)), greeting


def _build_setup(settings: dict[str, Any]) -> Setup:
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    version = confine.read_landlock_version()
    setup = Setup(
        scratch=settings["scratch"],
        is_namespaced=True,
        landlock_version=version,
        code=seccomp.build_filter(has_devices=settings["devices"]),
        baseline_bytes=pages * _PAGE,
        ids=(os.getuid(), os.getgid()),
        data=settings["data"] or "",
        covers=_find_covers(),
        has_devices=settings["devices"],
    )
    if settings["namespaces"] and _can_confine(setup):
        return setup
    shown = confine.leave_out_covered(settings["readable"])
    rules = confine.file_rules(setup._replace(covers=()), shown)
    ruleset = confine.build_ruleset(version, rules) if version else -1
    return setup._replace(is_namespaced=False, code=b"", ruleset=ruleset)


def _find_covers() -> tuple[tuple[str, str], ...]:
    # A container engine mounts empty folders of its own where the other backends have links; one
    # with something in it holds the interpreter.
    return tuple(
        (name, place)
        for name, place in confine.TEMPORARY
        if os.path.isdir(place) and not os.path.islink(place) and not os.listdir(place)
    )


def _can_confine(setup: Setup) -> bool:
    limits = ProgramLimits(workspace_mb=1)
    pid = confine.fork_and(lambda: confine.confine(setup, limits), setup.flags)
    if not pid:
        os._exit(0)
    return pid > 0 and os.waitpid(pid, 0)[1] == 0


def _warm_up() -> None:
    # Children inherit it: their descriptor of that number is the one for notes.
    faulthandler.register(STACK_SIGNAL, file=NOTES, all_threads=False)
    # What has run once is specialised by the interpreter: children then write to fewer pages
    # that they share with the zygote, and each page costs microseconds.
    for _ in range(_WARM_UP_ROUNDS):
        sample = ["value", {"a": (1, 2.5, None, True), "b": "text"}, 1j, b""]
        if "numpy" in sys.modules:
            sample.append(sys.modules["numpy"].arange(3.0))
        wire.decode(wire.encode(sample))
        code = compile("def f(x):\n    return x / 0\nf(1)\n", "warm_up", "exec")
        try:
            exec(code, {})  # noqa: S102 - a constant
        except ZeroDivisionError as error:
            program.describe(error, "")


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a package may raise anything while imported
        reason = " ".join(str(error).split())[-300:]
        message = f"sandbox: package `{name}` cannot be imported: {reason}"
        raise ImportError(message, name=name) from None


def _serve_orders(setup: Setup, channel: socket.socket) -> NoReturn:
    """Forks a confined child for each order of the relay, until that ends.

    The children are the relay's: it alone learns how they end.
    """
    while True:
        order, pipes, _, _ = socket.recv_fds(channel, _MAX_ORDER, _PIPES)
        if not order:
            os._exit(0)
        try:
            if kernel.fork_sibling(setup.flags):
                _become_program(setup, order, pipes, channel)
        except OSError as error:
            channel.sendall(_REPORT.pack(error.errno or errno.EAGAIN))
        close_all(pipes)


def _pin(core: int) -> None:
    # The host's cores may be others, as where a container has only some of them.
    there = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core if core in there else min(there)})


def _become_program(
    setup: Setup, body: bytes, pipes: list[int], channel: socket.socket
) -> NoReturn:
    try:
        limits = ProgramLimits(*wire.decode(body))
        channel.sendall(_REPORT.pack(_STARTED))
        _take_descriptors([*pipes, *([setup.ruleset] if setup.ruleset >= 0 else [])], setup.above)
        channel.detach()
        if limits.core is not None:
            _pin(limits.core)
        confine.confine(setup, limits)
        if limits.core is not None:
            seccomp.install_filter(seccomp.build_timing_filter(is_alone=limits.is_alone))
        random.seed(0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = _printer(1)
        sys.stderr = _printer(2)
        spent = wire.encode(time.process_time())
        os.write(REPLIES, wire.pack_message(wire.NO_NONCE, wire.CONFINED, spent))
        program.serve(f"{setup.scratch}/work", setup.data, limits)
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


def _set_environment(setup: Setup, shown: dict[str, str]) -> None:
    """Leaves of the zygote's environment what programs get, and adds what tool chains need."""
    threads = {key: value for key, value in os.environ.items() if key.endswith("_NUM_THREADS")}
    own = {"HOME": f"{setup.scratch}/work", "TMPDIR": f"{setup.scratch}/tmp", "LANG": "C.UTF-8"}
    os.environ.clear()
    os.environ.update({**threads, "PATH": "/usr/local/bin:/usr/bin:/bin", **own, **shown})


def _printer(descriptor: int) -> Any:
    return open(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
