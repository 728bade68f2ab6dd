import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from threading import Thread
from typing import Any

import docker
import pytest

from evolve.errors import SandboxError
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.docker import (
    LABEL,
    REPOSITORY,
    build_image,
    check_image,
    connect,
    make_docker,
    parse_devices,
    prepare_image,
    sweep,
)
from evolve.sandbox.guest import kernel, seccomp
from evolve.sandbox.layout import find_view
from tests.commands import run_evolve
from tests.sandboxes import LIMITS, ask, make_program, skip_or_fail

from .python_image import import_python

ORPHAN = """
import sys
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from tests.sandboxes import ask
sandbox = open_sandbox("docker", find_view(()))
print(ask(sandbox, "def f(): return 1").value, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def address(value: str) -> Iterator[None]:
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = value
    try:
        yield
    finally:
        del os.environ["DOCKER_HOST"]
        if before is not None:
            os.environ["DOCKER_HOST"] = before


@contextlib.contextmanager
def engine(folder: Path, answers: dict[str, Any]) -> Iterator[None]:
    """Serves fixed answers by the end of the path, as an engine would."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = [answer for end, answer in answers.items() if self.path.endswith(end)]
            body = json.dumps(found[0] if found else {"message": "No such image"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "client"

        def log_message(self, *_: object) -> None:
            pass

    path = folder / "engine.sock"
    with ThreadingUnixStreamServer(str(path), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            with address(f"unix://{path}"):
                yield
        finally:
            server.shutdown()


@pytest.fixture
def client() -> Iterator[Any]:
    try:
        client = connect()
    except SandboxError as error:
        skip_or_fail("docker", error)
    yield client
    client.close()


class TestErrors:
    def test_no_socket(self, tmp_path: Path) -> None:
        with (
            address(f"unix://{tmp_path}/none.sock"),
            pytest.raises(SandboxError, match=r"docker: no socket .*none.sock; install and start"),
        ):
            connect()

    def test_nobody_listens(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{tmp_path}/dead.sock")
        with (
            address(f"unix://{tmp_path}/dead.sock"),
            pytest.raises(SandboxError, match=r"nothing answers at .*start the engine"),
        ):
            connect()

    def test_no_permission(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{tmp_path}/closed.sock")
            server.listen()
            (tmp_path / "closed.sock").chmod(0)
            before = os.geteuid()
            try:
                # Root may use any socket.
                os.seteuid(before or 64000)
                with (
                    address(f"unix://{tmp_path}/closed.sock"),
                    pytest.raises(SandboxError, match=r"no permission.*usermod -aG docker"),
                ):
                    connect()
            finally:
                os.seteuid(before)

    def test_something_else_listens(self, tmp_path: Path) -> None:
        with engine(tmp_path, {}), pytest.raises(SandboxError, match="does not answer as one"):
            connect()

    def test_an_old_engine(self, tmp_path: Path) -> None:
        with (
            engine(tmp_path, {"/version": {"ApiVersion": "1.39"}}),
            pytest.raises(SandboxError, match=r"API 1.41 or later, got 1.39; install"),
        ):
            connect()

    def test_an_engine_of_another_architecture(self, tmp_path: Path) -> None:
        version = {"ApiVersion": "1.41", "Arch": "riscv64"}
        with (
            engine(tmp_path, {"/version": version}),
            pytest.raises(SandboxError, match=r"runs 'riscv64'.*sandbox.image=NAME"),
        ):
            _prepare_without_sweep()

    def test_an_image_of_another_architecture(self, tmp_path: Path) -> None:
        answers = {
            "/version": {"ApiVersion": "1.41", "Arch": "amd64"},
            "/images/mine/json": {"Architecture": "s390x"},
        }
        with (
            engine(tmp_path, answers),
            pytest.raises(SandboxError, match=r"'mine' is for 's390x'.*--platform linux/amd64"),
        ):
            _prepare_without_sweep("mine")

    def test_an_image_that_is_missing(self, client: Any) -> None:
        with pytest.raises(SandboxError, match=r"image 'no/such' is not .*`docker pull no/such`"):
            open_sandbox("docker", find_view(("numpy",), image="no/such"))

    def test_an_image_without_python(self, client: Any) -> None:
        name = prepare_image(find_view(()))
        with pytest.raises(SandboxError, match=r"the guest did not start.*python3"):
            open_sandbox("docker", find_view(("numpy",), image=name))

    def test_a_package_that_the_image_lacks(self, client: Any) -> None:
        with pytest.raises(SandboxError, match=r"`no_such_package`.*where evolve is installed"):
            open_sandbox("docker", find_view(("no_such_package",)))


class TestDevices:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("all", {"Count": -1, "Capabilities": [["gpu"]]}),
            ("2", {"Count": 2, "Capabilities": [["gpu"]]}),
            ("device=0,GPU-1", {"DeviceIDs": ["0", "GPU-1"], "Capabilities": [["gpu"]]}),
            ("nvidia.com/gpu=0", {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]}),
        ],
    )
    def test_they_are_asked_for(self, text: str, wanted: dict[str, Any]) -> None:
        (request,) = parse_devices(text)
        assert {key: value for key, value in request.items() if value} == wanted

    @pytest.mark.parametrize("text", ["none", "0", "-1", "device=", "gpu=0", "a/b=c,", "all,1"])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(SandboxError, match=r"`sandbox.devices`: expected `all`, .*got "):
            parse_devices(text)

    def test_native_has_none(self) -> None:
        with pytest.raises(SandboxError, match=r"no `sandbox.devices`, got 'all'; use `--sandbox"):
            open_sandbox("native", find_view(("numpy",), devices="all"))

    def test_an_engine_without_them_says_so(self, client: Any) -> None:
        with pytest.raises(SandboxError, match=r"docker: .*device"):
            open_sandbox("docker", find_view(("numpy",), devices="all"))


def test_an_image_with_a_python_of_its_own_is_used(client: Any, problem: Path) -> None:
    name = f"evolve-test-python:{os.getpid()}"
    import_python(client, name)
    try:
        sandbox = open_sandbox("docker", find_view(("numpy",), image=name))
        source = "import numpy, sys\ndef f(): return sys.prefix, numpy.arange(3)"
        assert len(ask(sandbox, source).value[1]) == 3
        sandbox.close()
        options = ("--sandbox", "docker", "--set", f"sandbox.image={name}")
        done = run_evolve("check", problem, *options, cwd=problem, DOCKER_HOST=_address())
        assert "sandbox: docker" in done.stdout
        _await(lambda: set(_list_owners(client)) <= {str(os.getpid())})
    finally:
        with contextlib.suppress(docker.errors.APIError):
            client.api.remove_image(name, force=True)


class TestContainers:
    def test_one_that_lost_its_owner_is_swept(self, client: Any) -> None:
        image = prepare_image(find_view(()))
        owned = client.api.create_container(image, "x", labels={LABEL: _own_label(client)})
        place = _own_label(client).partition(":")[0]
        orphan = client.api.create_container(image, "x", labels={LABEL: f"{place}:999999999:1"})
        sweep(client)
        left = {found["Id"] for found in client.api.containers(all=True)}
        client.api.remove_container(owned["Id"])
        assert owned["Id"] in left
        assert orphan["Id"] not in left

    def test_none_is_left_by_a_host_that_is_killed(self, client: Any) -> None:
        command = [sys.executable, "-c", ORPHAN]
        with subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as host:
            assert host.stdout is not None
            assert host.stdout.readline() == b"1\n"
            assert _owned_by(client, host.pid)
            host.kill()
        _await(lambda: not _owned_by(client, host.pid))

    def test_none_is_left_after_closing(self, client: Any) -> None:
        before = _owned_by(client, os.getpid())
        sandbox = make_docker(find_view(()))
        ask(sandbox, "def f(): return 1")
        assert len(_owned_by(client, os.getpid())) == len(before) + 1
        sandbox.close()
        assert _owned_by(client, os.getpid()) == before

    def test_they_are_closed_on_every_side(self, client: Any) -> None:
        sandbox = make_docker(find_view(()))
        before = set(_owned_by(client, os.getpid()))
        session = sandbox.open(make_program("def f(): return 1"), LIMITS)
        (name,) = set(_owned_by(client, os.getpid())) - before
        config = client.api.inspect_container(name)
        sandbox.close()
        session.close()
        host = config["HostConfig"]
        assert config["Config"]["User"] == "64000:64000"
        assert host["NetworkMode"] == "none"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] == host["MemorySwap"] > 0
        assert host["PidsLimit"] > 0
        assert host["LogConfig"]["Type"] == "none"
        assert "no-new-privileges" in host["SecurityOpt"]

    def test_the_image_is_made_once(self, client: Any) -> None:
        assert prepare_image(find_view(())) == prepare_image(find_view(()))
        assert prepare_image(find_view(())).startswith(f"{REPOSITORY}:")


def test_the_profile_allows_what_programs_and_the_guest_may_call() -> None:
    profile = json.loads(seccomp.build_profile())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    by_action: dict[str, set[str]] = {"SCMP_ACT_ALLOW": set(), "SCMP_ACT_ERRNO": set()}
    for rule in profile["syscalls"]:
        by_action[rule["action"]] |= set(rule["names"])
    allowed, refused = by_action["SCMP_ACT_ALLOW"], by_action["SCMP_ACT_ERRNO"]
    assert allowed >= {*kernel.ALLOWED, *kernel.GRANTED, "mount"}
    assert {"io_uring_setup", "ptrace", "keyctl", "bpf", "fadvise64", "clone3"} <= refused
    assert not allowed & refused


def _prepare_without_sweep(image: str = "") -> None:
    with contextlib.closing(connect()) as client:
        check_image(client, image) if image else build_image(client, find_view(()))


def _await(holds: Callable[[], bool]) -> None:
    # Containers remove themselves a little after their end.
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert holds()


def _address() -> str:
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def _list_owners(client: Any) -> list[str]:
    found = client.api.containers(all=True, filters={"label": LABEL})
    return [item["Labels"][LABEL].split(":")[1] for item in found]


def _owned_by(client: Any, pid: int) -> list[str]:
    found = client.api.containers(all=True, filters={"label": LABEL})
    return [item["Id"] for item in found if item["Labels"][LABEL].split(":")[1] == str(pid)]


def _own_label(client: Any) -> str:
    sandbox = make_docker(find_view(()))
    ask(sandbox, "def f(): return 1")
    (name, *_) = _owned_by(client, os.getpid())
    label: str = client.api.inspect_container(name)["Config"]["Labels"][LABEL]
    sandbox.close()
    return label
