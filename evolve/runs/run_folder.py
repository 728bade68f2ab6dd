"""A run's folder: made whole or not at all, found again by name, and whose it is.

A run folder holds an evaluator, which runs with the user's rights, and settings that name commands
and addresses. Who begins a run has chosen them. The folder then gets a mark: a checksum of all of
that, keyed with a secret in the user's state folder. A copied or moved folder keeps its mark; one
that was made elsewhere, by another user, or changed since has none that fits, and is asked about
once.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import re
import shutil
import stat
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

from evolve.display import one_line, say
from evolve.errors import DamagedStoreError, ProblemError, StoreError, UsageError
from evolve.files import open_plain, sync, write_inside, write_named, writing
from evolve.keys import cut_keys
from evolve.models.command_models import PREFIX, is_address
from evolve.problem import load_problem
from evolve.records.attempts import read_picture
from evolve.records.plain import to_plain
from evolve.runs.world import checksum_folder, copy_data, copy_world, list_files, write_origin
from evolve.settings import Settings, change_settings, format_settings, load_settings
from evolve.settings.sections import parse_candidate
from evolve.store import DATABASE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from evolve.problem import Problem
    from evolve.records import Attempt

SETTINGS_FILE = "settings.toml"
PROBLEM_FOLDER = "problem"
EVALUATOR_FOLDER = "evaluator"
BEST_FOLDER = "best"
LATEST = "latest"
# Files that are flushed at a time.
_AT_A_TIME = 16


def create_run_folder(
    problem: Problem, settings: Settings, *, folder: Path | None, parent: Path
) -> Path:
    """Makes the folder of a new run, with copies of its problem, evaluator and settings.

    Args:
        problem: What is to be solved.
        settings: Frozen into the folder.
        folder: The folder itself; it must be empty or not exist.
        parent: Where a folder named after the problem and the time is made when `folder` is None.

    Raises:
        UsageError: The folder is not empty.
        StoreError: It cannot be written.
    """
    is_named = folder is not None
    if folder is None:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        folder = parent / f"{problem.name}-{stamp}"
    elif folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a new or empty folder for the run, got a file")
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder}: expected a new or empty folder for the run, got one with files in it; "
            "`evolve resume` continues a run"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _fill(draft, folder, problem, settings)
            draft.chmod(0o755)
            # Else a power cut might leave the run with empty files.
            files = [path for path in list_files(draft) if not path.is_symlink()]
            with ThreadPoolExecutor(_AT_A_TIME) as threads:
                # All at the same time share a few writes of the disk's journal.
                list(threads.map(sync, {*files, *(path.parent for path in files)}))
            folder = _move(draft, folder, is_named=is_named)
            sync(folder.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"{folder}: the run folder cannot be written: {_reason(error)}; choose another one "
            "with `--run-dir`"
        ) from error
    return folder


def save_settings(folder: Path, settings: Settings) -> None:
    """Replaces a run's settings, at once.

    Raises:
        StoreError: They cannot be written.
    """
    with writing(folder):
        write_inside(folder, SETTINGS_FILE, format_settings(settings))


def load_run(folder: Path) -> tuple[Problem, Settings]:
    """Returns the problem and settings that a run was made with.

    That programs may run where nothing isolates them has to be said anew each time.

    Raises:
        UsageError: The folder is no run, or its files were damaged.
        DamagedStoreError: All that it held is gone.
    """
    _expect_contents(folder)
    _expect_own_parts(folder)
    path = folder / SETTINGS_FILE
    settings = change_settings(Settings(), load_settings(path), where=str(path))
    settings = trust_programs(settings, trusts=False)
    evaluators = folder / EVALUATOR_FOLDER
    problem = load_problem(folder / PROBLEM_FOLDER, settings.parameters, evaluators=evaluators)
    return problem, settings


def _expect_own_parts(folder: Path) -> None:
    """Checks that no link stands for a part of a run, which may have been sent by anybody."""
    for name in (SETTINGS_FILE, PROBLEM_FOLDER, EVALUATOR_FOLDER):
        if (folder / name).is_symlink():
            raise UsageError(f"{folder / name}: expected a part of the run, got a link")


def _expect_contents(folder: Path) -> None:
    """Checks that a run with a champion has a database: else it would be begun again."""
    database = folder / DATABASE
    if (folder / BEST_FOLDER).is_dir() and not (database.is_file() and database.stat().st_size):
        what = "empty" if database.is_file() else "missing"
        raise DamagedStoreError(
            f"{database}: damaged: it is {what}, though the run has reached a champion, which is "
            f"in {folder / BEST_FOLDER}; restore it from a copy, or begin with `evolve run`"
        )


@contextmanager
def naming_originals(folder: Path, problem: Problem) -> Iterator[None]:
    """Lets errors name the files that a run was made of, where its own copies are gone.

    Args:
        folder: Of the new run.
        problem: What it was made of.

    Raises:
        ProblemError: What was raised, with the files that can be mended.
    """
    originals = {PROBLEM_FOLDER: problem.folder, EVALUATOR_FOLDER: problem.world}
    # What only begins like the folder's name is another one.
    copies = re.compile(
        rf"{re.escape(str(folder.resolve()))}(?:/({'|'.join(originals)}))?(?![\w.-])"
    )
    try:
        yield
    except ProblemError as error:
        if folder.exists():
            raise
        text = copies.sub(
            lambda found: str(originals.get(found[1], problem.world.parent)), str(error)
        )
        if any(found[1] is None for found in copies.finditer(str(error))):
            text += (
                f"; of what is around an evaluator a run has only what lies in {problem.world}: "
                "put it there, or a link to it"
            )
        raise ProblemError(text) from error


def trust_programs(settings: Settings, *, trusts: bool) -> Settings:
    """Returns settings that let programs run where nothing isolates them, or do not."""
    return change_settings(settings, {"sandbox.allow_weak": trusts}, where="options")


def find_run(name: str, parent: Path) -> Path:
    """Finds a run by its folder, its name in `parent`, or `latest`.

    Raises:
        UsageError: There is none.
    """
    if name == LATEST:
        runs = list_runs(parent)
        if not runs:
            raise UsageError(f"{parent}: no run yet; start one with `evolve run PROBLEM`")
        return runs[-1]
    for folder in (Path(name), parent / name):
        # A run that was killed at its very start has settings, and no database yet.
        if (folder / DATABASE).is_file() or (folder / SETTINGS_FILE).is_file():
            return folder
    raise UsageError(f"{name}: expected a run folder with `{DATABASE}`; `evolve ls` lists the runs")


def list_runs(parent: Path) -> list[Path]:
    """Returns the run folders in a folder, the oldest first."""
    found = [path.parent for path in parent.glob(f"*/{DATABASE}")]
    return sorted(found, key=lambda run: ((run / SETTINGS_FILE).stat().st_mtime_ns, run.name))


def expect_writable(path: Path) -> Path:
    """Returns the path of a file that can be written, as is to be known before what takes long.

    Raises:
        StoreError: It cannot.
    """
    was_there = path.exists()
    with writing(path):
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link; name the file that it leads to")
        path.open("a").close()
        if not was_there:
            path.unlink()
    return path


def write_text(path: Path, text: str) -> None:
    """Writes a file that a user asked for.

    Raises:
        StoreError: It cannot be written.
    """
    with writing(path):
        write_named(path, text)


def write_program(folder: Path, attempt: Attempt, *, below: str = "") -> list[Path]:
    """Writes a program's files and its `verdict.json` into a folder, each at once.

    Args:
        folder: Is made if needed.
        attempt: Has the program.
        below: Path of a folder in it that they go to; a link there is not followed.

    Raises:
        StoreError: They cannot be written.
    """
    texts: dict[str, str | bytes] = dict(attempt.program_or_fail.files)
    for name, address in attempt.evaluation.pictures.items():
        if (picture := read_picture(address)) is not None:
            texts[_name_picture(name, picture.kind)] = picture.data
    texts["verdict.json"] = cut_keys(json.dumps(describe_verdict(attempt), indent=2)) + "\n"
    prefix = f"{below}/" if below else ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [write_inside(folder, prefix + path, text) for path, text in texts.items()]
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        raise StoreError(f"{folder}: cannot be written: {reason}") from error


def describe_verdict(attempt: Attempt) -> Mapping[str, Any]:
    """Returns what was found about a program, as plain data."""
    evaluation = to_plain(attempt.evaluation)
    for name, address in attempt.evaluation.pictures.items():
        kind = address.partition(";")[0].rpartition("/")[2]
        evaluation["artifacts"][name] = _name_picture(name, kind)
    return {"program": attempt.program_or_fail.id, "attempt": str(attempt.key), **evaluation}


def _name_picture(name: str, kind: str) -> str:
    """Returns the name of the file for a picture, whatever an evaluator calls it."""
    plain = "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in name)
    return f"{plain[:60] or 'picture'}.{kind}"


def _fill(draft: Path, folder: Path, problem: Problem, settings: Settings) -> None:
    own = draft / PROBLEM_FOLDER
    own.mkdir()
    prompts = problem.folder / "prompts"
    names = ["problem.toml", "statement.md"]
    for path, text in problem.initial.files if problem.has_start else ():
        if (problem.folder / path).is_file():
            names.append(path)
        else:
            (own / path).write_text(text, encoding="utf-8")
    names += [f"prompts/{path.name}" for path in prompts.glob("*.md")]
    for name in names:
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(problem.folder / name, own / name)
    _keep_name(own / "problem.toml", problem.name)
    linked = copy_data(problem, own / "data", folder)
    linked |= copy_world(
        problem.world, draft / EVALUATOR_FOLDER, problem=problem, run=folder, draft=draft
    )
    write_origin(draft, problem.evaluator, linked, problem.world.parent)
    (draft / SETTINGS_FILE).write_text(format_settings(settings), encoding="utf-8")


def _keep_name(path: Path, name: str) -> None:
    """Writes down the name of a problem that had that of its folder, for the copy's is another."""
    text = path.read_text(encoding="utf-8")
    if "name" not in tomllib.loads(text):
        path.write_text(f'name = "{name}"\n{text}', encoding="utf-8")


def _reason(error: OSError) -> str:
    # Copying a folder continues after a failure and gathers all: source, target, reason of each.
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        return str(error.args[0][0][2])
    return error.strerror or str(error)


def _move(draft: Path, folder: Path, *, is_named: bool) -> Path:
    """Returns the folder that a draft became: the next free one where the first is taken."""
    number, taken = 1, folder
    while True:
        try:
            draft.replace(taken)
        except OSError as error:
            if is_named or error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            number += 1
            taken = folder.with_name(f"{folder.name}-{number}")
        else:
            return taken


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
