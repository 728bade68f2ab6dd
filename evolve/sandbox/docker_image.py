"""The image of the `docker` backend: an almost empty file system, made without a registry."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import platform
import re
import socket
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from evolve.errors import SandboxError
from evolve.sandbox.cgroup import CPU_PERIOD_MICROSECONDS
from evolve.sandbox.guest import kernel
from evolve.sandbox.guest.confine import BOX, DATA, EMPTY, GUEST_ID, TEMPORARY
from evolve.sandbox.layout import GUEST_PATH, GUEST_SOURCE, HostView, guest_environment

REPOSITORY = "evolve-sandbox"
# Where the engine puts its own init: a real folder, and nothing of the host's.
INIT_FOLDER = "/sbin"
# What the engine calls the machines that the guest runs on.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def build_image(client: Any, view: HostView) -> str:
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
        client.api.import_image_from_data(archive, repository=REPOSITORY, tag=tag)
    return name


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


def _pack_root(view: HostView) -> bytes:
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


def _is_used(place: str, view: HostView) -> bool:
    return any(place in {str(tree), *map(str, tree.parents)} for tree in view.trees)


def _with_parents(paths: set[str]) -> set[str]:
    found = set()
    for path in paths:
        parts = path.strip("/").split("/")
        found |= {"/" + "/".join(parts[: count + 1]) for count in range(len(parts))}
    return found


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
_SOCKETS = {"socket", "socketpair"}
_ERRNO = "SCMP_ACT_ERRNO"
_CDI_NAME = re.compile(r"[\w.-]+/[\w.-]+=[\w.:-]+")


def create_container(
    client: Any,
    image: str,
    command: Sequence[str],
    view: HostView,
    *,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Creates a container, which is not started yet.

    Args:
        client: Of the `docker` package.
        image: Its name.
        command: Starts the guest.
        view: What its guest is made of.
        labels: For the container.

    Returns:
        The engine's answer, with `Id` and `Warnings`.

    Raises:
        SandboxError: The devices of the view cannot be read.
    """
    created: dict[str, Any] = client.api.create_container(
        image,
        command,
        entrypoint=[],
        user=f"{GUEST_ID}:{GUEST_ID}",
        environment=guest_environment(),
        working_dir="/",
        hostname="sandbox",
        labels=dict(labels),
        stdin_open=True,
        host_config=_host_config(client, view),
    )
    return created


def build_profile() -> str:
    """Returns the seccomp profile of a container as JSON text.

    It allows what `guest.kernel` does, and what the guest itself needs; the filter that each
    program gets on top is tighter. Engines that do not know `defaultErrnoRet` answer unknown
    calls with `EPERM`: what libraries fall back from is therefore named.
    """
    allowed = {*kernel.ALLOWED, *kernel.GRANTED, *kernel.NEEDED_BY_THE_GUEST} - _SOCKETS
    rules: list[dict[str, Any]] = [
        {"names": sorted(allowed), "action": "SCMP_ACT_ALLOW"},
        {
            "names": sorted(_SOCKETS),
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": socket.AF_UNIX, "op": "SCMP_CMP_EQ"}],
        },
        {
            "names": sorted(kernel.REFUSED.keys() - allowed),
            "action": _ERRNO,
            "errnoRet": errno.EPERM,
        },
        {"names": ["clone3", "preadv2"], "action": _ERRNO, "errnoRet": errno.ENOSYS},
    ]
    default = {"defaultAction": _ERRNO, "defaultErrnoRet": errno.ENOSYS}
    return json.dumps({**default, "syscalls": rules})


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
    own = f"nr_inodes={_BOX_INODES},mode=1777,uid={GUEST_ID},gid={GUEST_ID}"
    box = f"size={_BOX_MB}m,{own},{private},exec"
    empty = f"ro,size={_PAGE_KB}k,mode=0555,{private},noexec"
    return client.api.create_host_config(
        mounts=_list_binds(view),
        tmpfs={BOX: box, **dict.fromkeys([EMPTY, *covers], empty)},
        device_requests=parse_devices(view.devices),
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
            Ulimit(name=name, soft=most, hard=most)
            for name, most in (("core", 0), ("nofile", _OPEN_FILES))
        ],
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
