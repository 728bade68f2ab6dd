"""The choice of a backend: by name, or the strongest that proves itself."""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

from evolve import errors
from evolve.errors import ProgramError, SandboxError
from evolve.records import Program, SourceFile, Status
from evolve.sandbox.layout import HostView, find_view
from evolve.sandbox.limits import BACKENDS, NAMES, Isolation, ProgramLimits
from evolve.sandbox.link import MissingPackageError
from evolve.sandbox.session import Sandbox, SandboxSession

_REMEDY = (
    "install bubblewrap or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0)"
)
_WEAK_REMEDY = ", or accept the risk with `--allow-weak-sandbox`"


def make_sandbox(name: str, view: HostView) -> Sandbox:
    """Makes a sandbox of a backend, which starts with its first program.

    Args:
        name: One of `BACKENDS`.
        view: What its guests are made of.

    Raises:
        SandboxError: The backend cannot be used here.
    """
    module, _, function = BACKENDS[name].partition(":")
    make: Callable[..., Sandbox] = getattr(importlib.import_module(module), function)
    return make(view)


def prove_backends(image: str) -> dict[str, Isolation | SandboxError]:
    """Runs the canary on every backend.

    Args:
        image: As for `open_sandbox`.

    Returns:
        By name, strongest first: which guarantees hold, or why the backend cannot start here.
    """
    view = find_view(("numpy",), image=image)
    found: dict[str, Isolation | SandboxError] = {}
    for name in BACKENDS:
        try:
            sandbox = make_sandbox(name, view)
            found[name] = prove(sandbox)
        except SandboxError as error:
            found[name] = error
        else:
            sandbox.close()
    return found


def open_sandbox(
    name: str,
    *,
    preload: tuple[str, ...] = ("numpy",),
    allow_weak: bool = False,
    data: Path | None = None,
    hide: tuple[Path, ...] = (),
    show: tuple[Path, ...] = (),
    image: str = "",
    devices: str = "",
) -> Sandbox:
    """Opens a sandbox whose canary has just proven what it enforces.

    Args:
        name: One of `NAMES`.
        preload: Packages that the guest imports once.
        allow_weak: Also takes a backend that leaves network or files within reach.
        data: Folder that programs read at `data/`.
        hide: Files and folders that programs must not see wherever they lie; the canary tries.
        show: Folders of tool chains that programs see as well.
        image: A container image with Python and the packages, for the backend `docker`.
        devices: GPUs and accelerators, for `docker` and `bubblewrap`.

    Raises:
        SandboxError: None of the backends isolates here, or a package is missing; the message
            has the remedy.
    """
    if name not in NAMES:
        raise SandboxError(f"sandbox: expected one of {', '.join(NAMES)}, got {name!r}")
    view = find_view(preload, data, hide, show, image=image, devices=devices)
    reasons = []
    weak: Sandbox | None = None
    is_weak = False
    for backend in BACKENDS if name == "auto" else (name,):
        try:
            sandbox = make_sandbox(backend, view)
            isolation = prove(sandbox, hide)
        except MissingPackageError:
            raise
        except SandboxError as error:
            reasons.append(str(error))
            continue
        if isolation.is_strong:
            return sandbox
        is_weak = True
        reasons.append(f"{backend}: weak here: {'; '.join(isolation.missing)}")
        if weak is None and allow_weak:
            weak = sandbox
        else:
            sandbox.close()
    if weak is not None:
        return weak
    if name == "docker" and not is_weak:
        # What it lacks has a remedy of its own; no other would help it.
        raise SandboxError(f"sandbox: {reasons[0]}")
    remedy = _REMEDY + _WEAK_REMEDY * is_weak
    raise SandboxError(f"sandbox: none isolates here ({' | '.join(reasons)}); {remedy}")


_SOURCE = Path(__file__).with_name("canary_program.txt")
# Files of the host that every user may read and no sandbox may show.
_BAITS = (Path("/etc/passwd"), Path(errors.__file__))
_BAIT_LENGTH = 200
# Of a virtual environment, which may be the folder of a project.
_OF_PYTHON = "pyvenv.cfg"
_MOST_BAITS = 200
_MOST_NAMED = 3
# Room for what its few children copy of a guest with large packages; it asks for a gigabyte.
_LIMITS = ProgramLimits(seconds=10.0, memory_mb=256, processes=4, workspace_mb=1)
# What is judged, each with what its absence means and the way to get it.
REMEDIES = {
    "network": "no network namespace and no seccomp filter hold; use Linux with user namespaces",
    "files": "files of the host can be read or written; use Linux with user namespaces",
    "environment": "the host's environment can be read",
    "processes": "processes of the host can be seen or signalled; use user namespaces",
    "process count": "the number of processes is not limited",
    "memory": "memory is not limited",
    "disk": "files are limited one by one only; use a kernel that allows user namespaces",
    "cgroup": (
        "only the guest's watchdog bounds the memory of several processes together, with what "
        "their sockets may hold, and pipes have bounds of the kernel's own (64 MB for a user); run "
        "as root, or as a user to whom systemd delegates memory, pids and cpu"
    ),
}


def prove(sandbox: Sandbox, hidden: tuple[Path, ...] = ()) -> Isolation:
    """Runs the canary: small attacks from inside a sandbox, judged from what the host sees.

    Args:
        sandbox: To be judged.
        hidden: Files, and folders of such, that no program may read by their own paths.

    Raises:
        SandboxError: The sandbox cannot start.
    """
    name = f"evolve-canary-{secrets.token_hex(8)}"
    places = {Path(tempfile.gettempdir()), Path.home(), Path.cwd()}
    targets = [place / name for place in places]
    baits = _read_baits([*_BAITS, *_list_files(hidden)])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        held = _attack(sandbox, [list(baits), list(map(str, targets)), port, os.getpid()])
        reached = _was_reached(server)
    written = [path for path in targets if _take_away(path)]
    read = held.get("read")
    seen = {kind: held.get(kind) is True for kind in REMEDIES}
    seen["network"] = seen["network"] and not reached
    found = _find_read(baits, read) if type(read) is list else list(baits)
    seen["files"] = not found and not written and _guards_truncation(sandbox.greeting)
    alone = sandbox.why_no_cgroup
    seen["cgroup"] = not alone
    # Last: it may end the guest.
    seen["memory"] = _holds_memory(sandbox)
    enforced = tuple(kind for kind in REMEDIES if seen[kind])
    remedies = {**REMEDIES, "cgroup": f"{REMEDIES['cgroup']} ({alone})"}
    if found:
        remedies["files"] += f" (read: {', '.join(found[:_MOST_NAMED])})"
    missing = tuple(f"{kind}: {text}" for kind, text in remedies.items() if not seen[kind])
    sandbox.isolation = Isolation(sandbox.name, enforced, missing)
    return sandbox.isolation


def _list_files(places: tuple[Path, ...]) -> list[Path]:
    """Returns the files among some places and directly in them, by their real paths as well."""
    files = list(places)
    for place in places:
        with contextlib.suppress(OSError):
            files += sorted(place.iterdir())
    wanted = [path for path in files if path.name != _OF_PYTHON]
    return list(dict.fromkeys(spelled for path in wanted for spelled in (path, path.resolve())))


def _read_baits(paths: list[Path]) -> dict[str, bytes]:
    baits = {}
    for path in paths[:_MOST_BAITS]:
        with contextlib.suppress(OSError):
            if path.is_file():
                with path.open("rb") as file:
                    baits[str(path)] = file.read(_BAIT_LENGTH)
    return {path: text for path, text in baits.items() if text}


def _find_read(baits: dict[str, bytes], read: list[object]) -> list[str]:
    return [path for path, text in zip(baits, read, strict=False) if text == baits[path]]


def _attack(sandbox: Sandbox, args: list[object]) -> dict[str, object]:
    held: dict[str, object] = {}
    with suppress(ProgramError), closing(_open_canary(sandbox)) as session:
        answer = session.call("attack", args).value
        held = answer if type(answer) is dict else {}
        # Where nothing but the watchdog bounds files, it may end the program.
        held["disk"] = session.call("fills_no_disk").value
    return held


def _holds_memory(sandbox: Sandbox) -> bool:
    with closing(_open_canary(sandbox)) as session:
        try:
            return session.call("takes_no_memory").value is True
        except ProgramError as error:
            # Next to accelerators it is bounded so: their libraries map more than they use.
            return error.status == Status.MEMORY


def _open_canary(sandbox: Sandbox) -> SandboxSession:
    program = Program((SourceFile("canary.py", _SOURCE.read_text(encoding="utf-8")),))
    return sandbox.open(program, _LIMITS)


def _take_away(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    path.unlink()
    return True


def _guards_truncation(greeting: Mapping[str, object]) -> bool:
    # Before its third version Landlock lets files be truncated that may only be read; trying
    # that out would do the damage.
    version = greeting.get("landlock")
    return greeting.get("namespaces") is True or (isinstance(version, int) and version >= 3)


def _was_reached(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True
