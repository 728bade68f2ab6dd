import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from evolve.errors import SandboxError
from evolve.sandbox.backends import Sandbox
from tests.commands import write_problem
from tests.sandboxes import NAMES, has_namespaces, skip_or_fail, start_sandbox

# A busy machine is no failure, and the same examples run everywhere.
settings.register_profile("evolve", deadline=None, derandomize=True)
settings.load_profile("evolve")


@pytest.fixture(scope="session", autouse=True)
def _heard_signals() -> Iterator[None]:
    """Lets what tests start hear a closed terminal, even where tests run under `nohup`."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        # What has a handler here is back at its default in a child; what is ignored stays so.
        signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory) -> None:
    """Keeps the secret that marks runs as one's own out of the user's state folder."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session", autouse=True)
def _one_evaluator() -> None:
    """Lets runs start one evaluator process, not one per core: to start them takes most time."""
    os.environ["EVOLVE_SET_SANDBOX__PROCESSES"] = "1"


@pytest.fixture
def problem(tmp_path) -> Path:
    """A small problem folder: two numbers, best at 3 and -2."""
    return write_problem(tmp_path / "valley")


@pytest.fixture(scope="session", params=NAMES)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Each backend in turn, as far as it isolates here."""
    try:
        sandbox = start_sandbox(request.param)
    except SandboxError as error:
        skip_or_fail(request.param, error)
    yield sandbox
    sandbox.close()


@pytest.fixture
def namespaced(sandbox: Sandbox) -> Sandbox:
    """Each backend that puts programs into namespaces."""
    if not has_namespaces(sandbox):
        pytest.skip("needs namespaces")
    return sandbox
