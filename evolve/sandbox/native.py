"""The `native` backend: system calls only, no binary and no root needed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from evolve.errors import SandboxError
from evolve.sandbox.cgroup import is_orphan, name_owner
from evolve.sandbox.guest import resources
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


def make_native(view: HostView, *, with_namespaces: bool = True) -> Sandbox:
    """Makes a sandbox that needs nothing but the kernel.

    Args:
        view: What its guests are made of.
        with_namespaces: Whether to try them; without, as where they are forbidden, Landlock,
            seccomp and limits remain.

    Raises:
        SandboxError: It has no devices.
    """
    if view.devices:
        raise SandboxError(
            f"{NAME}: has no `sandbox.devices`, got {view.devices!r}; use `--sandbox docker` or "
            "`bubblewrap`"
        )
    _sweep_boxes()
    command = guest_command(
        "launch",
        str(GUEST_SOURCE),
        view,
        namespaces=with_namespaces,
        trees=list(map(str, view.trees)),
        hidden=list(map(str, view.hidden)),
        data=str(view.data) if view.data else None,
        temporary=tempfile.gettempdir(),
        prefix=_name_boxes(),
        readable=[(str(path), rights) for path, rights in list_readable(view)],
    )
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
