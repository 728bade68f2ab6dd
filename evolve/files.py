"""Files in folders that strangers may have filled: no link is followed, no name leads outside.

Run folders and problem folders are sent around. What is written, deleted or read in one is reached
by descriptors from the folder on, and what stands there is looked at before it is opened.
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING

from evolve.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A pipe in place of a file must not be waited for.
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_NAME = 255
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def inside(name: str, where: str = "") -> PurePosixPath:
    """Returns a name as a path that stays inside whatever folder it is looked up in.

    Args:
        name: Relative.
        where: Who names it, for messages.

    Raises:
        ValueError: It is absolute, climbs, is hidden, or is no path of a file.
    """
    path = PurePosixPath(name)
    parts = name.split("/")
    if (
        not path.parts
        or path.is_absolute()
        or not name.isprintable()
        # What is hidden is often obeyed: `.bashrc`, `.git/hooks`.
        or any(not part or part[0] == "." or len(part.encode()) > _LONGEST_NAME for part in parts)
        or "\\" in name
    ):
        place = f"{where}: " if where else ""
        raise ValueError(f"{place}expected the path of a file inside the folder, got {name!r:.200}")
    return path


def check_path(path: str, where: str) -> str:
    """Returns a path if it lies inside the workspace.

    Raises:
        ValueError: It is absolute, empty, or leads out of it.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise ValueError(f"{where}: expected a path inside the workspace, got {path!r}")
    return str(pure)


def write_inside(folder: Path, name: str, data: str | bytes) -> Path:
    """Writes a file in a folder at once, with the folders between; it is durable on return.

    A link in the place of the file is replaced; one in the place of a folder is refused.

    Args:
        folder: Exists; may itself be reached through links.
        name: Relative path of the file.
        data: What it is to hold.

    Raises:
        ValueError: The name leads outside.
        OSError: It cannot be written, or a link stands in the way.
    """
    path = inside(name)
    at = os.open(folder, _FOLDER)
    try:
        for part in path.parts[:-1]:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=at)
            deeper = _open_folder(part, at, folder / path)
            os.close(at)
            at = deeper
        _replace(at, path.name, data.encode() if isinstance(data, str) else data)
    finally:
        os.close(at)
    return folder / path


def write_named(path: Path, text: str) -> None:
    """Writes a file that a user named; a device is written to, a link refused.

    Raises:
        OSError: It cannot be written, or is a link.
    """
    kind = path.lstat().st_mode if path.is_symlink() or path.exists() else 0
    if stat.S_ISLNK(kind):
        raise OSError(errno.ELOOP, "it is a link; name the file that it leads to", str(path))
    if kind and not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        path.write_text(text, encoding="utf-8")
        return
    at = os.open(path.parent, _FOLDER)
    try:
        _replace(at, path.name, text.encode())
    finally:
        os.close(at)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a refusal of the system into an error that names the file or folder.

    Raises:
        StoreError: It cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error


def open_plain(path: Path, flags: int) -> int:
    """Returns a descriptor of a file, which may be made by this, but never of what a link names.

    Raises:
        OSError: It cannot be opened, is a link, another name of a file, or no regular file.
    """
    try:
        descriptor = os.open(path, flags | _FILE, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path)) from error
        raise
    found = os.fstat(descriptor)
    is_shared = found.st_nlink > 1 and bool(flags & (os.O_WRONLY | os.O_RDWR))
    if not stat.S_ISREG(found.st_mode) or is_shared:
        os.close(descriptor)
        what = "a file with other names" if is_shared else "no regular file"
        raise OSError(errno.EPERM, f"it is {what}", str(path))
    return descriptor


def read_plain(path: Path, most_bytes: int) -> bytes:
    """Returns what a regular file holds, one byte more than allowed at most; links are followed.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return stream.read(most_bytes + 1)


def decode_text(data: bytes) -> str:
    """Returns the text of a file, without the byte order mark that Windows editors put first.

    Raises:
        UnicodeDecodeError: It is neither UTF-8 nor, with its mark, UTF-16.
    """
    return data.decode("utf-16" if data[:2] in _WIDE else "utf-8-sig")


def lock_file(descriptor: int, *, is_shared: bool = False, waits: bool = False) -> bool:
    """Takes an advisory lock, which the kernel drops with the descriptor or its process.

    Returns:
        Whether it was free, or was waited for.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind if waits else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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


def find_stray(path: Path, root: Path, ignore: Callable[[str], bool] | None = None) -> Path | None:
    """Returns the first file or folder that is not inside a folder, as links can make it seem.

    Args:
        path: A file, or a folder that is looked through.
        root: The folder that everything has to be in.
        ignore: Whether a name is skipped.
    """
    real = root.resolve()
    return next((one for one in _walk(path, ignore) if is_stray(one, real)), None)


def is_stray(path: Path, real: Path) -> bool:
    """Returns whether a path leads out of a folder, or back to where it is from.

    Args:
        path: Exists.
        real: The folder, without links.
    """
    try:
        found = path.resolve()
        is_loop = path.is_symlink() and path.parent.resolve().is_relative_to(found)
        return is_loop or not found.is_relative_to(real)
    # A link to itself.
    except (OSError, RuntimeError):
        return True


def _walk(path: Path, ignore: Callable[[str], bool] | None) -> Iterator[Path]:
    yield path
    # A link is judged by where it leads: what lies there is found by its own name.
    if path.is_symlink() or not path.is_dir():
        return
    for below in sorted(path.iterdir()):
        if ignore is None or not ignore(below.name):
            yield from _walk(below, ignore)


def _open_folder(name: str, at: int, where: Path) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            text = f"`{name}` is a link or no folder, and is not followed"
            raise OSError(error.errno, text, str(where)) from error
        raise


def _replace(at: int, name: str, data: bytes) -> None:
    draft = f".draft-{token_hex(8)}"
    descriptor = os.open(
        draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=at
    )
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, name, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=at)
        raise
    os.fsync(at)
