"""The command `doctor`: what isolates programs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from evolve.cli.options import Assignments, read_settings
from evolve.display import say, say_json
from evolve.errors import ExitCode, SandboxError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evolve.sandbox.protocol import Isolation

_WIDTH = 15


def doctor(
    *,
    build_image: Annotated[
        bool,
        typer.Option(
            "--build-image",
            help="First make the image of the docker backend: from the running Python, or, with "
            "`--set sandbox.image=NAME`, under that name from the package's Dockerfile.",
        ),
    ] = False,
    base_image: Annotated[
        str, typer.Option("--base-image", help="Image that one with a name is built on.")
    ] = "",
    packages: Annotated[
        list[str] | None,
        typer.Option("--package", help="Python package for it beside numpy; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    assignments: Assignments = None,
) -> None:
    """Test every sandbox backend here by small attacks, and say how to get more."""
    from evolve.sandbox.choose import prove_backends

    image = read_settings({}, assignments, None).sandbox.image
    if (base_image or packages) and not (build_image and image):
        raise UsageError(
            "options: `--base-image` and `--package`: expected `--build-image` and `--set "
            "sandbox.image=NAME` beside them; only an image with a name is built from others"
        )
    made = _build_image(image, base_image, packages or []) if build_image else None
    found = prove_backends(image=image)
    strong = [name for name, proof in found.items() if _is_strong(proof)]
    if as_json:
        backends = {name: _describe(proof) for name, proof in found.items()}
        told = {"auto": next(iter(strong), None), "image": made, "backends": backends}
        say_json(told)
    else:
        _print_table(found, made)
        if strong:
            say(f"ok: `auto` takes {strong[0]}")
        else:
            say("weak: a run needs `--allow-weak-sandbox`, and its programs your trust")
    if not strong:
        raise typer.Exit(ExitCode.MACHINE)


def _build_image(image: str, base: str, packages: list[str]) -> str:
    from evolve.sandbox.docker import build_named_image, prepare_image
    from evolve.sandbox.layout import find_view

    if image:
        return build_named_image(image, base, ["numpy", *packages])
    return prepare_image(find_view(("numpy",)))


def _is_strong(proof: Isolation | SandboxError) -> bool:
    return not isinstance(proof, SandboxError) and proof.is_strong


def _describe(proof: Isolation | SandboxError) -> dict[str, object]:
    if isinstance(proof, SandboxError):
        return {"works": False, "strong": False, "reason": str(proof)}
    return {
        "works": True,
        "strong": proof.is_strong,
        "enforced": list(proof.enforced),
        "missing": list(proof.missing),
    }


def _print_table(found: Mapping[str, Isolation | SandboxError], made: str | None) -> None:
    from evolve.sandbox.canary import REMEDIES

    if made:
        say(f"image {made}")
    say("".join(word.ljust(_WIDTH) for word in ("", *found)).rstrip())
    for kind in REMEDIES:
        words = [_tell(proof, kind) for proof in found.values()]
        say("".join(word.ljust(_WIDTH) for word in (kind, *words)).rstrip())
    for name, proof in found.items():
        lines = [str(proof)] if isinstance(proof, SandboxError) else proof.missing
        for line in lines:
            say(f"more: {line}" if line.startswith(name) else f"more: {name}: {line}")


def _tell(proof: Isolation | SandboxError, kind: str) -> str:
    if isinstance(proof, SandboxError):
        return "-"
    return "enforced" if kind in proof.enforced else "MISSING"
