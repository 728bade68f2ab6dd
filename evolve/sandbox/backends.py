"""Sandboxes: what every backend offers, and the choice of one that proves itself.

A `Sandbox` is a warm guest: an interpreter inside the isolation, with the declared packages
imported once. `open` forks a fresh child of it for one program: own workspace, own temporary
folders, own process tree. Everything of the child is dead and wiped when the session closes,
whatever it did. One sandbox serves one session at a time; a pool holds several.

A program's failure is a `ProgramError` with a status; a backend's own failure is a `SandboxError`.
The two are never mixed up: a backend on which any doubt falls restarts its guest before the next
session, and raises only when that fails as well.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evolve import errors
from evolve.errors import ProgramError, SandboxError
from evolve.records import Program, SourceFile, Status
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.layout import HostView, find_view
from evolve.sandbox.link import Link, MissingPackageError, starter
from evolve.sandbox.replies import OutputFile
from evolve.sandbox.session import SandboxSession

# What makes a sandbox of each; strongest first: `auto` tries them in this order.
BACKENDS = {
    "docker": "evolve.sandbox.docker:make_docker",
    "bubblewrap": "evolve.sandbox.processes:make_bubblewrap",
    "native": "evolve.sandbox.processes:make_native",
}
NAMES = ("auto", *BACKENDS)
_REMEDY = (
    "install bubblewrap or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0)"
)
_WEAK_REMEDY = ", or accept the risk with `--allow-weak-sandbox`"


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a canary saw a backend enforce.

    Attributes:
        backend: Name of the backend.
        enforced: What was proven, in words: `network`, `files`, `processes`, `memory`, ...
        missing: What is not enforced here, each with the way to get it.
    """

    backend: str
    enforced: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def is_strong(self) -> bool:
        """Returns whether network and host files are both out of reach."""
        return {"network", "files"} <= set(self.enforced)


_MAX_SESSIONS = 500


class Sandbox:
    """A sandbox around a guest that is started when needed and replaced on any doubt.

    Args:
        name: Of the backend.
        start: Starts a guest.

    Attributes:
        isolation: What the last canary saw; nothing before the first.
    """

    def __init__(self, name: str, start: Callable[[], Link]) -> None:
        self.name = name
        self.isolation = Isolation(name, ())
        self._start = start
        self._link: Link | None = None
        self._session: SandboxSession | None = None
        self._sessions = 0
        self._ending: Future[None] | None = None

    def open(
        self, program: Program, limits: ProgramLimits, built: Sequence[OutputFile] = ()
    ) -> SandboxSession:
        """Starts a program in a fresh child of the warm guest.

        Args:
            program: Its files are put into the workspace.
            limits: What it may use.
            built: What a build made of it; put into the workspace too.

        Raises:
            SandboxError: The guest cannot be started.
        """
        if self._session is not None:
            raise SandboxError(f"{self.name}: a session is open already; close it first")
        is_worn = self._sessions >= _MAX_SESSIONS
        if self._link is None or is_worn or not self._link.is_alive:
            self._end_guest()
            link = self._start()
            link.await_ready()
            self._link, self._sessions = link, 0
        self._sessions += 1
        self._link.fit(limits)
        self._session = SandboxSession(self._link, program, limits, built, self._on_close)
        return self._session

    @property
    def greeting(self) -> dict[str, Any]:
        """Returns what the guest said of itself when it started."""
        return dict(self._link.greeting) if self._link else {}

    @property
    def why_no_cgroup(self) -> str:
        """Returns why the kernel does not limit all processes of the guest together; else empty."""
        return self._link.why_no_cgroup if self._link else "no guest runs"

    def close(self) -> None:
        """Ends the guest and everything in it; safe to call twice."""
        if self._session is not None:
            self._session.close()
        self._end_guest()

    def _on_close(self, is_doubtful: bool) -> None:  # noqa: FBT001 - a callback of one argument
        self._session = None
        if is_doubtful and self._link is not None:
            # What was asked is answered: nobody need wait until the last process is gone, but the
            # next program.
            self._ending = starter(os.getpid()).submit(self._link.kill)
            self._link = None

    def _end_guest(self) -> None:
        if self._ending is not None:
            ending, self._ending = self._ending, None
            ending.result()
        if self._link is not None:
            self._link.end()
            self._link = None


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
        image: As in `HostView`.

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


def open_sandbox(name: str, view: HostView | None = None, *, allow_weak: bool = False) -> Sandbox:
    """Opens a sandbox whose canary has just proven what it enforces.

    Args:
        name: One of `NAMES`.
        view: What its guests are made of; with NumPy when None.
        allow_weak: Also takes a backend that leaves network or files within reach.

    Raises:
        SandboxError: None of the backends isolates here, or a package is missing; the message
            has the remedy.
    """
    if name not in NAMES:
        raise SandboxError(f"sandbox: expected one of {', '.join(NAMES)}, got {name!r}")
    view = view or find_view(("numpy",))
    reasons, weak = [], []
    chosen: Sandbox | None = None
    for backend in BACKENDS if name == "auto" else (name,):
        try:
            sandbox = make_sandbox(backend, view)
            isolation = prove(sandbox, view.secrets)
        except MissingPackageError:
            raise
        except SandboxError as error:
            reasons.append(str(error))
            continue
        if isolation.is_strong:
            chosen = sandbox
            break
        reasons.append(f"{backend}: weak here: {'; '.join(isolation.missing)}")
        weak.append(sandbox)
    if allow_weak and weak and chosen is None:
        chosen = weak.pop(0)
    for sandbox in weak:
        sandbox.close()
    if chosen is not None:
        return chosen
    if name == "docker" and not weak:
        # What it lacks has a remedy of its own; no other would help it.
        raise SandboxError(f"sandbox: {reasons[0]}")
    remedy = _REMEDY + _WEAK_REMEDY * bool(weak)
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
    written = [path for path in targets if os.path.lexists(path)]
    for path in written:
        path.unlink()
    read = held.get("read")
    seen = {kind: held.get(kind) is True for kind in REMEDIES}
    seen["network"] = seen["network"] and not reached
    found = _find_read(baits, read) if type(read) is list else list(baits)
    # Before its third version Landlock lets files be truncated that may only be read; trying
    # that out would do the damage.
    guards = sandbox.greeting.get("namespaces") or sandbox.greeting.get("landlock", 0) >= 3
    seen["files"] = bool(guards) and not found and not written
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


def _was_reached(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True
