"""Artifacts too large for the database: files in the run's folder, named by their content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import StoreError

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
                    f"`evolve resume {self._run}`"
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
            path = self._folder / digest
            is_there = path.is_file()
            if (
                is_there
                and path.stat().st_size == size
                and not (contents and _hash_of(path) != digest)
            ):
                continue
            where = f"{FOLDER}/{digest}"
            found.append(Missing(generation, slot, sequence, name, where, is_there))
        return found

    def copy_to(self, target: Path, connection: sqlite3.Connection) -> None:
        """Copies the files that a database refers to into another run's folder."""
        sql = "SELECT DISTINCT sha256 FROM artifact_files"
        names = [name for (name,) in connection.execute(sql) if (self._folder / name).is_file()]
        if names:
            (target / FOLDER).mkdir(exist_ok=True)
        for name in names:
            shutil.copyfile(self._folder / name, target / FOLDER / name)

    def drop_unused(self, connection: sqlite3.Connection) -> int:
        """Deletes the files that the database does not refer to, and returns their bytes."""
        used = {name for (name,) in connection.execute("SELECT sha256 FROM artifact_files")}
        freed = 0
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.name not in used:
                freed += path.stat().st_size
                path.unlink()
        return freed

    def _write(self, digest: str, data: bytes) -> None:
        path = self._folder / digest
        if path.is_file() and _hash_of(path) == digest:
            return
        if not self._folder.is_dir():
            self._folder.mkdir()
            sync(self._run)
        draft = self._folder / f".{digest}"
        with draft.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        sync(self._folder)

    def _read(self, digest: str, start: str, end: str) -> str:
        try:
            data = (self._folder / digest).read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() == digest:
            return data.decode("utf-8", "surrogatepass")
        gap = f"\n[the rest was in {FOLDER}/{digest}, which is missing or damaged]\n"
        return str(json.loads(start)) + gap + str(json.loads(end))


def is_large(text: str) -> bool:
    """Returns whether an artifact is kept in a file of its own."""
    return len(text) > LARGE_BYTES or len(_encode(text)) > LARGE_BYTES


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _hash_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
