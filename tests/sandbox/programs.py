from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from evolve.errors import ProgramError
from evolve.records import Program, SourceFile, Status
from evolve.sandbox.limits import Answer, ProgramLimits

if TYPE_CHECKING:
    from evolve.sandbox.session import Sandbox

LIMITS = ProgramLimits(
    seconds=5.0, memory_mb=256, processes=16, workspace_mb=8, reply_mb=4, output_kb=4
)


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
