import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from evolve.errors import SandboxError
from evolve.sandbox import backends
from evolve.sandbox.backends import prove
from evolve.sandbox.layout import HostView, find_view
from evolve.sandbox.limits import BACKENDS
from evolve.sandbox.native import make_native
from evolve.sandbox.session import Sandbox

# The last is `native` as it is where user namespaces are forbidden.
NAMES = (*BACKENDS, "native-without-namespaces")


def make_sandbox(name: str, view: HostView) -> Sandbox:
    if name in BACKENDS:
        return backends.make_sandbox(name, view)
    return make_native(view, with_namespaces=False)


def has_namespaces(sandbox: Sandbox) -> bool:
    return "disk" in sandbox.isolation.enforced


def make_like(sandbox: Sandbox, view: HostView) -> Sandbox:
    name = sandbox.name if has_namespaces(sandbox) else "native-without-namespaces"
    return make_sandbox(name, view)


def _start(name: str) -> Sandbox:
    sandbox = make_sandbox(name, find_view(("numpy",)))
    isolation = prove(sandbox)
    if not isolation.is_strong:
        raise SandboxError(f"{name} is weak here: {isolation.missing}")
    return sandbox


def skip_or_fail(name: str, error: SandboxError) -> NoReturn:
    if name in os.environ.get("EVOLVE_REQUIRE_SANDBOXES", "").split(","):
        raise error
    pytest.skip(f"no {name} here: {error}")


@pytest.fixture(scope="session", params=NAMES)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    try:
        sandbox = _start(request.param)
    except SandboxError as error:
        skip_or_fail(request.param, error)
    yield sandbox
    sandbox.close()


@pytest.fixture
def namespaced(sandbox: Sandbox) -> Sandbox:
    if not has_namespaces(sandbox):
        pytest.skip("needs namespaces")
    return sandbox
