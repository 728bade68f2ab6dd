"""An evaluator and what lies beside it, as a run keeps them: at the same paths, each byte once.

Small files are copied; larger ones are shared between the runs of a folder, by their content; what
is too large for that stays where it is, and the run has a link to it and its checksum. Links of the
user's own stay links: nothing is copied through them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

from evolve.errors import StoreError, UsageError
from evolve.problem import Problem
from evolve.store import is_locked

MB = 1 << 20
# A file or folder that is larger stays where it is, as does the rest of what is larger together.
MOST_BYTES, MOST_FILES, MOST_TOGETHER = 64 * MB, 2000, 256 * MB
_SHARED_FROM = MB
_STORE = ".evolve-files"
ORIGIN_FILE = "origin.json"
_LEFT_OUT = (
    *("__pycache__", ".git", ".hg", ".svn", ".env", ".env.*", ".venv", ".*_cache", ".tox"),
    *(".nox", ".idea", ".vscode", ".DS_Store", ".ipynb_checkpoints", ".ssh", _STORE),
)
# Large and never a program's own: not looked into.
_NOT_COPIED = ("checkpoint", "checkpoints")
_RUN_FILES = ("settings.toml", "problem", "evaluator")
# Of each file of what stays where it is, so much of both ends goes into its checksum.
_ENDS = MB


@dataclass(slots=True)
class _Copying:
    """The copying of one folder.

    Attributes:
        root: The folder, without links.
        evaluator: A file in it that is copied whatever lies around it.
        skipped: Folders that are not looked into: those of the new run itself.
        store: Folder of files that runs share.
        linked: What stays where it is, by its path in the copy.
        is_among_others: Whether the problem itself lies in the folder, so that what else does is
            anybody's: then all but Python files is linked.
        has_data: Whether the run has a copy of `data` elsewhere.
        left: Bytes that may still be copied.
    """

    root: Path
    evaluator: Path
    skipped: tuple[Path, ...]
    store: Path
    linked: dict[str, Path] = field(default_factory=dict)
    left: int = MOST_TOGETHER
    is_among_others: bool = False
    has_data: bool = False

    def copy_folder(self, source: Path, target: Path) -> None:
        target.mkdir()
        for path in _list_entries(source):
            to = target / path.name
            if self.has_data and path == self.root / "data":
                to.symlink_to("../problem/data")
            elif path.is_symlink():
                self._copy_link(path, to)
            elif self.is_among_others and source == self.root and path.suffix != ".py":
                to.symlink_to(path)
            elif path.is_dir():
                if path in self.skipped or is_run(path) or (path / "pyvenv.cfg").is_file():
                    continue
                if self._stays(path):
                    self._link(path, to)
                else:
                    self.copy_folder(path, to)
                    _drop_emptied(path, to)
            elif path.is_file() and os.access(path, os.R_OK):
                self._copy_file(path, to)

    def _stays(self, folder: Path) -> bool:
        """Returns whether a folder is linked as a whole."""
        if self.evaluator.is_relative_to(folder):
            return False
        return folder.name in _NOT_COPIED or (_is_large(folder) and not any(folder.glob("*.py")))

    def _copy_file(self, path: Path, to: Path) -> None:
        size = path.stat().st_size
        if size > MOST_BYTES or (size > _SHARED_FROM and size > self.left):
            self._link(path, to)
            return
        self.left -= size
        if size >= _SHARED_FROM:
            _share(path, to, self.store)
        else:
            shutil.copy2(path, to)

    def _copy_link(self, path: Path, to: Path) -> None:
        # What leads nowhere, or to itself, is of no use to an evaluator.
        with suppress(OSError, RuntimeError):
            real = path.resolve(strict=True)
            if not real.is_relative_to(self.root):
                to.symlink_to(real)
            elif real.is_file():
                self._copy_file(real, to)
            elif not path.is_relative_to(real):
                to.symlink_to(os.path.relpath(real, path.parent.resolve()))

    def _link(self, path: Path, to: Path) -> None:
        to.symlink_to(path)
        self.linked[path.relative_to(self.root).as_posix()] = path


def copy_world(
    source: Path, target: Path, *, problem: Problem, run: Path, draft: Path
) -> dict[str, Path]:
    """Copies what an evaluator may need.

    Left out are virtual environments, earlier runs, repositories, caches, `.env`, and what is
    neither file nor folder.

    Args:
        source: The folder.
        target: Is made.
        problem: Whose evaluator it is.
        run: The run's folder, which may be in `source`; runs next to it share files.
        draft: Where it is made.

    Returns:
        What was not copied and is linked, by its path in the folder.

    Raises:
        OSError: Something cannot be read or written.
    """
    root = source.resolve()
    store = run.parent.resolve() / _STORE
    _sweep(store)
    skipped = (draft.resolve(), run.resolve())
    copying = _Copying(root, problem.evaluator, skipped, store)
    is_problem = (root / "problem.toml").is_file()
    copying.is_among_others = root in problem.folder.parents and not is_problem
    copying.has_data = is_problem and problem.data is not None
    copying.copy_folder(root, target)
    return copying.linked


def copy_data(problem: Problem, target: Path, run: Path) -> dict[str, Path]:
    """Copies the folder that programs may read, or links it where it is large.

    Returns:
        It, where it was linked.

    Raises:
        OSError: Something cannot be read or written.
    """
    data = problem.data
    if data is None:
        return {}
    if _is_large(data):
        target.symlink_to(data)
        return {"data": data}
    _Copying(data, problem.evaluator, (), run.parent.resolve() / _STORE).copy_folder(data, target)
    return {}


def is_run(folder: Path) -> bool:
    """Returns whether a folder is that of a run."""
    return (folder / "run.db").is_file() or all((folder / name).exists() for name in _RUN_FILES)


def write_origin(
    folder: Path, evaluator: Path, linked: dict[str, Path], source: Path | None = None
) -> None:
    """Writes down what a run's evaluator was copied from, and checksums of what was not copied.

    Args:
        folder: The run's folder.
        evaluator: The evaluator's file.
        linked: What was not copied, by its name.
        source: Where that may be a run itself: its folder, whose origin goes over.
    """
    origin: dict[str, Any] = {"evaluator": "", "linked": {}}
    if source is not None:
        origin = read_origin(source)
    found = origin["linked"] | {
        name: {"path": str(path), "checksum": checksum_ends(path)} for name, path in linked.items()
    }
    named = origin["evaluator"] or str(evaluator)
    text = json.dumps({"evaluator": named, "linked": found}, indent=2)
    (folder / ORIGIN_FILE).write_text(text + "\n", encoding="utf-8")


def read_origin(folder: Path) -> dict[str, Any]:
    """Returns what `write_origin` wrote; nothing of it is there in a run that lacks the file."""
    try:
        found = json.loads((folder / ORIGIN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    found = found if isinstance(found, dict) else {}
    linked = found.get("linked")
    return {
        "evaluator": str(found.get("evaluator", "")),
        "linked": linked if isinstance(linked, dict) else {},
    }


def describe_linked(folder: Path, *, changed: bool = False) -> list[str]:
    """Returns a line for each thing that a run did not copy, or for those that changed since."""
    lines = []
    for entry in read_origin(folder)["linked"].values():
        path = Path(str(entry.get("path", "")))
        if not changed:
            lines.append(
                f"not copied, since it is large: {path} (a run holds files and folders of at most "
                f"{MOST_BYTES // MB} MB, {MOST_TOGETHER // MB} MB in all)"
            )
        elif checksum_ends(path) != entry.get("checksum"):
            lines.append(
                f"warning: {path} is not as it was when the run began: objectives from before "
                "may not compare with new ones"
            )
    return lines


def take_evaluator(folder: Path, problem: Problem, path: Path) -> None:
    """Puts an evaluator, with what lies beside it, in the place of a run's own.

    Args:
        folder: The run's folder.
        problem: As the run has it.
        path: The evaluator's file, or the folder that has it where the problem folder had it. Of a
            file with another name the file alone is taken.

    Raises:
        UsageError: There is none, or the run is being written.
        StoreError: It cannot be copied.
    """
    own, relative = problem.world, problem.evaluator.relative_to(problem.world)
    given = (path / relative if path.is_dir() else path).resolve()
    if not given.is_file():
        raise UsageError(f"--evaluator: expected a Python file, got nothing at {given}")
    if is_locked(folder):
        raise UsageError(f"{folder}: the run is being written; `evolve stop` ends it")
    is_whole = given.parts[-len(relative.parts) :] == relative.parts
    world = given.parents[len(relative.parts) - 1] if is_whole else own
    found = replace(problem, world=world, evaluator=world / relative)
    try:
        with tempfile.TemporaryDirectory(prefix=".evaluator-", dir=folder) as name:
            draft, new = Path(name), Path(name, own.name)
            linked = copy_world(world, new, problem=found, run=folder, draft=draft)
            if not is_whole:
                shutil.copyfile(given, new / relative)
            write_origin(draft, given, linked)
            own.rename(draft / "before")
            new.rename(own)
            (draft / ORIGIN_FILE).replace(folder / ORIGIN_FILE)
    except OSError as error:
        raise StoreError(f"{folder}: its evaluator cannot be replaced: {error}") from error


def describe_mending(folder: Path, problem: Problem) -> str:
    """Returns how to continue a run once its evaluator is mended, and which file that is."""
    original = Path(read_origin(folder)["evaluator"])
    path = original if original.is_file() else problem.evaluator
    return f"mend {path}, then: {_command(folder, path)}"


def _command(folder: Path, path: Path) -> str:
    return f"evolve resume {quote(str(folder))} --evaluator {quote(str(path))}"


def describe_difference(folder: Path, problem: Problem) -> list[str]:
    """Returns a line where the file that a run's evaluator was copied from was changed since."""
    original = Path(read_origin(folder)["evaluator"])
    try:
        is_same = original.read_bytes() == problem.evaluator.read_bytes()
    except OSError:
        return []
    if is_same:
        return []
    line = f"evaluator: {original} was changed since; the run uses its own copy, as it was"
    return [f"{line}; to take it: {_command(folder, original)}"]


def checksum_ends(path: Path) -> str:
    """Returns a checksum of names, sizes and both ends of all files; none where there is none."""
    if not path.exists():
        return ""
    digest = hashlib.sha256()
    for one in [path] if path.is_file() else list_files(path):
        with suppress(OSError), one.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            digest.update(f"{one.relative_to(path)}\0{size}\0".encode())
            digest.update(stream.read(_ENDS))
            stream.seek(max(0, size - _ENDS))
            digest.update(stream.read())
    return digest.hexdigest()


def checksum_folder(folder: Path, counts: Callable[[Path], bool] = lambda _: True) -> str:
    """Returns a checksum of the names and contents of files; of links it takes the target.

    Args:
        folder: The folder.
        counts: Whether a file is taken; `__pycache__` may be left out, for one.
    """
    digest = hashlib.sha256()
    for path in filter(counts, list_files(folder)):
        if path.is_symlink():
            content = str(path.readlink())
        else:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(json.dumps([path.relative_to(folder).as_posix(), content]).encode())
    return digest.hexdigest()


def list_files(folder: Path) -> list[Path]:
    """Returns all files and links below a folder, in order; no link is followed."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _list_entries(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except PermissionError:
        return []
    return [
        path for path in paths if not any(fnmatch.fnmatch(path.name, name) for name in _LEFT_OUT)
    ]


def _is_large(folder: Path) -> bool:
    size = count = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size, count = size + Path(where, name).lstat().st_size, count + 1
            if size > MOST_BYTES or count > MOST_FILES:
                return True
    return False


def _drop_emptied(source: Path, target: Path) -> None:
    # A folder that held nothing but runs.
    if not any(target.iterdir()) and any(source.iterdir()):
        target.rmdir()


def _share(path: Path, to: Path, store: Path) -> None:
    """Makes a file that has the same bytes on disk as an equal one of another run."""
    with path.open("rb") as stream:
        stored = store / hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        to.hardlink_to(stored)
    except OSError:
        shutil.copy2(path, to)
        # Not to be changed in place: other runs have it too.
        to.chmod(0o444)
        # Where a file system has no second names each run has a copy.
        with suppress(OSError):
            store.mkdir(exist_ok=True)
            stored.hardlink_to(to)


def _sweep(store: Path) -> None:
    """Removes the shared files that no run has any more."""
    if not store.is_dir():
        return
    for path in store.iterdir():
        with suppress(OSError):
            if path.lstat().st_nlink == 1:
                path.unlink()
    with suppress(OSError):
        store.rmdir()
