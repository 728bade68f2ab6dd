"""The `native` backend: system calls only, no binary and no root needed."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from evolve.sandbox.cgroup import is_orphan, name_owner
from evolve.sandbox.guest import resources
from evolve.sandbox.guest.confine import GUEST_ID
from evolve.sandbox.guest.kernel import MACHINES
from evolve.sandbox.layout import (
    GUEST_SOURCE,
    HostView,
    guest_command,
    guest_environment,
    list_readable,
)
from evolve.sandbox.link import Link
from evolve.sandbox.session import Sandbox

NAME = "native"
_PREFIX = "evolve-guest-"
_IS_KNOWN = sys.platform == "linux" and platform.machine() in MACHINES


def make_native(
    preload: Sequence[str],
    view: HostView,
    *,
    with_namespaces: bool = True,
    portable: bool = not _IS_KNOWN,
) -> Sandbox:
    """Makes a sandbox that needs nothing but the kernel.

    Args:
        preload: Packages that the guest imports once.
        view: What programs may read.
        with_namespaces: Whether to try them; without, as where they are forbidden, Landlock,
            seccomp and limits remain.
        portable: Whether to do with what POSIX offers: what remains on other systems and machines.
    """
    _sweep_boxes()
    if portable:
        return Sandbox(NAME, lambda: _start_portable(preload, view))
    settings = {
        "namespaces": with_namespaces,
        "preload": list(preload),
        "paths": [str(path) for path in view.paths],
        "environment": dict(view.environment),
        "trees": [str(path) for path in view.trees],
        "hidden": [str(path) for path in view.hidden],
        "data": str(view.data) if view.data else None,
        "temporary": tempfile.gettempdir(),
        "prefix": _name_boxes(),
        "readable": [(str(path), rights) for path, rights in list_readable(view)],
    }
    command = guest_command("launch", str(GUEST_SOURCE), json.dumps(settings))
    return Sandbox(NAME, lambda: Link(command, guest_environment(), NAME))


def _name_boxes() -> str:
    # Colons would end a path in lists of paths.
    return f"{_PREFIX}{name_owner(os.getpid())}-".replace(":", ",")


def _sweep_boxes() -> None:
    """Removes the folders of programs whose guest and host were killed at once."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).rpartition("-")[0].replace(",", ":")
        if is_orphan(owner):
            resources.remove(str(path))


def _start_portable(preload: Sequence[str], view: HostView) -> Link:
    box = tempfile.mkdtemp(prefix=_name_boxes())
    if not os.getuid():
        os.chown(box, GUEST_ID, GUEST_ID)
    settings = {
        "portable": True,
        "namespaces": False,
        "preload": list(preload),
        "paths": [str(path) for path in view.paths],
        "environment": dict(view.environment),
        "data": str(view.data) if view.data else None,
        "box": box,
        "host_folder": box,
    }
    command = guest_command("relay", str(GUEST_SOURCE), json.dumps(settings))
    return Link(command, guest_environment(), NAME)
