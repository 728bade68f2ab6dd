"""The choice of a backend: by name, or the strongest that proves itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.errors import SandboxError

if TYPE_CHECKING:
    from pathlib import Path

    from evolve.sandbox.layout import View
    from evolve.sandbox.protocol import Isolation
    from evolve.sandbox.warm import WarmSandbox


def _make_docker(
    preload: tuple[str, ...], view: View, image: str = "", devices: str = ""
) -> WarmSandbox:
    from evolve.sandbox.docker import make_docker

    return make_docker(preload, view, image, devices)


def _make_bubblewrap(
    preload: tuple[str, ...], view: View, _image: str = "", devices: str = ""
) -> WarmSandbox:
    from evolve.sandbox.bubblewrap import make_bubblewrap

    _refuse_devices("bubblewrap", devices)
    return make_bubblewrap(preload, view)


def _make_native(
    preload: tuple[str, ...], view: View, _image: str = "", devices: str = ""
) -> WarmSandbox:
    from evolve.sandbox.native import make_native

    _refuse_devices("native", devices)
    return make_native(preload, view)


def _refuse_devices(name: str, devices: str) -> None:
    if devices:
        raise SandboxError(
            f"{name}: has no `sandbox.devices`, got {devices!r}; use `--sandbox docker`"
        )


# Strongest first: `auto` tries them in this order.
BACKENDS = {"docker": _make_docker, "bubblewrap": _make_bubblewrap, "native": _make_native}
NAMES = ("auto", *BACKENDS)
_REMEDY = (
    "install bubblewrap or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0)"
)
_WEAK_REMEDY = ", or accept the risk with `--allow-weak-sandbox`"


def prove_backends(
    preload: tuple[str, ...] = ("numpy",), image: str = ""
) -> dict[str, Isolation | SandboxError]:
    """Runs the canary on every backend.

    Args:
        preload: Packages that the guests import.
        image: As for `open_sandbox`.

    Returns:
        By name, strongest first: what held, or why the backend cannot start here.
    """
    from evolve.sandbox.layout import find_view

    view = find_view(preload)
    found: dict[str, Isolation | SandboxError] = {}
    for name, make in BACKENDS.items():
        try:
            sandbox = make(preload, view, image)
            found[name] = sandbox.prove()
        except SandboxError as error:
            found[name] = error
        else:
            sandbox.close()
    return found


def open_sandbox(
    name: str,
    *,
    preload: tuple[str, ...] = ("numpy",),
    allow_weak: bool = False,
    data: Path | None = None,
    hide: tuple[Path, ...] = (),
    image: str = "",
    devices: str = "",
) -> WarmSandbox:
    """Opens a sandbox whose canary has just proven what it enforces.

    Args:
        name: One of `NAMES`.
        preload: Packages that the guest imports once.
        allow_weak: Also takes a backend that leaves network or files within reach.
        data: Folder that programs read at `data/`.
        hide: Files and folders that programs must not see wherever they lie; the canary tries.
        image: A container image with Python and the packages, for the backend `docker`.
        devices: GPUs and accelerators, for the same.

    Raises:
        SandboxError: None of the backends isolates here, or a package is missing; the message
            has the remedy.
    """
    from evolve.sandbox.layout import find_view
    from evolve.sandbox.link import MissingPackageError

    if name not in NAMES:
        raise SandboxError(f"sandbox: expected one of {', '.join(NAMES)}, got {name!r}")
    view = find_view(preload, data, hide)
    reasons = []
    weak: WarmSandbox | None = None
    is_weak = False
    for backend in BACKENDS if name == "auto" else (name,):
        try:
            sandbox = BACKENDS[backend](preload, view, image, devices)
            isolation = sandbox.prove(hide)
        except MissingPackageError:
            raise
        except SandboxError as error:
            reasons.append(str(error))
            continue
        if isolation.is_strong:
            return sandbox
        is_weak = True
        reasons.append(f"{backend}: weak here: {'; '.join(isolation.missing)}")
        if weak is None and allow_weak:
            weak = sandbox
        else:
            sandbox.close()
    if weak is not None:
        return weak
    if name == "docker" and not is_weak:
        # What it lacks is told with a remedy of its own; no other would help it.
        raise SandboxError(f"sandbox: {reasons[0]}")
    remedy = _REMEDY + _WEAK_REMEDY * is_weak
    raise SandboxError(f"sandbox: none isolates here ({' | '.join(reasons)}); {remedy}")
