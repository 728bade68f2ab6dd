"""The canary: small attacks inside a session, judged from what the host sees."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from evolve.errors import ProgramError
from evolve.records import Program, SourceFile
from evolve.sandbox.protocol import Isolation, Limits

if TYPE_CHECKING:
    from evolve.sandbox.warm import WarmSandbox

_SOURCE = Path(__file__).with_name("canary_program.txt")
_LIMITS = Limits(seconds=10.0, memory_mb=64, processes=4, workspace_mb=1)
_REMEDIES = {
    "network": "no network namespace and no seccomp filter hold; use Linux with user namespaces",
    "files": "files of the host can be read or written; use Linux with user namespaces",
    "environment": "the host's environment can be read",
    "processes": "processes of the host can be seen or signalled; use user namespaces",
    "process count": "the number of processes is not limited",
    "memory": "memory is not limited",
    "disk": "files are limited one by one only; use a kernel that allows user namespaces",
}


def judge(sandbox: WarmSandbox) -> Isolation:
    """Attacks the host from inside a sandbox and tells what held.

    Raises:
        SandboxError: The sandbox cannot start.
    """
    secret = os.urandom(16).hex()
    with tempfile.TemporaryDirectory(prefix="evolve-canary-") as folder:
        bait = Path(folder, "bait")
        bait.write_text(secret)
        Path(folder).chmod(0o777)
        bait.chmod(0o666)
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0)
            port = server.getsockname()[1]
            seen = _attack(sandbox, [str(bait), port, os.getpid()])
            reached = _was_reached(server)
        seen["network"] = seen["network"] and not reached
        untouched = bait.read_text() == secret and len(list(Path(folder).iterdir())) == 1
        seen["files"] = seen["files"] and untouched
    enforced = tuple(name for name in _REMEDIES if seen[name])
    missing = tuple(f"{name}: {text}" for name, text in _REMEDIES.items() if not seen[name])
    return Isolation(sandbox.name, enforced, missing)


def _attack(sandbox: WarmSandbox, args: list[object]) -> dict[str, bool]:
    program = Program((SourceFile("canary.py", _SOURCE.read_text(encoding="utf-8")),))
    session = sandbox.open(program, _LIMITS)
    try:
        held = session.call("attack", args).value
    except ProgramError as error:
        held = {}
        del error
    finally:
        session.close()
    if type(held) is not dict:
        held = {}
    return {name: held.get(name) is True for name in _REMEDIES}


def _was_reached(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True
