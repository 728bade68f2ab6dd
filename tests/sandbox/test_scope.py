"""Scopes of systemd, where its user manager has controllers to delegate."""

import subprocess

import pytest

from evolve.sandbox.cgroup import NoCgroupError, Scope, make_group
from evolve.sandbox.guest.wire import ProgramLimits


@pytest.fixture
def scope() -> Scope:
    try:
        found = make_group()
    except NoCgroupError as error:
        pytest.skip(f"no scopes here: {error}")
    if not isinstance(found, Scope):
        found.remove()
        pytest.skip("this user makes groups without systemd")
    return found


def test_where_neither_can_be_made_both_reasons_are_told() -> None:
    try:
        make_group().remove()
    except NoCgroupError as error:
        reasons = str(error)
    else:
        pytest.skip("this user makes groups, or systemd delegates here")
    why_no_group, _, why_no_scope = reasons.partition("; ")
    assert "cgroup" in why_no_group
    assert "systemd" in why_no_scope


def test_a_scope_limits_and_ends_what_runs_in_it(scope: Scope) -> None:
    code = "read line; echo $$; exec sleep 60"
    command = scope.wrap(["/bin/sh", "-c", f"echo begun; {code}"])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        scope.fit(ProgramLimits(memory_mb=100))
        process.stdin.write("\n")
        process.stdin.flush()
        assert int(process.stdout.readline()) == process.pid
        scope.remove()
        assert process.wait(20) == -9
