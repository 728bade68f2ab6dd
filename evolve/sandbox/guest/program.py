"""The program's side of a session: loads the source, calls functions, runs commands, sends values.

All of this runs in the same interpreter as the program, which may change any of it: the host
believes nothing of what comes out beyond its form.
"""

# System calls stand here by their own names.
# ruff: noqa: PTH103, PTH108, PTH119, PTH120, PTH123, PTH211

from __future__ import annotations

import contextlib
import linecache
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from types import FunctionType, GeneratorType, ModuleType
from typing import Any, NoReturn

from . import kernel, seccomp, wire
from .wire import ProgramLimits

_REQUESTS, REPLIES, NOTES = 3, 4, 5
# Programs that change the module do not change this.
_clock = time.perf_counter


class _RequestError(Exception):
    """What is asked of the program cannot be done; shown without a traceback."""


def serve(work: str, data: str, limits: ProgramLimits) -> NoReturn:
    """Serves calls until the process is killed.

    Args:
        work: The workspace.
        data: Folder to show in it as `data/`; empty for none.
        limits: What the program may use.
    """
    program = wire.decode(_receive()[1])
    sources = _write_files(work, program)
    if data:
        os.symlink(data, f"{work}/data")
    sys.path.insert(0, work)
    outbox = _Outbox(limits)
    module: ModuleType | None = None
    while True:
        nonce, message = _receive()
        outbox.nonce = nonce
        started = _clock()
        request = wire.decode(message, scale=wire.REQUEST_SCALE)
        os.environ["EVOLVE_TIME_LIMIT_SECONDS"] = str(request["seconds"])
        try:
            if "words" in request:
                outbox.send(wire.VALUE, _run(request, work, sources, limits))
                continue
            if module is None:
                module = _load(work, program["files"][0][0], started)
            _call(module, request, outbox)
        except MemoryError as error:
            error.__traceback__ = None
            outbox.send(wire.OUT_OF_MEMORY, None)
        except BaseException as error:  # noqa: BLE001 - whatever the program raises is its answer
            outbox.send(wire.ERROR, describe(error, work))
        with contextlib.suppress(Exception):
            sys.stdout.flush()


class _Outbox:
    """Sends the messages of the present call, and what `from evolve import ask` asks a model."""

    def __init__(self, limits: ProgramLimits) -> None:
        self.nonce = wire.NO_NONCE
        self._max_bytes = limits.reply_mb << 20
        self._turn = threading.Lock()
        if limits.asks:
            module = ModuleType("evolve", "Asks the language model of the problem.")
            module.__dict__.update(ask=self.ask, ask_all=self.ask_all)
            sys.modules["evolve"] = module

    def send(self, kind: bytes, value: Any) -> None:
        body = wire.encode(value, self._max_bytes)
        view = memoryview(wire.pack_message(self.nonce, kind, body))
        while view:
            view = view[os.write(REPLIES, view) :]

    def ask(self, prompt: str, **options: Any) -> str:
        """Returns the model's answer to a prompt."""
        return self.ask_all([prompt], **options)[0]

    def ask_all(self, prompts: Any, **options: Any) -> list[str]:
        """Returns the answers to several prompts, which are asked at the same time."""
        with self._turn:
            self.send(wire.ASK, {"prompts": list(prompts), "options": options})
            _, body = _receive()
        found = wire.decode(body, scale=wire.REQUEST_SCALE)
        if found["error"]:
            raise RuntimeError(found["error"])
        answers: list[str] = found["answers"]
        return answers


def _call(module: ModuleType, request: dict[str, Any], outbox: _Outbox) -> None:
    function = getattr(module, request["function"], None)
    if not callable(function):
        raise _RequestError(_missing_function(module, request["function"]))
    if "many" in request:
        outbox.send(wire.VALUE, [_last(function(*row)) for row in wire.unpack_rows(request)])
        return
    value = function(*request["args"], **request["kwargs"])
    if not isinstance(value, GeneratorType):
        outbox.send(wire.VALUE, value)
        return
    is_empty = True
    for part in value:
        outbox.send(wire.YIELDED, part)
        is_empty = False
    if is_empty:
        raise _RequestError(f"the generator `{request['function']}` yielded nothing")
    outbox.send(wire.LAST_COUNTS, None)


def _last(value: Any) -> Any:
    return next(iter(deque(value, 1)), None) if isinstance(value, GeneratorType) else value


def _load(work: str, path: str, started: float) -> ModuleType:
    package, _, name = path.removesuffix(".py").replace("/", ".").rpartition(".")
    if package:
        # Files beside it can be imported by their own names, as of a script.
        sys.path.insert(0, f"{work}/{package.replace('.', '/')}")
    if not name.isidentifier() or name in sys.modules:
        name = f"program_{len(sys.modules)}"
    full_path = f"{work}/{path}"
    with open(full_path, encoding="utf-8") as file:
        code = compile(file.read(), full_path, "exec", dont_inherit=True)
    module = ModuleType(name)
    module.__file__ = full_path
    module.__package__ = package
    sys.modules[name] = module
    exec(code, module.__dict__)  # noqa: S102 - running the program is what the guest is for
    # Read only where no answer comes; the program may have closed or filled the pipe.
    with contextlib.suppress(OSError):
        os.write(NOTES, b"loaded %.6f\n" % (_clock() - started))
    return module


def _missing_function(module: ModuleType, wanted: str) -> str:
    names = [
        name
        for name, part in vars(module).items()
        if isinstance(part, FunctionType) and part.__module__ == module.__name__
    ]
    there = ", ".join(f"`{name}`" for name in names[:20]) or "no function"
    return f"the program has no function `{wanted}`; it defines {there}"


def _write_files(work: str, program: dict[str, Any]) -> dict[str, bytes]:
    sources = {path: text.encode() for path, text in program["files"]}
    for path, text in sources.items():
        _write_file(work, path, text)
    for path, built, is_executable in program["built"]:
        _write_file(work, path, built, mode=0o700 if is_executable else 0o600)
    return sources


def _receive() -> tuple[bytes, bytearray]:
    nonce, _, size = wire.MESSAGE.unpack(_read_exactly(wire.MESSAGE.size))
    return nonce, _read_exactly(size)


def _read_exactly(size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = os.readv(_REQUESTS, [view])
        if not count:
            os._exit(0)
        view = view[count:]
    return data


_CHUNK = 1 << 16
_PROGRAM_HEADS = (b"\x7fELF", b"#!")
# Some of standard output goes the way of standard error too: it is shown if no answer comes.
_SHOWN_BYTES = 4096


def _run(
    request: dict[str, Any], work: str, sources: dict[str, bytes], limits: ProgramLimits
) -> dict[str, Any]:
    """Runs a command to its end and kills what it leaves behind.

    Args:
        request: The fields of the host's `Command`.
        work: The workspace.
        sources: The program's own files, which a collection leaves out.
        limits: What the program may use.

    Raises:
        _RequestError: It cannot be started, or brings back too much.
    """
    for path, data in request["files"].items():
        _write_file(work, path, data)
    exchange = _Exchange(_start(request, work), request["stdin"], limits)
    try:
        status, cpu = exchange.run()
    finally:
        _end_strays()
        exchange.close()
    left = (limits.reply_mb << 20) - len(exchange.stdout)
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


def _write_file(work: str, path: str, data: bytes, *, mode: int = 0o600) -> None:
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
        raise _RequestError(f"`{words[0]}` cannot be started: {reason}") from None


class _Exchange:
    """Feeds a process and keeps what it writes, until its first process ends."""

    def __init__(
        self, process: subprocess.Popen[bytes], stdin: bytes, limits: ProgramLimits
    ) -> None:
        self.stdout = bytearray()
        self.stderr = wire.Printed(limits.output_kb << 10)
        self._process = process
        self._unsent = memoryview(stdin)
        self._most = limits.reply_mb << 20
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
            raise _RequestError(
                f"more than {self._most} bytes on standard output (limit: reply_mb)"
            )
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
            raise _RequestError(f"too much to bring back: `{name}` does not fit (limit: reply_mb)")
        data = file.read(most + 1)
    return data, bool(about.st_mode & stat.S_IXUSR) or data.startswith(_PROGRAM_HEADS)


_GUEST = "evolve_guest."
_MAX_FRAMES = 12
_MAX_REASON = 500
_MAX_DETAIL = 8000


def describe(error: BaseException, work: str) -> tuple[str, str]:
    """Returns one line on an exception, and its traceback in the program's own files.

    Args:
        error: What the program raised; its methods may misbehave.
        work: The workspace; only frames of files in it are kept, under their relative path.
    """
    own = getattr(type(error), "__module__", "").startswith(_GUEST)
    lines = _name_safely(error)
    if own:
        return str(error)[:_MAX_REASON], ""
    detail = "\n".join([*_own_frames(error, work), *lines])
    return _reason(error, lines)[:_MAX_REASON], detail.replace(f"{work}/", "")[-_MAX_DETAIL:]


def _name_safely(error: BaseException) -> list[str]:
    try:
        lines = traceback.format_exception_only(type(error), error)
        return [line for text in lines for line in text.rstrip().split("\n")]
    except BaseException:  # noqa: BLE001 - the exception's own methods raised
        return [f"{type(error).__name__}: <its text cannot be read>"]


def _reason(error: BaseException, lines: list[str]) -> str:
    if isinstance(error, SyntaxError):
        return f"{lines[-1]} (line {error.lineno})"
    return next((line for line in lines if line.strip()), type(error).__name__)


def _own_frames(error: BaseException, work: str) -> list[str]:
    linecache.checkcache()
    try:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename.startswith(f"{work}/")
        ]
        if len(frames) > _MAX_FRAMES:
            half = _MAX_FRAMES // 2
            frames = frames[:half] + frames[-half:]
        return ["".join(traceback.format_list([frame])).rstrip() for frame in frames]
    except BaseException:  # noqa: BLE001 - a traceback is a help, its absence no failure
        return []
