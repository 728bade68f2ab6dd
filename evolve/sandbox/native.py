"""The `native` backend: system calls only, no binary and no root needed."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import TYPE_CHECKING

from evolve.errors import SandboxError
from evolve.sandbox.layout import (
    GUEST_SOURCE,
    View,
    guest_command,
    guest_environment,
    list_readable,
)
from evolve.sandbox.link import Link
from evolve.sandbox.warm import WarmSandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "native"


def make_native(preload: Sequence[str], view: View, *, with_namespaces: bool = True) -> WarmSandbox:
    """Makes a sandbox that needs nothing but the kernel.

    Args:
        preload: Packages that the guest imports once.
        view: What programs may read.
        with_namespaces: Whether to try them; without, as where they are forbidden, Landlock,
            seccomp and limits remain.

    Raises:
        SandboxError: The system is not Linux.
    """
    if sys.platform != "linux":
        raise SandboxError(f"{NAME}: expected Linux, got {sys.platform!r}")
    settings = {
        "namespaces": with_namespaces,
        "preload": list(preload),
        "paths": [str(path) for path in view.paths],
        "trees": [str(path) for path in view.trees],
        "hidden": [str(path) for path in view.hidden],
        "data": str(view.data) if view.data else None,
        "temporary": tempfile.gettempdir(),
        "readable": [(str(path), rights) for path, rights in list_readable(view)],
    }
    command = guest_command("launch", str(GUEST_SOURCE), json.dumps(settings))
    return WarmSandbox(NAME, lambda: Link(command, guest_environment(), NAME))
