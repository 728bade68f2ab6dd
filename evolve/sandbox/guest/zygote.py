"""The guest's first process: warms up, leaves every privilege, then relays."""

# System calls stand here by their own names.
# ruff: noqa: PTH112, PTH114, PTH123, PTH208

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from typing import Any, NoReturn

from . import child, confine, files, frames, kernel, landlock, memory, portable, seccomp, tracebacks
from .relay import Relay
from .wire import FAILED, HEADER, READY

_WARM_UP_ROUNDS = 20
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main(settings: dict[str, Any]) -> NoReturn:
    """Serves the host over standard input and output, until it closes them.

    Args:
        settings: `preload`, names of packages; `paths`, where else they are; `box`, a folder
            for programs; `data`, one that they may read; `namespaces`, whether the zygote has
            its own; `readable`, paths with rights for when it has not.
    """
    try:
        relay, told = _prepare(settings)
    except (OSError, ImportError) as error:
        package = error.name if isinstance(error, ImportError) else None
        if settings.get("host_folder"):
            files.remove(settings["host_folder"])
        _tell(FAILED, {"reason": str(error), "package": package})
        os._exit(1)
    _tell(READY, told)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    relay.run()


def _prepare(settings: dict[str, Any]) -> tuple[Relay, dict[str, Any]]:
    if os.getuid() == 0:
        kernel.leave_root(confine.GUEST_ID)
        if not os.access(os.__file__, os.R_OK):
            raise OSError(
                f"{os.__file__} cannot be read by other users than root; run as an ordinary user "
                "or install Python where everybody can read it"
            )
    is_portable = settings.get("portable", False)
    if settings["namespaces"]:
        # After any change of user, which clears it.
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    _set_score()
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
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        cage = _build_cage(settings, proc)
        if not cage.is_namespaced:
            # Orphans of a program come to the zygote, which then sees and reaps them.
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    child.set_environment(cage)
    _warm_up()
    gc.collect()
    gc.freeze()
    baseline = cage.baseline_bytes if is_portable else memory.read_bytes(proc, "self")
    told = {
        "namespaces": cage.is_namespaced,
        "landlock": cage.landlock_version,
        "host_folder": settings.get("host_folder"),
    }
    return Relay(cage, proc, baseline), told


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
        code=seccomp.build_filter(),
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
    # What has run once is specialised by the interpreter: children then write to fewer pages
    # that they share with the zygote, and each page costs microseconds.
    for _ in range(_WARM_UP_ROUNDS):
        sample = ["value", {"a": (1, 2.5, None, True), "b": "text"}, 1j, b""]
        if "numpy" in sys.modules:
            sample.append(sys.modules["numpy"].arange(3.0))
        frames.decode(frames.encode(sample, 1 << 20))
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


def _set_score() -> None:
    # When memory runs out on the machine, the kernel takes programs first.
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass


def _tell(kind: bytes, told: dict[str, Any]) -> None:
    body = json.dumps(told).encode()
    os.write(1, HEADER.pack(kind, len(body)) + body)
