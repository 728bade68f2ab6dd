"""Whose a run is: what its folder would run, read and ask is used for the user who chose that.

A run folder holds an evaluator, which runs with the user's rights, and settings that name commands
and addresses. Who begins a run has chosen them. The folder then gets a mark: a checksum of all of
that, keyed with a secret in the user's state folder. A copied or moved folder keeps its mark; one
that was made elsewhere, by another user, or changed since has none that fits, and is asked about
once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING

from evolve.display import one_line, say
from evolve.errors import UsageError
from evolve.files import open_plain, write_inside
from evolve.models.command_models import PREFIX, is_address
from evolve.runs.run_folder import EVALUATOR_FOLDER, PROBLEM_FOLDER
from evolve.runs.world import checksum_folder
from evolve.settings.sections import parse_candidate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from evolve.problem import Problem
    from evolve.settings import Settings

MARK_FILE = "run.owner"
_SECRET_FILE, _SECRET_BYTES = "owner.key", 32
_MOST_BYTES = 1 << 20
_CODE = frozenset(
    (".py", ".pyc", ".pyx", ".pyd", ".so", ".pth", ".sh", ".pl", ".rb", ".js", ".mjs", ".r", ".jl",
     ".jar", ".class")
)  # fmt: skip


def describe_powers(settings: Settings) -> Iterator[str]:
    """Yields a line for each thing that settings make this machine do, evaluating apart."""
    names, sandbox = _list_models(settings), settings.sandbox
    commands = (name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
    yield from (f"runs the command {command!r}" for command in commands)
    scripts = (name.partition(":")[2] for name in names if name.startswith("scripted:"))
    yield from (f"reads {file!r}" for file in (*scripts, settings.models.replay) if file)
    yield from (f"asks models at {address!r}" for address in find_addresses(settings))
    chosen = {
        "sandbox.backend": sandbox.backend,
        "sandbox.image": sandbox.image,
        "sandbox.devices": sandbox.devices,
        "cluster.address": settings.cluster.address,
        "steps.workspace_variables": ", ".join(settings.steps.workspace_variables),
        "steps.workspace_shows": ", ".join(settings.steps.workspace_shows),
    }
    for name, value in chosen.items():
        if value not in {"", "auto"}:
            yield f"sets {name} to {value!r}"


def find_addresses(settings: Settings) -> list[str]:
    """Returns the addresses that settings name, those in names of models included."""
    entries = (entry.get("api_base", "") for entry in settings.endpoints.values())
    in_names = (name for name in _list_models(settings) if is_address(name))
    found = (settings.models.api_base, *entries, *in_names)
    return [address for address in dict.fromkeys(found) if address]


def expect_trust(
    folder: Path, problem: Problem, settings: Settings, *, trusts: bool
) -> tuple[str, ...]:
    """Returns the addresses in a run's settings that its user has named.

    Args:
        folder: The run's folder.
        problem: Of the run.
        settings: As the folder has them.
        trusts: Whether the user allows what the folder would do, from now on.

    Raises:
        UsageError: The run is somebody else's, or was changed, and the user has not allowed it; the
            message says what it would do.
    """
    named = read_mark(folder, settings)
    if named is not None:
        return named
    evaluator = f"runs its evaluator, {describe_evaluator(problem)}"
    lines = "".join(f"  {line}\n" for line in (evaluator, *describe_powers(settings)))
    if not trusts:
        raise UsageError(
            f"{folder}: the run was not begun here by this user, or its evaluator or settings were "
            f"changed since. With your rights it\n{lines}read these files; `--trust` allows them "
            "from now on (an address gets no key unless you name it: --api-base URL)"
        )
    say(f"trusted from now on: with your rights this run\n{lines}", end="")
    write_mark(folder, settings, ())
    return ()


def describe_evaluator(problem: Problem) -> str:
    """Returns a problem's evaluator with what it may do, on one line."""
    reads = "".join(f", reads ${name}" for name in problem.environment)
    return f"{one_line(problem.evaluator)} (runs with your rights{one_line(reads)})"


def read_mark(folder: Path, settings: Settings) -> tuple[str, ...] | None:
    """Returns the addresses that the user named; None where the run is not this user's."""
    secret = _read_secret()
    try:
        with os.fdopen(open_plain(folder / MARK_FILE, os.O_RDONLY), "rb") as stream:
            kept = json.loads(stream.read(_MOST_BYTES))
        named, mark = tuple(map(str, kept["addresses"])), str(kept["mark"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if secret is None or not mark.isascii():
        return None
    return named if hmac.compare_digest(mark, _make_mark(secret, folder, settings, named)) else None


def write_mark(folder: Path, settings: Settings, addresses: Collection[str]) -> None:
    """Marks a run as this user's; does nothing where no secret can be kept.

    Args:
        folder: The run's folder.
        settings: As the folder has them.
        addresses: Those that the user has named.
    """
    named = tuple(sorted(set(addresses)))
    if read_mark(folder, settings) == named:
        return
    secret = _read_secret() or _read_secret(makes=True)
    if secret is not None:
        kept = {"addresses": named, "mark": _make_mark(secret, folder, settings, named)}
        with suppress(OSError):
            write_inside(folder, MARK_FILE, json.dumps(kept) + "\n")


def _list_models(settings: Settings) -> list[str]:
    models = settings.models
    roles = (models.model, models.planner, models.editor, models.summarizer)
    names = [parse_candidate(text).name for role in roles for text in role]
    return list(dict.fromkeys([*names, *models.asked.values()]))


def _make_mark(secret: bytes, folder: Path, settings: Settings, named: tuple[str, ...]) -> str:
    parameters = sorted((name, repr(value)) for name, value in settings.parameters.items())
    chosen = [named, _list_models(settings), [*describe_powers(settings)], parameters]
    digest = hmac.new(secret, json.dumps(chosen).encode(), hashlib.sha256)
    digest.update((folder / PROBLEM_FOLDER / "problem.toml").read_bytes())
    digest.update(checksum_evaluator(folder).encode())
    return digest.hexdigest()


def checksum_evaluator(folder: Path) -> str:
    """Returns a checksum of all that a run's evaluator may execute."""
    return checksum_folder(folder / EVALUATOR_FOLDER, _is_code)


def _is_code(path: Path) -> bool:
    """Returns whether a file beside an evaluator may be run by it."""
    # Data is not: evaluators keep caches and logs beside them. Compiled files are: an interpreter
    # may take them for the source.
    is_executable = path.is_symlink() or bool(path.lstat().st_mode & stat.S_IXUSR)
    return is_executable or path.suffix.lower() in _CODE


def _read_secret(*, makes: bool = False) -> bytes | None:
    """Returns the user's secret; None where there is none that nobody else could have made."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    # Without a home there is nowhere to keep one.
    with suppress(OSError, RuntimeError):
        state = named if named.is_absolute() else Path.home() / ".local/state"
        path = state / "evolve" / _SECRET_FILE
        if makes:
            _make_secret(path)
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as stream:
            found = os.fstat(stream.fileno())
            secret = stream.read(_SECRET_BYTES)
        is_private = not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        if is_private and found.st_uid == os.geteuid() and len(secret) == _SECRET_BYTES:
            return secret
    return None


def _make_secret(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(token_bytes(_SECRET_BYTES))
    # Another process may have made one meanwhile, which then is the user's.
    with suppress(FileExistsError):
        path.hardlink_to(draft)
    draft.unlink()
