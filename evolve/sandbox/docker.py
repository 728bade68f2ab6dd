"""The `docker` backend: the guest inside a container of the Docker Engine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.errors import SandboxError
from evolve.sandbox.docker_container import create_container
from evolve.sandbox.docker_image import (
    build_from_file,
    build_image,
    check_architecture,
    check_image,
)
from evolve.sandbox.docker_link import DockerLink
from evolve.sandbox.guest import landlock
from evolve.sandbox.guest.confine import BOX, DATA
from evolve.sandbox.layout import GUEST_PATH, View, guest_command
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


def build_named_image(name: str, base: str, packages: Sequence[str]) -> str:
    """Builds an image from the package's Dockerfile and gives its name.

    Args:
        name: Of the image.
        base: Image that it is built on; that of the running version of Python when empty.
        packages: What it needs of Python's packages.

    Raises:
        SandboxError: There is no engine that can be used, or the image cannot be built.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with contextlib.closing(connect()) as client:
        build_from_file(client, name, base or f"python:{version}-slim", packages)
    return name


def make_docker(
    preload: Sequence[str], view: View, image: str = "", devices: str = ""
) -> WarmSandbox:
    """Makes a sandbox in containers.

    Args:
        preload: Packages that the guest imports once.
        view: What programs may read; with an image of the user's only its data.
        image: One with Python and the packages; made from the running Python when empty.
        devices: GPUs and accelerators of the engine's machine; see `parse_devices`.

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
        "devices": bool(devices),
        # Where the engine lets the guest make no namespaces, all of the container is read.
        "readable": [("/", landlock.READ)],
    }
    command = guest_command("relay", GUEST_PATH, json.dumps(settings))
    if not image:
        place = "where evolve is installed"
        return WarmSandbox(NAME, lambda: _start(made, command, view, place, devices))
    command[0] = "python3"
    own = View((), (), view.data, ())
    place = f"in the image {image!r}"
    return WarmSandbox(NAME, lambda: _start(image, command, own, place, devices))


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


def _start(
    image: str, command: list[str], view: View, package_place: str, devices: str
) -> DockerLink:
    import docker

    client = connect()
    identifier = ""
    try:
        created = create_container(
            client,
            image,
            command,
            view,
            labels={LABEL: name_owner(os.getpid())},
            devices=devices,
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
