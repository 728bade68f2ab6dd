"""Commands of a program: started in its workspace, fed and read within bounds, and ended."""

# System calls stand here by their own names.
# ruff: noqa: PTH103, PTH108, PTH119, PTH120, PTH123

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

from . import kernel, seccomp
from .confine import Order
from .wire import Printed

_CHUNK = 1 << 16
_PROGRAM_HEADS = (b"\x7fELF", b"#!")
# Some of standard output goes the way of standard error too: it is shown if no answer comes.
_SHOWN_BYTES = 4096


class CommandError(Exception):
    """A command that cannot be started or goes beyond its bounds; shown without a traceback."""


def run(
    request: dict[str, Any], work: str, sources: dict[str, bytes], order: Order
) -> dict[str, Any]:
    """Runs a command to its end and kills what it leaves behind.

    Args:
        request: The fields of the host's `Command`.
        work: The workspace.
        sources: The program's own files, which a collection leaves out.
        order: What the program may use.

    Raises:
        CommandError: It cannot be started, or brings back too much.
    """
    for path, data in request["files"].items():
        write_file(work, path, data)
    exchange = _Exchange(_start(request, work), request["stdin"], order)
    try:
        status, cpu = exchange.run()
    finally:
        _end_strays()
        exchange.close()
    left = (order.reply_mb << 20) - len(exchange.stdout)
    if request["collects"]:
        files = _fetch(work, _list_files(work), left, sources)
    else:
        files = _fetch(work, request["outputs"], left, {})
    return {
        "code": os.waitstatus_to_exitcode(status),
        "stdout": bytes(exchange.stdout),
        "stderr": exchange.stderr.text(),
        "files": files,
        "cpu": cpu,
    }


def write_file(work: str, path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Writes a file of the workspace anew, and the folders on the way to it."""
    full_path = f"{work}/{path}"
    os.makedirs(os.path.dirname(full_path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(full_path)
    # The mode is given at the birth of the file: changing it later may be refused.
    descriptor = os.open(full_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(data)


def _start(request: dict[str, Any], work: str) -> subprocess.Popen[bytes]:
    words = request["words"]
    # The command sees this process in `/proc`, and shall find nothing there to open: what is not
    # dumped belongs to root.
    with contextlib.suppress(OSError):
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    code = seccomp.build_timing_filter(is_alone=True) if request["is_alone"] else b""
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=work,
            bufsize=0,
            preexec_fn=(lambda: seccomp.install_filter(code)) if code else None,  # noqa: PLW1509
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandError(f"`{words[0]}` cannot be started: {reason}") from None


class _Exchange:
    """Feeds a process and keeps what it writes, until its first process ends."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, order: Order) -> None:
        self.stdout = bytearray()
        self.stderr = Printed(order.output_kb << 10)
        self._process = process
        self._unsent = memoryview(stdin)
        self._most = order.reply_mb << 20
        self._shown = 0
        streams = (process.stdin, process.stdout, process.stderr)
        self._open = {stream.fileno(): stream for stream in streams if stream is not None}
        self._in, self._out, self._err = self._open
        for descriptor in self._open:
            os.set_blocking(descriptor, False)

    def run(self) -> tuple[int, float]:
        """Returns the wait status and the processor time."""
        pid = self._process.pid
        ender = os.pidfd_open(pid)
        found = 0
        while not found:
            if not self._unsent:
                self._close(self._in)
            self._poll(ender)
            found, status, usage = os.wait4(pid, os.WNOHANG)
        os.close(ender)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        # Whoever still holds the streams could write without end.
        _end_strays()
        for descriptor in (self._out, self._err):
            self._read(descriptor, to_end=True)
        return status, usage.ru_utime + usage.ru_stime

    def close(self) -> None:
        """Closes all streams."""
        for descriptor in list(self._open):
            self._close(descriptor)
        self._process.returncode = self._process.returncode or 0

    def _poll(self, ender: int) -> None:
        poller = select.poll()
        for descriptor in self._open:
            poller.register(descriptor, select.POLLOUT if descriptor == self._in else select.POLLIN)
        poller.register(ender, select.POLLIN)
        for descriptor, _ in poller.poll():
            if descriptor == self._in:
                self._feed()
            elif descriptor != ender:
                self._read(descriptor)

    def _feed(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._in, self._unsent[:_CHUNK]) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._unsent = self._unsent[:0]

    def _read(self, descriptor: int, *, to_end: bool = False) -> None:
        while descriptor in self._open:
            try:
                data = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                self._close(descriptor)
            elif descriptor == self._out:
                self._keep(data)
            else:
                os.write(2, data)
                self.stderr.add(data)
            if not to_end:
                return

    def _keep(self, data: bytes) -> None:
        self.stdout += data
        if len(self.stdout) > self._most:
            raise CommandError(f"more than {self._most} bytes on standard output (limit: reply_mb)")
        if self._shown < _SHOWN_BYTES:
            self._shown += os.write(2, data[: _SHOWN_BYTES - self._shown])

    def _close(self, descriptor: int) -> None:
        if descriptor in self._open:
            self._open.pop(descriptor).close()


def _end_strays() -> None:
    # Reaches no process but those of this program: the namespace, or the filter, sees to that.
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _fetch(work: str, paths: Iterable[str], most: int, known: dict[str, bytes]) -> list[Any]:
    files = []
    for path in paths:
        found = _read_regular(f"{work}/{path}", most)
        if found is not None and found[0] != known.get(path):
            most -= len(found[0])
            files.append([path, *found])
    return files


def _list_files(work: str) -> Iterator[str]:
    for folder, folders, names in os.walk(work):
        folders.sort()
        for name in sorted(names):
            yield f"{folder}/{name}"[len(work) + 1 :]


def _read_regular(path: str, most: int) -> tuple[bytes, bool] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        if about.st_size > most:
            name = os.path.basename(path)
            raise CommandError(f"too much to bring back: `{name}` does not fit (limit: reply_mb)")
        data = file.read(most + 1)
    return data, bool(about.st_mode & stat.S_IXUSR) or data.startswith(_PROGRAM_HEADS)
