"""The process that programs are forked from: it warms up, and then obeys the relay.

It is forked before the relay knows of any program, reads nothing but orders (see `orders`), and
never learns how a program ended. So each program inherits what the first one did.
"""

# System calls stand here by their own names.
# ruff: noqa: PTH112, PTH114, PTH208

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from . import (
    child,
    codec,
    confine,
    kernel,
    landlock,
    mappings,
    memory,
    orders,
    portable,
    seccomp,
    tracebacks,
)
from .program import NOTES
from .watched import STACK_SIGNAL

if TYPE_CHECKING:
    import socket

_WARM_UP_ROUNDS = 20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MAX_GREETING = 1 << 16
# Descriptors that an order brings.
_SPARE = 16


def fork_zygote(settings: dict[str, Any]) -> tuple[int, socket.socket]:
    """Forks the zygote off the relay, and returns its process id and a channel to it.

    Args:
        settings: As for `relay.main`.
    """
    ours, theirs = orders.open_channel()
    relay = os.getpid()
    pid = os.fork()
    if not pid:
        ours.close()
        _run(settings, theirs, relay)
    theirs.close()
    return pid, ours


def read_greeting(channel: socket.socket) -> dict[str, Any]:
    """Waits until the zygote is warm.

    Returns:
        `namespaces`, `landlock` and `baseline` (memory of the zygote, in bytes), or a `reason`
        why it cannot serve, with the `package` that is missing.

    Raises:
        OSError: It ended without a word.
    """
    greeting = channel.recv(_MAX_GREETING)
    if not greeting:
        raise OSError("the process that starts programs ended while it was prepared")
    told: dict[str, Any] = json.loads(greeting)
    return told


def _run(settings: dict[str, Any], channel: socket.socket, relay: int) -> NoReturn:
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    try:
        cage, told = _prepare(settings, relay)
    except (OSError, ImportError) as error:
        package = error.name if isinstance(error, ImportError) else None
        _greet(channel, {"reason": str(error), "package": package})
        os._exit(1)
    os.dup2(null, 2)
    os.close(null)
    _greet(channel, told)
    child.serve_orders(cage, channel)


def _greet(channel: socket.socket, told: dict[str, Any]) -> None:
    channel.sendall(json.dumps(told).encode())


def _prepare(settings: dict[str, Any], relay: int) -> tuple[confine.Cage, dict[str, Any]]:
    is_portable = settings.get("portable", False)
    if not is_portable:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
        if os.getppid() != relay:
            os._exit(1)
    sys.path[:] = [path for path in sys.path if path] + settings["paths"]
    for name in settings["preload"]:
        _import(name)
    if "numpy" in sys.modules:
        # Programs that forget to seed are repeatable all the same.
        sys.modules["numpy"].random.seed(0)
    proc = -1
    if is_portable:
        cage = _build_portable_cage(settings)
    else:
        kernel.prepare_fork()
        if not settings.get("devices", False):
            mappings.make_private()
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        cage = _build_cage(settings, proc)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    child.set_environment(cage)
    _warm_up()
    gc.collect()
    gc.freeze()
    baseline = cage.baseline_bytes if is_portable else memory.read_bytes(proc, "self")
    if proc >= 0:
        # What a package opened while it was imported is closed in each program.
        above = max(map(int, os.listdir("/proc/self/fd"))) + _SPARE
        cage = cage._replace(above=max(above, confine.ABOVE))
        os.close(proc)
    told = {
        "namespaces": cage.is_namespaced,
        "landlock": cage.landlock_version,
        "baseline": baseline,
    }
    return cage, told


def _build_portable_cage(settings: dict[str, Any]) -> confine.Cage:
    start = portable.look_around()
    return confine.Cage(
        box=settings["box"],
        is_namespaced=False,
        landlock_version=0,
        code=b"",
        baseline_bytes=start.size,
        ids=(os.getuid(), os.getgid()),
        data=settings["data"] or "",
        portable=start,
    )


def _build_cage(settings: dict[str, Any], proc: int) -> confine.Cage:
    descriptor = os.open("self/statm", os.O_RDONLY, dir_fd=proc)
    pages = int(os.read(descriptor, 100).split()[0])
    os.close(descriptor)
    version = landlock.read_version()
    cage = confine.Cage(
        box=settings["box"],
        is_namespaced=True,
        landlock_version=version,
        code=seccomp.build_filter(has_devices=settings.get("devices", False)),
        baseline_bytes=pages * _PAGE,
        ids=(os.getuid(), os.getgid()),
        data=settings["data"] or "",
        covers=_find_covers(),
        has_devices=settings.get("devices", False),
    )
    if settings["namespaces"] and _can_confine(cage):
        return cage
    rules = confine.file_rules_without_namespaces(cage.box, version, settings["readable"])
    ruleset = landlock.build_ruleset(version, rules) if version else -1
    return cage._replace(is_namespaced=False, code=b"", ruleset=ruleset)


def _find_covers() -> tuple[tuple[str, str], ...]:
    # A container engine mounts empty folders of its own where the other backends have links; one
    # with something in it holds the interpreter.
    return tuple(
        (name, place)
        for name, place in confine.TEMPORARY
        if os.path.isdir(place) and not os.path.islink(place) and not os.listdir(place)
    )


def _can_confine(cage: confine.Cage) -> bool:
    try:
        pid = kernel.fork_into(cage.flags)
    except OSError:
        return False
    if not pid:
        try:
            confine.confine(cage, confine.Bounds(1024, 32, 1))
        except OSError as error:
            os.write(2, f"guest: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _warm_up() -> None:
    # Children inherit it: their descriptor of that number is the one for notes.
    faulthandler.register(STACK_SIGNAL, file=NOTES, all_threads=False)
    # What has run once is specialised by the interpreter: children then write to fewer pages
    # that they share with the zygote, and each page costs microseconds.
    for _ in range(_WARM_UP_ROUNDS):
        sample = ["value", {"a": (1, 2.5, None, True), "b": "text"}, 1j, b""]
        if "numpy" in sys.modules:
            sample.append(sys.modules["numpy"].arange(3.0))
        codec.decode(codec.encode(sample, 1 << 20))
        code = compile("def f(x):\n    return x / 0\nf(1)\n", "warm_up", "exec")
        try:
            exec(code, {})  # noqa: S102 - a constant
        except ZeroDivisionError as error:
            tracebacks.describe(error, "")


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a package may raise anything while imported
        reason = " ".join(str(error).split())[-300:]
        told = f"sandbox: package `{name}` cannot be imported: {reason}"
        raise ImportError(told, name=name) from None
