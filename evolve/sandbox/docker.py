"""The `docker` backend: the guest inside a container of the Docker Engine."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from evolve.errors import SandboxError
from evolve.sandbox.backends import Sandbox
from evolve.sandbox.cgroup import OWN_MEMORY_MB, is_orphan, name_owner
from evolve.sandbox.docker_image import (
    build_image,
    check_architecture,
    check_image,
    create_container,
)
from evolve.sandbox.guest.wire import KILLS, SIGNALLED, ProgramLimits
from evolve.sandbox.layout import GUEST_PATH, HostView, guest_command
from evolve.sandbox.link import Link, LinkLostError

NAME = "docker"
LABEL = "evolve.sandbox"
_DEFAULT_HOST = "unix:///var/run/docker.sock"
# Of engine 20.10, the oldest that was tried.
_OLDEST_API = (1, 41)
_TIMEOUT_SECONDS = 30


def make_docker(view: HostView) -> Sandbox:
    """Makes a sandbox in containers.

    Args:
        view: What its guests are made of; of an image of the user's own, only the data is shown.
            Its devices are those of the engine's machine; see `parse_devices`.

    Raises:
        SandboxError: There is no engine that can be used; the message has the remedy.
    """
    image = prepare_image(view)
    if view.image:
        view = replace(view, trees=(), hidden=(), paths=())
    command = guest_command(GUEST_PATH, view)
    if view.image:
        command[0] = "python3"
    return Sandbox(NAME, lambda: _start(image, command, view))


def prepare_image(view: HostView) -> str:
    """Makes the image that shows a view, or looks at the user's, and returns its name.

    Raises:
        SandboxError: There is no engine that can be used, or the image does not fit it.
    """
    with contextlib.closing(connect()) as client:
        sweep(client)
        if view.image:
            check_image(client, view.image)
            return view.image
        check_architecture(client)
        return build_image(client, view)


def connect() -> Any:
    """Returns a client of the engine that `DOCKER_HOST` names, or of the usual one.

    Raises:
        SandboxError: No engine answers there, or one that is too old.
    """
    address = os.environ.get("DOCKER_HOST") or _DEFAULT_HOST
    # First: loading the package takes longer than to find no engine.
    _check_socket(address)
    import docker

    try:
        client = docker.from_env(timeout=_TIMEOUT_SECONDS)
    except docker.errors.DockerException as error:
        raise SandboxError(
            f"{NAME}: the engine at {address} does not answer as one: {str(error)[:200]}; "
            "see `docker version`"
        ) from None
    version = str(client.api.api_version)
    if tuple(map(int, version.split("."))) < _OLDEST_API:
        client.close()
        oldest = ".".join(map(str, _OLDEST_API))
        raise SandboxError(
            f"{NAME}: expected an engine with API {oldest} or later, got {version}; install "
            "Docker Engine 20.10 or later"
        )
    return client


def sweep(client: Any) -> int:
    """Removes containers whose owner, a process of this machine, is gone.

    Returns:
        How many there were.
    """
    import docker

    removed = 0
    for container in client.api.containers(all=True, filters={"label": LABEL}):
        owner = container["Labels"].get(LABEL, "")
        if is_orphan(owner):
            with contextlib.suppress(docker.errors.APIError):
                client.api.remove_container(container["Id"], force=True)
                removed += 1
    return removed


def _start(image: str, command: list[str], view: HostView) -> DockerLink:
    import docker

    place = f"in the image {image!r}" if view.image else "where evolve is installed"

    client = connect()
    identifier = ""
    try:
        created = create_container(
            client, image, command, view, labels={LABEL: name_owner(os.getpid())}
        )
        identifier = created["Id"]
        # Limits that an engine cannot set are a mere warning to it.
        warnings = created.get("Warnings") or ()
        discarded = " ".join(text for text in warnings if "discarded" in text)
        return DockerLink(client, identifier, NAME, place, discarded=discarded)
    except (docker.errors.DockerException, OSError) as error:
        with contextlib.suppress(docker.errors.DockerException):
            if identifier:
                client.api.remove_container(identifier, force=True)
        client.close()
        raise SandboxError(
            f"{NAME}: the container does not start: {str(error)[:300]}; `evolve doctor` tests "
            "all backends"
        ) from None


def _check_socket(address: str) -> None:
    kind, _, path = address.partition("://")
    if kind != "unix":
        return
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    except OSError as error:
        reason = {
            errno.ENOENT: f"no socket {path}; install and start Docker Engine, or set DOCKER_HOST",
            errno.EACCES: f"no permission on the socket {path}; `sudo usermod -aG docker $USER` "
            "and log in again (members of that group are as good as root)",
        }.get(
            error.errno or 0,
            f"nothing answers at {path}: {error.strerror or error}; start the engine: `sudo "
            "systemctl start docker`",
        )
        raise SandboxError(f"{NAME}: {reason}") from None


# The engine wraps output: 1 byte for the stream, 3 unused, then the length.
_WRAPPER = struct.Struct(">BxxxI")
_STDOUT, _STDERR = 1, 2
_MAX_ERRORS = 1 << 16
_NOT_FOUND, _CONFLICT = 404, 409
_GONE_SECONDS = 10.0
# The engine reports events a little later, in whole seconds.
_EVENT_SECONDS = 3.0
_MB = 1 << 20


class Container:
    """A container as the process that it is.

    Args:
        client: Of the `docker` package.
        identifier: Of the container.
        stream: Attached to it; what follows its end can be seen there.
    """

    def __init__(self, client: Any, identifier: str, stream: socket.socket) -> None:
        self._client = client
        self._stream = stream
        self.identifier = identifier

    @property
    def pid(self) -> int:
        """Returns the number of its first process on the engine's machine; 0 after its end."""
        pid: int = self._client.api.inspect_container(self.identifier)["State"]["Pid"]
        return pid

    def poll(self) -> int | None:
        """Returns 0 once the stream to it has ended, without asking the engine."""
        try:
            rest = self._stream.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return 0
        return None if rest else 0

    def wait(self, timeout: float | None = None) -> int:
        """Waits until the stream to it ends.

        Raises:
            subprocess.TimeoutExpired: It does not in time.
        """
        poller = select.poll()
        poller.register(self._stream, getattr(select, "POLLRDHUP", select.POLLHUP))
        if not poller.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired(self.identifier, timeout or 0.0)
        return 0

    def kill(self) -> None:
        """Kills and removes it, and waits until it is gone.

        Raises:
            SandboxError: The engine cannot remove it.
        """
        import docker

        deadline = time.monotonic() + _GONE_SECONDS
        while time.monotonic() < deadline:
            try:
                self._client.api.remove_container(self.identifier, force=True)
            except docker.errors.APIError as error:
                if error.status_code == _NOT_FOUND:
                    return
                # The engine may be at it already: containers remove themselves.
                if error.status_code != _CONFLICT:
                    raise SandboxError(
                        f"docker: a container cannot be removed: {str(error)[:300]}; "
                        f"`docker rm -f {self.identifier[:12]}`"
                    ) from None
                time.sleep(0.01)
            except OSError:
                # The engine is gone. What it left is swept when it is back.
                return


class DockerLink(Link):
    """A running guest in a container that was created and not yet started.

    Args:
        client: Of the `docker` package; closed with the link.
        identifier: Of the container.
        name: Of the backend, for messages.
        package_place: Where a missing package has to be installed.
        discarded: What the engine says of limits that it cannot set; empty without any.
    """

    def __init__(
        self, client: Any, identifier: str, name: str, package_place: str, *, discarded: str
    ) -> None:
        self._client = client
        self.why_no_cgroup = discarded
        self._package_place = package_place
        self._advice = f"; see that `python3` starts {package_place}"
        self._wrapped = bytearray()
        wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        response = client.api.attach_socket(identifier, wanted)
        stream: socket.socket = response._sock  # noqa: SLF001 - the package offers no other way
        self._stream = stream
        files = contextlib.ExitStack()
        errors = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it does
        for part in (client, response, stream):
            files.callback(part.close)
        # Closing alone would leave the connection open while the response holds it.
        files.callback(self._shut_down, socket.SHUT_RDWR)
        process = Container(client, identifier, stream)
        self._adopt(name, process, [stream.fileno()] * 2, errors, files)
        try:
            client.api.start(identifier)
        except BaseException:
            self.kill()
            raise

    def _hang_up(self) -> None:
        self._shut_down(socket.SHUT_WR)

    def _shut_down(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self._stream.shutdown(how)

    def ran_out_of_memory(self) -> bool:
        """Returns whether the kernel killed something for its memory since the last time."""
        before = self._kills
        self._kills = self._count_events()["oom"]
        return self._kills > before

    def find_killer(self) -> str:
        """Returns who ended a container that is gone; see `Link.find_killer`."""
        import docker

        try:
            found = self._count_events(until_gone=True)
        except (docker.errors.DockerException, OSError):
            return "the engine of the sandbox has ended"
        if found["oom"] > self._kills:
            return ""
        if not found["die"]:
            return "the engine of the sandbox was started again"
        is_killed = found["kill"] or any(found[f"die {SIGNALLED + number}"] for number in KILLS)
        return "the sandbox was killed from outside" if is_killed else ""

    def _count_events(self, *, until_gone: bool = False) -> Counter[str]:
        """Counts what the engine says happened to the container: `oom`, `kill`, `die`, `die CODE`.

        Args:
            until_gone: Whether to wait until its end is among that, which may take a moment.
        """
        asked = {"container": self._process.identifier}
        deadline = time.monotonic() + _EVENT_SECONDS
        while True:
            found: Counter[str] = Counter()
            now = int(time.time())
            for event in self._client.api.events(since=1, until=now, filters=asked, decode=True):
                found[event["Action"]] += 1
                if event["Action"] == "die":
                    found[f"die {event['Actor']['Attributes'].get('exitCode')}"] += 1
            if (found["die"] if until_gone else found["oom"]) or time.monotonic() > deadline:
                return found
            time.sleep(0.1)

    def _limit(self, limits: ProgramLimits) -> None:
        import docker

        size = (limits.memory_mb + limits.workspace_mb + OWN_MEMORY_MB) * _MB
        try:
            self._client.api.update_container(
                self._process.identifier, mem_limit=size, memswap_limit=size
            )
        except docker.errors.APIError as error:
            # One that has just ended shows by its stream.
            if error.status_code not in {_NOT_FOUND, _CONFLICT}:
                raise SandboxError(
                    f"docker: memory cannot be limited: {str(error)[:300]}"
                ) from None

    def _accept(self, data: bytes) -> None:
        self._wrapped += data
        position = 0
        while len(self._wrapped) - position >= _WRAPPER.size:
            kind, size = _WRAPPER.unpack_from(self._wrapped, position)
            end = position + _WRAPPER.size + size
            if end > len(self._wrapped):
                break
            part = memoryview(self._wrapped)[position + _WRAPPER.size : end]
            if kind == _STDOUT:
                self._received += part
            elif kind == _STDERR:
                self._keep_errors(part)
            else:
                raise LinkLostError(f"the engine sent a part of kind {kind}")
            part.release()
            position = end
        del self._wrapped[:position]

    def _keep_errors(self, text: memoryview) -> None:
        if self._errors.tell() < _MAX_ERRORS:
            self._errors.write(text[:_MAX_ERRORS])
