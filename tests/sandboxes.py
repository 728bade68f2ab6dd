"""Sandboxes as tests open them, and programs that are asked for something in one."""

from __future__ import annotations

import os
import textwrap
from typing import Any, NoReturn

import pytest

from evolve.errors import ProgramError, SandboxError
from evolve.records import Program, SourceFile, Status
from evolve.sandbox import backends
from evolve.sandbox.backends import BACKENDS, Sandbox, prove
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.layout import HostView, find_view
from evolve.sandbox.processes import make_native
from evolve.sandbox.session import Answer

# The last is `native` as it is where user namespaces are forbidden.
NAMES = (*BACKENDS, "native-without-namespaces")
LIMITS = ProgramLimits(
    seconds=5.0, memory_mb=256, processes=16, workspace_mb=8, reply_mb=4, output_kb=4
)


def make_sandbox(name: str, view: HostView) -> Sandbox:
    if name in BACKENDS:
        return backends.make_sandbox(name, view)
    return make_native(view, with_namespaces=False)


def has_namespaces(sandbox: Sandbox) -> bool:
    return "disk" in sandbox.isolation.enforced


def make_like(sandbox: Sandbox, view: HostView) -> Sandbox:
    name = sandbox.name if has_namespaces(sandbox) else "native-without-namespaces"
    return make_sandbox(name, view)


def start_sandbox(name: str) -> Sandbox:
    sandbox = make_sandbox(name, find_view(("numpy",)))
    isolation = prove(sandbox)
    if not isolation.is_strong:
        raise SandboxError(f"{name} is weak here: {isolation.missing}")
    return sandbox


def skip_or_fail(name: str, error: SandboxError) -> NoReturn:
    if name in os.environ.get("EVOLVE_REQUIRE_SANDBOXES", "").split(","):
        raise error
    pytest.skip(f"no {name} here: {error}")


def make_program(source: str, **others: str) -> Program:
    files = [SourceFile("main.py", textwrap.dedent(source))]
    files += [SourceFile(path.replace("__", "/") + ".py", text) for path, text in others.items()]
    return Program(tuple(files))


def ask(
    sandbox: Sandbox,
    source: str,
    function: str = "f",
    args: tuple[Any, ...] = (),
    limits: ProgramLimits = LIMITS,
) -> Answer:
    session = sandbox.open(make_program(source), limits)
    try:
        return session.call(function, args)
    finally:
        session.close()


def fail_with_output(sandbox: Sandbox, source: str, limits: ProgramLimits = LIMITS) -> bytes:
    session = sandbox.open(make_program(source), limits)
    with pytest.raises(ProgramError):
        session.call("f")
    session.close()
    return session.printed


def fail(
    sandbox: Sandbox,
    source: str,
    status: Status,
    match: str | None = None,
    limits: ProgramLimits = LIMITS,
) -> ProgramError:
    with pytest.raises(ProgramError, match=match) as caught:
        ask(sandbox, source, limits=limits)
    assert caught.value.status == status, caught.value.reason
    assert ask(sandbox, "def f(): return 'alive'").value == "alive"
    return caught.value
