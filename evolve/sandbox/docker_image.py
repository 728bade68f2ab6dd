"""The image of the `docker` backend: an almost empty file system, made without a registry."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.errors import SandboxError
from evolve.sandbox.guest.confine import BOX, DATA, EMPTY, TEMPORARY
from evolve.sandbox.layout import GUEST_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.sandbox.layout import View

REPOSITORY = "evolve-sandbox"
_DOCKERFILE = Path(__file__).with_name("Dockerfile")
# Where the engine puts its own init: a real folder, and nothing of the host's.
INIT_FOLDER = "/sbin"
# What the engine calls the machines that the guest runs on.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def build_image(client: Any, view: View) -> str:
    """Makes the image that shows a view, unless it is there already.

    The interpreter is not in it: the trees of the view are bound into each container.

    Args:
        client: Of the `docker` package.
        view: What programs may read.

    Returns:
        The image's name; equal views share one.
    """
    import docker

    archive = _pack_root(view)
    tag = hashlib.sha256(archive).hexdigest()[:16]
    name = f"{REPOSITORY}:{tag}"
    try:
        client.api.inspect_image(name)
    except docker.errors.ImageNotFound:
        told = client.api.import_image_from_data(archive, repository=REPOSITORY, tag=tag)
        # Podman does not take the tag over.
        client.api.tag(json.loads(told.splitlines()[-1])["status"], REPOSITORY, tag)
    return name


def build_from_file(client: Any, name: str, base: str, packages: Sequence[str]) -> None:
    """Builds an image of its own Python from the package's Dockerfile.

    Args:
        client: Of the `docker` package.
        name: Of the image.
        base: Image that it is built on, with Python and pip.
        packages: What it needs of Python's packages.

    Raises:
        SandboxError: The engine cannot build it; the message has the last words and the remedy.
    """
    import docker

    try:
        steps = client.api.build(
            fileobj=io.BytesIO(_DOCKERFILE.read_bytes()),
            tag=name,
            buildargs={"BASE": base, "PACKAGES": " ".join(packages)},
            forcerm=True,
            decode=True,
        )
        failures = [step["error"] for step in steps if "error" in step]
    except docker.errors.APIError as error:
        failures = [str(error)]
    if failures:
        raise SandboxError(
            f"docker: image {name!r} cannot be built on {base!r}: {failures[-1].strip()[:300]}; "
            "name a base with the packages that is on the daemon's machine by `--base-image NAME`, "
            "or leave `sandbox.image` out: the running Python is then shown, without a registry"
        )


def check_image(client: Any, name: str) -> None:
    """Refuses a user's image that is missing or made for another machine.

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


def check_architecture(client: Any) -> None:
    """Refuses a daemon that cannot run this machine's interpreter.

    Raises:
        SandboxError: With the remedy.
    """
    wanted, have = _ARCHITECTURES.get(platform.machine()), client.version().get("Arch")
    if have != wanted:
        raise SandboxError(
            f"docker: the daemon runs {have!r}, this interpreter {platform.machine()!r}; name an "
            "image with Python and the packages: `--set sandbox.image=NAME`"
        )


def _pack_root(view: View) -> bytes:
    links = {str(tree): str(tree.readlink()) for tree in view.trees if tree.is_symlink()}
    for name, place in TEMPORARY:
        # An interpreter may lie there, and the engine mounts one of them itself.
        if not place.startswith("/dev/") and not _is_used(place, view):
            links[place] = f"{BOX}/{name}"
    links.pop(INIT_FOLDER, None)
    folders = {"/dev", "/proc", "/sys", "/etc", "/var", INIT_FOLDER, BOX, EMPTY, DATA, GUEST_PATH}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(_with_parents({*folders, *links})):
            member = tarfile.TarInfo(path.lstrip("/"))
            # What is mounted there takes over the mode.
            member.mode = 0o1777 if path == BOX else 0o755
            member.type = tarfile.DIRTYPE
            if path in links:
                member.type, member.linkname = tarfile.SYMTYPE, links[path]
            archive.addfile(member)
    return buffer.getvalue()


def _is_used(place: str, view: View) -> bool:
    return any(place in {str(tree), *map(str, tree.parents)} for tree in view.trees)


def _with_parents(paths: set[str]) -> set[str]:
    found = set()
    for path in paths:
        parts = path.strip("/").split("/")
        found |= {"/" + "/".join(parts[: count + 1]) for count in range(len(parts))}
    return found
