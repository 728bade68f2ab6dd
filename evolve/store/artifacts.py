"""Artifacts too large for the database: files in the run's folder, named by their content."""

from __future__ import annotations

import hashlib
import json
import os
import re
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import StoreError
from evolve.files import is_plain_folder, open_plain, remove_files, write_inside

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from pathlib import Path

    from evolve.records.results import Evaluated

FOLDER = "artifacts"
LARGE_BYTES = 65536
# Prompts show the last 3,000 characters of an artifact at most: with so much of it in the
# database, a run goes on as it would have when its files are gone.
_SHOWN_CHARACTERS = 8192
# Names come from the database, which comes from anywhere.
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST_BYTES = 1 << 30


class Missing(NamedTuple):
    """An artifact whose file is gone, or is not what was written.

    Attributes:
        generation: Of the evaluation that brought it.
        slot: Of the evaluation.
        sequence: The evaluation's number in its slot.
        name: Of the artifact.
        path: Of the file, in the run's folder.
        is_damaged: Whether there is a file, of another content.
    """

    generation: int
    slot: int
    sequence: int
    name: str
    path: str
    is_damaged: bool

    def __str__(self) -> str:
        what = "damaged" if self.is_damaged else "missing"
        place = f"{self.generation}.{self.slot}.{self.sequence}"
        return f"{what}: {self.path}: artifact `{self.name}` of evaluation {place}"


class ArtifactFiles:
    """The files of one run.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._folder = run / FOLDER

    def write(self, evaluated: Evaluated) -> list[tuple[object, ...]]:
        """Writes the large artifacts of an evaluation; they are durable when this returns.

        Returns:
            A row of `artifact_files` for each.

        Raises:
            StoreError: A file cannot be written.
        """
        written: list[tuple[object, ...]] = []
        for name, text in evaluated.evaluation.artifacts.items():
            if not is_large(text):
                continue
            data = _encode(text)
            digest = hashlib.sha256(data).hexdigest()
            try:
                self._write(digest, data)
            except OSError as error:
                raise StoreError(
                    f"{self._folder / digest}: cannot be written: {error.strerror or error}; what "
                    f"was committed is safe: free the disk or mend its permissions, then "
                    f"`evolve resume {quote(str(self._run))}`"
                ) from error
            ends = [
                json.dumps(end) for end in (text[:_SHOWN_CHARACTERS], text[-_SHOWN_CHARACTERS:])
            ]
            written.append((*evaluated.key, name, digest, len(data), *ends))
        return written

    def fill(self, artifacts: Mapping[str, str | None], files: str) -> dict[str, str]:
        """Returns the artifacts with the texts of files in their places.

        Args:
            artifacts: As the database has them: None where the text is in a file.
            files: JSON: hash, start and end by name.
        """
        known = json.loads(files) if files else {}
        filled = {}
        for name, text in artifacts.items():
            filled[name] = self._read(*known[name]) if text is None else text
        return filled

    def find_missing(
        self, connection: sqlite3.Connection, *, contents: bool = False
    ) -> list[Missing]:
        """Returns the artifacts whose file is gone or has another length.

        Args:
            connection: The run's database.
            contents: Whether files are read and compared with their hash, too.
        """
        found = []
        for generation, slot, sequence, name, digest, size in connection.execute(
            "SELECT generation, slot, sequence, name, sha256, bytes FROM artifact_files "
            "ORDER BY generation, slot, sequence, name"
        ):
            there = self._size_of(digest)
            if there == size and not (contents and self._load(digest) is None):
                continue
            where = f"{FOLDER}/{digest}"
            found.append(Missing(generation, slot, sequence, name, where, there is not None))
        return found

    def copy_to(self, target: Path, connection: sqlite3.Connection) -> None:
        """Copies the files that a database refers to into another run's folder."""
        sql = "SELECT DISTINCT sha256 FROM artifact_files"
        copies = ArtifactFiles(target)
        for (name,) in connection.execute(sql):
            data = self._load(name)
            if data is not None:
                copies._write(name, data)

    def drop_unused(self, connection: sqlite3.Connection) -> int:
        """Deletes the files that the database does not refer to, and returns their bytes."""
        used = {name for (name,) in connection.execute("SELECT sha256 FROM artifact_files")}
        return remove_files(self._folder, used.__contains__) if self._folder.exists() else 0

    def _write(self, digest: str, data: bytes) -> None:
        if self._load(digest) is not None:
            return
        is_new = not self._folder.is_dir()
        write_inside(self._run, f"{FOLDER}/{digest}", data)
        if is_new:
            sync(self._run)

    def _size_of(self, digest: str) -> int | None:
        """Returns the bytes of a file; None where there is none of that name."""
        path = self._folder / digest
        if not _DIGEST.fullmatch(digest) or not is_plain_folder(self._folder):
            return None
        return path.lstat().st_size if path.is_file() and not path.is_symlink() else None

    def _load(self, digest: str) -> bytes | None:
        """Returns what a file holds; None where it is not what its name says."""
        size = self._size_of(digest)
        if size is None or size > _LARGEST_BYTES:
            return None
        try:
            with os.fdopen(open_plain(self._folder / digest, os.O_RDONLY), "rb") as stream:
                data = stream.read(_LARGEST_BYTES)
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == digest else None

    def _read(self, digest: str, start: str, end: str) -> str:
        data = self._load(digest)
        if data is not None:
            return data.decode("utf-8", "surrogatepass")
        gap = f"\n[the rest was in {FOLDER}/{digest}, which is missing or damaged]\n"
        return str(json.loads(start)) + gap + str(json.loads(end))


def is_large(text: str) -> bool:
    """Returns whether an artifact is kept in a file of its own."""
    return len(text) > LARGE_BYTES or len(_encode(text)) > LARGE_BYTES


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def sync(path: Path) -> None:
    """Makes what was written to a file, or the names in a folder, outlast a power cut.

    Raises:
        OSError: The disk refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
