"""The `docker` backend: the guest inside a container of the Docker Engine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.errors import SandboxError
from evolve.sandbox.cgroup import CPU_PERIOD_MICROSECONDS
from evolve.sandbox.docker_image import INIT_FOLDER, build_image, check_architecture, check_image
from evolve.sandbox.docker_link import DockerLink
from evolve.sandbox.guest import landlock, seccomp
from evolve.sandbox.guest.confine import BOX, DATA, EMPTY, GUEST_ID
from evolve.sandbox.layout import GUEST_PATH, GUEST_SOURCE, View, guest_command, guest_environment
from evolve.sandbox.owner import is_orphan, name_owner
from evolve.sandbox.warm import WarmSandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "docker"
LABEL = "evolve.sandbox"
_DEFAULT_HOST = "unix:///var/run/docker.sock"
# Of engine 20.10, the oldest that was tried.
_OLDEST_API = (1, 41)
_TIMEOUT_SECONDS = 30
_MB = 1 << 20
# Outer bounds of a guest; each program in it has its own, tighter ones.
_BOX_MB = 4096
_BOX_INODES = 1 << 20
_MEMORY_MB = 2048
_PROCESSES = 4096
_OPEN_FILES = 1024
_PAGE_KB = 4
# What the engine writes by itself, partly from the host's own.
_ENGINE_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
# The zygote gives every program namespaces and a file system of its own; the filter that each
# program gets on top refuses these calls as well.
_NEEDED_BY_THE_GUEST = {"mount"}


def prepare_image(view: View, image: str = "") -> str:
    """Makes the image that shows a view, or looks at one of the user's.

    Args:
        view: What programs may read.
        image: The user's; empty for none.

    Returns:
        The image's name.

    Raises:
        SandboxError: There is no engine that can be used, or the image does not fit it.
    """
    with contextlib.closing(connect()) as client:
        sweep(client)
        if image:
            check_image(client, image)
            return image
        check_architecture(client)
        return build_image(client, view)


def make_docker(preload: Sequence[str], view: View, image: str = "") -> WarmSandbox:
    """Makes a sandbox in containers.

    Args:
        preload: Packages that the guest imports once.
        view: What programs may read; with an image of the user's only its data.
        image: One with Python and the packages; made from the running Python when empty.

    Raises:
        SandboxError: There is no engine that can be used; the message has the remedy.
    """
    made = prepare_image(view, image)
    settings = {
        "namespaces": True,
        "preload": list(preload),
        "paths": [] if image else [str(path) for path in view.paths],
        "box": BOX,
        "data": DATA if view.data else None,
        # Where the engine lets the guest make no namespaces, all of the container is read.
        "readable": [("/", landlock.READ)],
    }
    command = guest_command("zygote", GUEST_PATH, json.dumps(settings))
    if not image:
        return WarmSandbox(NAME, lambda: _start(made, command, view, "where evolve is installed"))
    command[0] = "python3"
    own = View((), (), view.data, ())
    return WarmSandbox(NAME, lambda: _start(image, command, own, f"in the image {image!r}"))


def connect() -> Any:
    """Gives a client of the engine that `DOCKER_HOST` names, or of the usual one.

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


def build_profile() -> str:
    """Gives the seccomp profile of a container as JSON text.

    Its deny list is that of `guest.seccomp`, but for what the guest itself needs.
    """
    names = sorted(set(seccomp.list_denied()) - _NEEDED_BY_THE_GUEST)
    rule = {"names": names, "action": "SCMP_ACT_ERRNO", "args": []}
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


def _start(image: str, command: list[str], view: View, package_place: str) -> DockerLink:
    import docker

    client = connect()
    identifier = ""
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
        # Limits that an engine cannot set are a mere warning to it.
        warnings = created.get("Warnings") or ()
        discarded = " ".join(text for text in warnings if "discarded" in text)
        return DockerLink(client, identifier, NAME, package_place, discarded=discarded)
    except (docker.errors.DockerException, OSError) as error:
        with contextlib.suppress(docker.errors.DockerException):
            if identifier:
                client.api.remove_container(identifier, force=True)
        client.close()
        raise SandboxError(
            f"{NAME}: the container does not start: {str(error)[:300]}; `evolve doctor` tests "
            "all backends"
        ) from None


def _host_config(client: Any, view: View) -> Any:
    from docker.types import Ulimit

    covers = [str(path) for path in view.hidden if path.is_dir()]
    private = "nosuid,nodev"
    own = f"mode=1777,uid={GUEST_ID},gid={GUEST_ID}"
    box = f"size={_BOX_MB}m,nr_inodes={_BOX_INODES},{own},{private},exec"
    empty = f"ro,size={_PAGE_KB}k,mode=0555,{private},noexec"
    return client.api.create_host_config(
        mounts=_list_binds(view),
        tmpfs={BOX: box, **dict.fromkeys([EMPTY, *covers], empty)},
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges", f"seccomp={build_profile()}"],
        mem_limit=_MEMORY_MB * _MB,
        memswap_limit=_MEMORY_MB * _MB,
        pids_limit=_PROCESSES,
        cpu_period=CPU_PERIOD_MICROSECONDS,
        cpu_quota=CPU_PERIOD_MICROSECONDS,
        ulimits=[
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES),
        ],
        ipc_mode="private",
        shm_size=_MB,
        init=True,
        auto_remove=True,
        log_config={"Type": "none"},
    )


def _list_binds(view: View) -> list[Any]:
    from docker.types import Mount

    trees = [tree for tree in view.trees if not tree.is_symlink()]
    shown = {str(tree): str(tree) for tree in trees if str(tree) != INIT_FOLDER}
    shown[GUEST_PATH] = str(GUEST_SOURCE)
    if view.data:
        shown[DATA] = str(view.data)
    shown |= dict.fromkeys(_ENGINE_FILES, "/dev/null")
    shown |= {str(path): "/dev/null" for path in view.hidden if not path.is_dir()}
    return [Mount(to, place, type="bind", read_only=True) for to, place in shown.items()]


def _socket_path(address: str) -> Path | None:
    kind, _, path = address.partition("://")
    return Path(path) if kind == "unix" else None


def _check_socket(address: str) -> None:
    path = _socket_path(address)
    if path is None:
        return
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    except FileNotFoundError:
        raise SandboxError(
            f"{NAME}: no socket {path}; install and start Docker Engine, or set DOCKER_HOST"
        ) from None
    except PermissionError:
        raise SandboxError(
            f"{NAME}: no permission on the socket {path}; `sudo usermod -aG docker $USER` and log "
            "in again (members of that group are as good as root)"
        ) from None
    except OSError as error:
        raise SandboxError(
            f"{NAME}: nothing answers at {path}: {error.strerror or error}; start the engine: "
            "`sudo systemctl start docker`"
        ) from None
