"""The `docker` backend: the guest inside a container of the Docker Engine.

The image is an almost empty file system, made without a registry: the interpreter is not in it, the
trees of a view are bound into each container.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import platform
import re
import select
import socket
import struct
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from evolve.errors import SandboxError
from evolve.sandbox.backends import Sandbox
from evolve.sandbox.cgroup import CPU_PERIOD_MICROSECONDS, guest_memory_bytes, is_orphan, name_owner
from evolve.sandbox.guest import seccomp
from evolve.sandbox.guest.confine import DATA, EMPTY, GUEST_ID, SCRATCH, TEMPORARY
from evolve.sandbox.guest.wire import KILLS, SIGNALLED, ProgramLimits
from evolve.sandbox.layout import (
    GUEST_PATH,
    GUEST_SOURCE,
    HostView,
    guest_command,
    guest_environment,
)
from evolve.sandbox.link import LOG_BYTES, Link, LinkLostError

LABEL = "evolve.sandbox"
REPOSITORY = "evolve-sandbox"
# Where the engine puts its own init: a real folder, and nothing of the host's.
INIT_FOLDER = "/sbin"
# What the engine calls the machines that the guest runs on.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_DEFAULT_HOST = "unix:///var/run/docker.sock"
# Of engine 20.10, the oldest that was tried.
_OLDEST_API = "1.41"
_TIMEOUT_SECONDS = 30
_MB = 1 << 20
# Outer bounds of a guest; each program in it has its own, tighter ones.
_SCRATCH_MB = 4096
_SCRATCH_INODES = 1 << 20
_MEMORY_MB = 2048
_PROCESSES = 4096
_OPEN_FILES = 1024
# What the engine writes by itself, partly from the host's own.
_ENGINE_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
# The engine wraps output: 1 byte for the stream, 3 unused, then the length.
_WRAPPER = struct.Struct(">BxxxI")
_STDOUT, _STDERR = 1, 2
_NOT_FOUND, _CONFLICT = 404, 409
_GONE_SECONDS = 10.0
# The engine reports events a little later, in whole seconds.
_EVENT_SECONDS = 3.0
_CDI_NAME = re.compile(r"[\w.-]+/[\w.-]+=[\w.:-]+")


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
    return Sandbox("docker", lambda: _start(image, command, view))


def prepare_image(view: HostView) -> str:
    """Makes the image that shows a view, or looks at the user's, and returns its name.

    Raises:
        SandboxError: There is no engine that can be used, or the image does not fit it.
    """
    with contextlib.closing(connect()) as client:
        sweep(client)
        return check_image(client, view.image) if view.image else build_image(client, view)


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
            f"docker: the engine at {address} does not answer as one: {str(error)[:200]}; "
            "see `docker version`"
        ) from None
    version = str(client.api.api_version)
    if docker.utils.version_lt(version, _OLDEST_API):
        client.close()
        raise SandboxError(
            f"docker: expected an engine with API {_OLDEST_API} or later, got {version}; install "
            "Docker Engine 20.10 or later"
        )
    return client


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
        raise SandboxError(f"docker: {reason}") from None


def sweep(client: Any) -> None:
    """Removes containers whose owner, a process of this machine, is gone."""
    import docker

    for container in client.api.containers(all=True, filters={"label": LABEL}):
        if is_orphan(container["Labels"].get(LABEL, "")):
            with contextlib.suppress(docker.errors.APIError):
                client.api.remove_container(container["Id"], force=True)


def build_image(client: Any, view: HostView) -> str:
    """Makes the image that shows a view, unless it is there already; equal views share one.

    Raises:
        SandboxError: The engine cannot run this machine's interpreter.
    """
    import docker

    wanted, have = _ARCHITECTURES.get(platform.machine()), client.version().get("Arch")
    if have != wanted:
        raise SandboxError(
            f"docker: the daemon runs {have!r}, this interpreter {platform.machine()!r}; name an "
            "image with Python and the packages: `--set sandbox.image=NAME`"
        )
    archive = _pack_root(view)
    tag = hashlib.sha256(archive).hexdigest()[:16]
    name = f"{REPOSITORY}:{tag}"
    try:
        client.api.inspect_image(name)
    except docker.errors.ImageNotFound:
        client.api.import_image_from_data(archive, repository=REPOSITORY, tag=tag)
    return name


def check_image(client: Any, name: str) -> str:
    """Returns the name of a user's image, unless it is missing or made for another machine.

    Raises:
        SandboxError: With the remedy.
    """
    import docker

    try:
        found = client.api.inspect_image(name)
    except docker.errors.ImageNotFound:
        raise SandboxError(
            f"docker: image {name!r} is not on the daemon's machine; `docker pull {name}` or "
            f"`docker build -t {name} .` there, or leave `sandbox.image` out"
        ) from None
    have, wanted = found.get("Architecture"), client.version().get("Arch")
    if have and wanted and have != wanted:
        raise SandboxError(
            f"docker: image {name!r} is for {have!r}, the daemon runs {wanted!r}; get it with "
            f"`docker pull --platform linux/{wanted} {name}`"
        )
    return name


def _pack_root(view: HostView) -> bytes:
    links = {str(tree): str(tree.readlink()) for tree in view.trees if tree.is_symlink()}
    used = _with_parents(view.trees)
    for name, place in TEMPORARY:
        # An interpreter may lie there, and the engine mounts one of them itself.
        if not place.startswith("/dev/") and place not in used:
            links[place] = f"{SCRATCH}/{name}"
    links.pop(INIT_FOLDER, None)
    places = (INIT_FOLDER, SCRATCH, EMPTY, DATA, GUEST_PATH)
    folders = {"/dev", "/proc", "/sys", "/etc", "/var", *places}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(_with_parents(map(Path, {*folders, *links})) - {"/"}):
            member = tarfile.TarInfo(path.lstrip("/"))
            # What is mounted there takes over the mode.
            member.mode = 0o1777 if path == SCRATCH else 0o755
            member.type = tarfile.DIRTYPE
            if path in links:
                member.type, member.linkname = tarfile.SYMTYPE, links[path]
            archive.addfile(member)
    return buffer.getvalue()


def _with_parents(paths: Iterable[Path]) -> set[str]:
    return {str(one) for path in paths for one in (path, *path.parents)}


def _start(image: str, command: list[str], view: HostView) -> Link:
    import docker

    identifier = ""
    with contextlib.ExitStack() as files:
        client = files.enter_context(contextlib.closing(connect()))
        try:
            created = client.api.create_container(
                image,
                command,
                entrypoint=[],
                user=f"{GUEST_ID}:{GUEST_ID}",
                environment=guest_environment(),
                working_dir="/",
                hostname="sandbox",
                labels={LABEL: name_owner(os.getpid())},
                stdin_open=True,
                host_config=_host_config(client, view),
            )
            identifier = created["Id"]
            container = Container(client, identifier, created.get("Warnings") or (), files)
            client.api.start(identifier)
        except (docker.errors.DockerException, OSError) as error:
            with contextlib.suppress(docker.errors.DockerException):
                if identifier:
                    client.api.remove_container(identifier, force=True)
            raise SandboxError(
                f"docker: the container does not start: {str(error)[:300]}; `evolve doctor` tests "
                "all backends"
            ) from None
        container.files = files.pop_all()
    place = f"in the image {view.image!r}" if view.image else "where evolve is installed"
    return Link("docker", container, place, f"; see that `python3` starts {place}")


def parse_devices(text: str) -> list[Any]:
    """Returns what an engine is asked for.

    Args:
        text: `all` or a number of GPUs; `device=ID,ID` for some of them; names such as
            `vendor.com/gpu=0` of the Container Device Interface, with commas between; empty for
            none.

    Raises:
        SandboxError: It is nothing of the kind.
    """
    from docker.types import DeviceRequest

    if not text:
        return []
    identifiers = text.removeprefix("device=").split(",")
    if text == "all" or (text.isdecimal() and int(text) > 0):
        count = -1 if text == "all" else int(text)
        return [DeviceRequest(count=count, capabilities=[["gpu"]])]
    if text.startswith("device=") and all(identifiers):
        return [DeviceRequest(device_ids=identifiers, capabilities=[["gpu"]])]
    if all(_CDI_NAME.fullmatch(name) for name in identifiers):
        return [DeviceRequest(driver="cdi", device_ids=identifiers)]
    raise SandboxError(
        f"docker: `sandbox.devices`: expected `all`, a number of GPUs, `device=ID,ID` or "
        f"names like `nvidia.com/gpu=0`, got {text!r}"
    )


def _host_config(client: Any, view: HostView) -> Any:
    from docker.types import Ulimit

    covers = [str(path) for path in view.hidden if path.is_dir()]
    private = "nosuid,nodev"
    own = f"nr_inodes={_SCRATCH_INODES},mode=1777,uid={GUEST_ID},gid={GUEST_ID}"
    scratch = f"size={_SCRATCH_MB}m,{own},{private},exec"
    empty = f"ro,size=4k,mode=0555,{private},noexec"
    files = Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES)
    return client.api.create_host_config(
        mounts=_list_binds(view),
        tmpfs={SCRATCH: scratch, **dict.fromkeys([EMPTY, *covers], empty)},
        device_requests=parse_devices(view.devices),
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges", f"seccomp={seccomp.build_profile()}"],
        mem_limit=_MEMORY_MB * _MB,
        memswap_limit=_MEMORY_MB * _MB,
        pids_limit=_PROCESSES,
        cpu_period=CPU_PERIOD_MICROSECONDS,
        cpu_quota=CPU_PERIOD_MICROSECONDS,
        ulimits=[Ulimit(name="core", soft=0, hard=0), files],
        ipc_mode="private",
        shm_size=_MB,
        init=True,
        auto_remove=True,
        log_config={"Type": "none"},
    )


def _list_binds(view: HostView) -> list[Any]:
    from docker.types import Mount

    trees = [tree for tree in view.trees if not tree.is_symlink()]
    shown = {str(tree): str(tree) for tree in trees if str(tree) != INIT_FOLDER}
    shown[GUEST_PATH] = str(GUEST_SOURCE)
    if view.data:
        shown[DATA] = str(view.data)
    shown |= dict.fromkeys(_ENGINE_FILES, "/dev/null")
    shown |= {str(path): "/dev/null" for path in view.hidden if not path.is_dir()}
    return [Mount(to, place, type="bind", read_only=True) for to, place in shown.items()]


class Container:
    """A container with a guest as the process that it is; see `HostProcess`.

    Args:
        client: Of the `docker` package.
        identifier: Of the container, which is created and not yet started.
        warnings: What the engine said when it created it.
        files: What is to be closed with it; its stream is added.
    """

    def __init__(
        self, client: Any, identifier: str, warnings: Iterable[str], files: contextlib.ExitStack
    ) -> None:
        self._client = client
        self._identifier = identifier
        self._wrapped, self._log = bytearray(), bytearray()
        # Limits that an engine cannot set are a mere warning to it.
        self.why_no_cgroup = " ".join(text for text in warnings if "discarded" in text)
        wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        response = client.api.attach_socket(identifier, wanted)
        self._stream: socket.socket = response._sock  # noqa: SLF001 - there is no other way
        self.ends = [self._stream.fileno()] * 2
        for part in (response, self._stream):
            files.callback(part.close)
        # Closing alone would leave the connection open while the response holds it.
        files.callback(self._shut_down, socket.SHUT_RDWR)
        self.files = files

    @property
    def pid(self) -> int:
        """Returns the number of its first process on the engine's machine; 0 after its end."""
        pid: int = self._client.api.inspect_container(self._identifier)["State"]["Pid"]
        return pid

    def poll(self) -> int | None:
        """Returns 0 once the stream to it has ended, without asking the engine."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Waits until the stream to it ends; raises `subprocess.TimeoutExpired` as a `Popen`."""
        poller = select.poll()
        poller.register(self._stream, getattr(select, "POLLRDHUP", select.POLLHUP))
        if not poller.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired(self._identifier, timeout or 0.0)
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
                self._client.api.remove_container(self._identifier, force=True)
            except docker.errors.APIError as error:
                if error.status_code == _NOT_FOUND:
                    return
                # The engine may be at it already: containers remove themselves.
                if error.status_code != _CONFLICT:
                    raise SandboxError(
                        f"docker: a container cannot be removed: {str(error)[:300]}; "
                        f"`docker rm -f {self._identifier[:12]}`"
                    ) from None
                time.sleep(0.01)
            except OSError:
                # The engine is gone. What it left is swept when it is back.
                return

    def hang_up(self) -> None:
        """Closes its input."""
        self._shut_down(socket.SHUT_WR)

    def close(self) -> None:
        """Lets go of what is held for it."""
        self.files.close()

    def read_log(self) -> bytes:
        """Returns the beginning of what it wrote on standard error."""
        return bytes(self._log)

    def _shut_down(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self._stream.shutdown(how)

    def count_memory_kills(self) -> int:
        """Returns how often the kernel has killed something of it for its memory."""
        return self._count_events()["oom"]

    def find_killer(self, memory_kills: int) -> str:
        """Returns who ended it; see `HostProcess.find_killer`."""
        import docker

        try:
            found = self._count_events(until_gone=True)
        except (docker.errors.DockerException, OSError):
            return "the engine of the sandbox has ended"
        if found["oom"] > memory_kills:
            return ""
        if not found["die"]:
            return "the engine of the sandbox was started again"
        is_killed = found["kill"] or any(found[f"die {SIGNALLED + number}"] for number in KILLS)
        return "the sandbox was killed from outside" if is_killed else ""

    def _count_events(self, *, until_gone: bool = False) -> Counter[str]:
        """Counts what the engine says happened to it: `oom`, `kill`, `die`, `die CODE`."""
        asked = {"container": self._identifier}
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

    def limit(self, limits: ProgramLimits) -> None:
        """Limits its memory, with what a program may use; see `HostProcess.limit`."""
        import docker

        size = guest_memory_bytes(limits)
        try:
            self._client.api.update_container(self._identifier, mem_limit=size, memswap_limit=size)
        except docker.errors.APIError as error:
            # One that has just ended shows by its stream.
            if error.status_code not in {_NOT_FOUND, _CONFLICT}:
                raise OSError(str(error)) from None

    def unwrap(self, data: bytes) -> bytes:
        """Returns what it wrote on standard output, and keeps what it did on standard error."""
        self._wrapped += data
        written = bytearray()
        while len(self._wrapped) >= _WRAPPER.size:
            kind, size = _WRAPPER.unpack_from(self._wrapped)
            end = _WRAPPER.size + size
            if end > len(self._wrapped):
                break
            part = self._wrapped[_WRAPPER.size : end]
            del self._wrapped[:end]
            if kind == _STDOUT:
                written += part
            elif kind == _STDERR:
                self._log += part[: LOG_BYTES - len(self._log)]
            else:
                raise LinkLostError(f"the engine sent a part of kind {kind}")
        return bytes(written)
