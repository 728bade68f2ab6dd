"""The canary: small attacks inside a session, judged from what the host sees."""

from __future__ import annotations

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
        "only the guest's watchdog bounds the memory of several processes together; run as root, "
        "or with cgroups of version 2 as `systemd-run --user --scope evolve ...`"
    ),
}


def judge(sandbox: WarmSandbox) -> Isolation:
    """Attacks the host from inside a sandbox and tells what held.

    Raises:
        SandboxError: The sandbox cannot start.
    """
    name = f"evolve-canary-{secrets.token_hex(8)}"
    places = {Path(tempfile.gettempdir()), Path.home(), Path.cwd()}
    targets = [place / name for place in places]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        baits = [str(path) for path in _BAITS]
        held = _attack(sandbox, [baits, list(map(str, targets)), port, os.getpid()])
        reached = _was_reached(server)
    written = [path for path in targets if _take_away(path)]
    secret = {path.read_text(errors="replace")[:_BAIT_LENGTH] for path in _BAITS if path.exists()}
    read = held.get("read")
    seen = {kind: held.get(kind) is True for kind in REMEDIES}
    seen["network"] = seen["network"] and not reached
    seen["files"] = (
        type(read) is list
        and not any(text in secret for text in read if type(text) is str)
        and not written
        and _guards_truncation(sandbox.told)
    )
    alone = sandbox.why_no_cgroup
    seen["cgroup"] = not alone
    enforced = tuple(kind for kind in REMEDIES if seen[kind])
    remedies = {**REMEDIES, "cgroup": f"{REMEDIES['cgroup']} ({alone})"}
    missing = tuple(f"{kind}: {text}" for kind, text in remedies.items() if not seen[kind])
    return Isolation(sandbox.name, enforced, missing)


def _attack(sandbox: WarmSandbox, args: list[object]) -> dict[str, object]:
    program = Program((SourceFile("canary.py", _SOURCE.read_text(encoding="utf-8")),))
    session = sandbox.open(program, _LIMITS)
    try:
        held = session.call("attack", args).value
    except ProgramError:
        return {}
    finally:
        session.close()
    return held if type(held) is dict else {}


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
