"""The canary: small attacks inside a session, judged from what the host sees."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from evolve import errors
from evolve.errors import ProgramError
from evolve.records import Program, SourceFile
from evolve.sandbox.protocol import Isolation, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evolve.sandbox.warm import WarmSandbox

_SOURCE = Path(__file__).with_name("canary_program.txt")
# Files of the host that every user may read and no sandbox may show.
_BAITS = (Path("/etc/passwd"), Path(errors.__file__))
_BAIT_LENGTH = 200
# Of a virtual environment, which may be the folder of a project.
_OF_PYTHON = "pyvenv.cfg"
_MOST_BAITS = 200
_MOST_NAMED = 3
_LIMITS = Limits(seconds=10.0, memory_mb=64, processes=4, workspace_mb=1)
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


def judge(sandbox: WarmSandbox, hidden: tuple[Path, ...] = ()) -> Isolation:
    """Attacks the host from inside a sandbox and returns what held.

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
    seen["files"] = not found and not written and _guards_truncation(sandbox.told)
    alone = sandbox.why_no_cgroup
    seen["cgroup"] = not alone
    enforced = tuple(kind for kind in REMEDIES if seen[kind])
    remedies = {**REMEDIES, "cgroup": f"{REMEDIES['cgroup']} ({alone})"}
    if found:
        remedies["files"] += f" (read: {', '.join(found[:_MOST_NAMED])})"
    missing = tuple(f"{kind}: {text}" for kind, text in remedies.items() if not seen[kind])
    return Isolation(sandbox.name, enforced, missing)


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


def _attack(sandbox: WarmSandbox, args: list[object]) -> dict[str, object]:
    program = Program((SourceFile("canary.py", _SOURCE.read_text(encoding="utf-8")),))
    session = sandbox.open(program, _LIMITS)
    held: dict[str, object] = {}
    try:
        answer = session.call("attack", args).value
        held = answer if type(answer) is dict else {}
        # Last: where nothing but the watchdog bounds files, it may end the program.
        held["disk"] = session.call("fills_no_disk").value
    except ProgramError:
        return held
    finally:
        session.close()
    return held


def _take_away(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    path.unlink()
    return True


def _guards_truncation(told: Mapping[str, object]) -> bool:
    # Before its third version Landlock lets files be truncated that may only be read; trying
    # that out would do the damage.
    version = told.get("landlock")
    return told.get("namespaces") is True or (isinstance(version, int) and version >= 3)


def _was_reached(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True
