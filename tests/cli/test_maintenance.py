import json
from typing import Any

import pytest
from typer.testing import CliRunner

from evolve.cli.app import make_app
from evolve.sandbox.backends import BACKENDS

NO_ENGINE = "unix:///nowhere/docker.sock"


def doctor(*options: str, host: str = NO_ENGINE) -> Any:
    return CliRunner().invoke(make_app("doctor"), ["doctor", *options], env={"DOCKER_HOST": host})


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    done = doctor("--json")
    found: dict[str, Any] = json.loads(done.output)
    assert done.exit_code == (0 if found["auto"] else 4)
    return found


def test_every_backend_is_judged(told: dict[str, Any]) -> None:
    assert list(told["backends"]) == list(BACKENDS)
    strong = [name for name, backend in told["backends"].items() if backend["strong"]]
    assert told["auto"] == (strong[0] if strong else None)


def test_a_backend_that_cannot_start_says_why_and_what_to_do(told: dict[str, Any]) -> None:
    docker = told["backends"]["docker"]
    assert not docker["works"]
    assert "no socket /nowhere/docker.sock; install and start" in docker["reason"]


def test_the_table_names_what_is_judged_and_how_to_get_more() -> None:
    lines = doctor().output.splitlines()
    assert lines[0].split() == ["guarantee", *BACKENDS]
    assert [line.split()[1] for line in lines if line.startswith("network")] == ["-"]
    assert any(line.startswith("more: docker: no socket") for line in lines)
