"""Models that read a prompt as one text: commands, and people.

A command reads it on standard input and prints a reply, so that command-line assistants can be
used with whatever account they are signed in to. For people, prompts are written to files, and
replies are waited for.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from evolve.errors import ModelError, ModelUnavailableError, UsageError
from evolve.files import open_plain, write_inside
from evolve.keys import cut_keys
from evolve.models.budget import FREE, Price
from evolve.models.model import Model, ReplyError, RetryableError
from evolve.records.attempts import read_picture
from evolve.records.chat import Message, Reply, Request

MANUAL = "manual"
PREFIX = "cmd:"
_MOST_BYTES = 32_000_000
_SHOWN_CHARACTERS = 300


def is_address(name: str) -> bool:
    """Returns whether a model's name has an address in it, as some providers take them."""
    return "://" in name and not name.startswith((PREFIX, "scripted"))


class CommandModel(Model):
    """A command that is started anew for every request, in an empty folder of its own.

    No shell reads it. Its usage is not known, so that tokens are estimated from the texts.

    Args:
        command: Program and arguments, quoted as for a shell.

    Raises:
        UsageError: The command is empty, its quotes do not match, or there is no such program.
    """

    def __init__(self, command: str) -> None:
        super().__init__(PREFIX + command)
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"model {self.name!r}: {error}") from error
        if not self._arguments:
            raise UsageError(f"model {self.name!r}: expected a command such as `cmd:tool --flag`")
        if shutil.which(self._arguments[0]) is None:
            raise UsageError(
                f"model {self.name!r}: expected a command on the PATH, found no "
                f"{self._arguments[0]!r}; install it, or give its full path"
            )
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        """Runs the command once.

        Raises:
            RetryableError: It failed, or took too long.
            ModelError: It cannot be started.
            ReplyError: It printed more than a reply can be.
        """
        start = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="evolve-cmd-") as folder,
            tempfile.TemporaryFile() as prompt,
            tempfile.TemporaryFile() as errors,
        ):
            prompt.write(format_prompt(request.messages).encode("utf-8", "replace"))
            prompt.seek(0)
            process = self._start(folder, prompt, errors)
            try:
                printed = _read_output(process, timeout_seconds)
                code = process.wait(max(start + timeout_seconds - time.monotonic(), 0.1))
            except (TimeoutError, subprocess.TimeoutExpired) as error:
                raise RetryableError(
                    f"no reply within {timeout_seconds:g} s", may_be_charged=True
                ) from error
            finally:
                self._end(process)
            errors_end = _read_end(errors)
        if code:
            raise RetryableError(f"ended with code {code}: {errors_end or 'no message'}")
        text = printed.decode("utf-8", "replace").strip()
        return Reply(text, self.name, seconds=time.monotonic() - start)

    def close(self) -> None:
        """Ends the commands that run."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for process in running:
            kill_group(process)

    def _start(
        self,
        folder: str,
        prompt: IO[bytes],
        errors: IO[bytes],
        *,
        words: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_closed:
                raise ModelUnavailableError(f"model {self.name!r}: closed")
            try:
                process = subprocess.Popen(
                    [*words, *self._arguments],
                    cwd=folder,
                    env=env,
                    stdin=prompt,
                    stdout=stdout,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise ModelError(f"model {self.name!r}: cannot be started: {error}") from error
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        kill_group(process)
        if process.stdout is not None:
            process.stdout.close()
        process.wait()
        with self._lock:
            self._running.discard(process)


class ManualModel(Model):
    """Writes `NAME.prompt.md` and waits for `NAME.reply.md` beside it, as long as it takes.

    The name follows from what is asked, so that a run that is resumed waits for the same file,
    and takes a reply that was written meanwhile.

    Args:
        folder: Where the files are; made when the first prompt is written.
        tell: Called with the file that is waited for, from any thread.
        poll_seconds: How often to look; a reply counts when it stayed the same for so long.
    """

    is_patient = True

    def __init__(
        self, folder: Path, *, tell: Callable[[str], None], poll_seconds: float = 0.5
    ) -> None:
        super().__init__(MANUAL)
        self._folder = folder
        self._tell = tell
        self._poll_seconds = poll_seconds
        self._closed = threading.Event()

    def complete(self, request: Request, timeout_seconds: float) -> Reply:  # noqa: ARG002
        """Waits for the reply to a request.

        Raises:
            ModelError: The files cannot be written or read.
            ModelUnavailableError: The model was closed.
        """
        start = time.monotonic()
        name = f"{request.role}-{request.hash[:12]}"
        answer = self._folder / f"{name}.reply.md"
        try:
            self._write_prompt(self._folder / f"{name}.prompt.md", request)
            text = self._wait_for(answer)
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"model {MANUAL!r}: {answer}: {error}") from error
        return Reply(text, MANUAL, seconds=time.monotonic() - start, cost_usd=0.0)

    def find_price(self) -> Price | None:
        """Costs nothing."""
        return FREE

    def close(self) -> None:
        """Ends all waiting."""
        self._closed.set()

    def _write_prompt(self, path: Path, request: Request) -> None:
        if path.exists():
            return
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        name = f"{path.parent.name}/{path.name}"
        pictures = [one for message in request.messages for one in message.pictures]
        for number, picture in enumerate(map(read_picture, pictures), start=1):
            if picture is not None:
                file = f"{path.parent.name}/{path.stem}-picture-{number}.{picture.kind}"
                write_inside(path.parent.parent, file, picture.data)
        write_inside(path.parent.parent, name, format_prompt(request.messages))

    def _wait_for(self, path: Path) -> str:
        """Returns the text of a file, once there is one that does not change any more."""
        before, has_said = "", False
        while True:
            text = _read_file(path) if path.exists() else ""
            if text.strip() and text == before:
                return text
            if not text and not has_said:
                self._tell(f"reply wanted: {path}, to the prompt beside it")
                has_said = True
            before = text
            if self._closed.wait(self._poll_seconds):
                raise ModelUnavailableError(f"model {MANUAL!r}: closed")


def _read_file(path: Path) -> str:
    # In a run folder of somebody else's a link could bring any file into a prompt.
    with os.fdopen(open_plain(path, os.O_RDONLY), encoding="utf-8") as stream:
        return stream.read()


def format_prompt(messages: Sequence[Message]) -> str:
    """Returns a chat as one text; roles are named where there is more than one question."""
    if sum(message.role != "system" for message in messages) <= 1:
        return "\n\n".join(message.text for message in messages) + "\n"
    parts = [
        message.text if message.role == "system" else f"[{message.role}]\n\n{message.text}"
        for message in messages
    ]
    return "\n\n".join([*parts, "[assistant]"]) + "\n"


def _read_output(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Returns all that a command prints.

    Raises:
        TimeoutError: The output was not closed in time.
        ReplyError: There is too much of it.
    """
    if process.stdout is None:
        raise ValueError("process: expected a pipe from it, got none")
    end = time.monotonic() + seconds
    printed = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(end - time.monotonic(), 0.0)):
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                return bytes(printed)
            printed += chunk
            if len(printed) > _MOST_BYTES:
                raise ReplyError(f"the command printed more than {_MOST_BYTES} bytes")
    raise TimeoutError


def _read_end(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(size - 4 * _SHOWN_CHARACTERS, 0))
    text = cut_keys(errors.read().decode("utf-8", "replace"))
    return " ".join(text.split())[-_SHOWN_CHARACTERS:]


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
