"""A command as a model: it reads a prompt on standard input and prints a reply.

So command-line assistants can be used, with whatever account they are signed in to.
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
from typing import IO, TYPE_CHECKING

from evolve.errors import ModelError, ModelUnavailableError
from evolve.keys import cut_keys
from evolve.models.incoming import Incoming
from evolve.models.protocol import ReplyError
from evolve.models.retry import RetryableError
from evolve.records.chat import Message, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.models.protocol import Price

PREFIX = "cmd:"
_MOST_BYTES = 32_000_000
_SHOWN_CHARACTERS = 300


class CommandModel:
    """A command that is started anew for every request, in an empty folder of its own.

    No shell reads it. Its usage is not known, so that tokens are estimated from the texts.

    Args:
        command: Program and arguments, quoted as for a shell.

    Raises:
        ModelError: The command is empty or its quotes do not match.
    """

    is_patient = False
    address = remedy = ""

    def __init__(self, command: str) -> None:
        self.name = PREFIX + command
        self.incoming = Incoming()
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise ModelError(f"model {self.name!r}: {error}") from error
        if not self._arguments:
            raise ModelError(f"model {self.name!r}: expected a command such as `cmd:tool --flag`")
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
            tempfile.TemporaryFile() as errors,
        ):
            process = self._start(folder, errors)
            try:
                printed = _talk(process, format_prompt(request.messages), timeout_seconds)
                code = process.wait(max(start + timeout_seconds - time.monotonic(), 0.1))
            except (TimeoutError, subprocess.TimeoutExpired) as error:
                raise RetryableError(
                    f"no reply within {timeout_seconds:g} s", may_be_charged=True
                ) from error
            finally:
                self._end(process)
            told = _read_end(errors)
        if code:
            raise RetryableError(f"ended with code {code}: {told or 'no message'}")
        text = printed.decode("utf-8", "replace").strip()
        return Reply(text, self.name, seconds=time.monotonic() - start)

    def prepare(self) -> None:
        """Checks that there is such a command; it is not run.

        Raises:
            ModelError: There is none.
        """
        if shutil.which(self._arguments[0]) is None:
            raise ModelError(
                f"model {self.name!r}: expected a command on the PATH, found no "
                f"{self._arguments[0]!r}; install it, or give its full path"
            )

    def find_most_tokens(self) -> None:
        """Returns nothing: what a command can print is not known."""

    def find_price(self) -> Price | None:
        """Returns nothing: what a command costs is not known."""
        return None

    def close(self) -> None:
        """Ends the commands that run."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for process in running:
            _kill(process)

    def _start(self, folder: str, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_closed:
                raise ModelUnavailableError(f"model {self.name!r}: closed")
            try:
                process = subprocess.Popen(
                    self._arguments,
                    cwd=folder,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise ModelError(f"model {self.name!r}: cannot be started: {error}") from error
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        _kill(process)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()
        with self._lock:
            self._running.discard(process)


def format_prompt(messages: Sequence[Message]) -> str:
    """Returns a chat as one text; roles are named where there is more than one question."""
    if sum(message.role != "system" for message in messages) <= 1:
        return "\n\n".join(message.text for message in messages) + "\n"
    parts = [
        message.text if message.role == "system" else f"[{message.role}]\n\n{message.text}"
        for message in messages
    ]
    return "\n\n".join([*parts, "[assistant]"]) + "\n"


def _talk(process: subprocess.Popen[bytes], prompt: str, seconds: float) -> bytes:
    """Writes the prompt and gives all that is printed.

    Raises:
        TimeoutError: The output was not closed in time.
        ReplyError: There is too much of it.
    """
    if process.stdin is None or process.stdout is None:
        raise ValueError("process: expected pipes to it, got none")
    end = time.monotonic() + seconds
    left = memoryview(prompt.encode("utf-8", "replace"))
    printed = bytearray()
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        while True:
            ready = selector.select(max(end - time.monotonic(), 0.0))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    left = _write_some(process.stdin, left)
                    if not left:
                        selector.unregister(process.stdin)
                        with contextlib.suppress(OSError):
                            process.stdin.close()
                    continue
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                printed += chunk
                if len(printed) > _MOST_BYTES:
                    raise ReplyError(f"the command printed more than {_MOST_BYTES} bytes")
                if not chunk:
                    return bytes(printed)


def _write_some(stream: IO[bytes], left: memoryview) -> memoryview:
    """Writes what fits into the pipe; all is taken for written when nobody reads it."""
    try:
        return left[os.write(stream.fileno(), left) :]
    except BlockingIOError:
        return left
    except OSError:
        return left[:0]


def _read_end(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(size - 4 * _SHOWN_CHARACTERS, 0))
    text = cut_keys(errors.read().decode("utf-8", "replace"))
    return " ".join(text.split())[-_SHOWN_CHARACTERS:]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
