"""The program's side of a session: loads the source, calls its functions, sends values.

All of this runs in the same interpreter as the program, which may change any of it: the host
believes nothing of what comes out beyond its form.
"""

# System calls stand here by their own names.
# ruff: noqa: PTH123, PTH211

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import threading
import time
import traceback
from types import FunctionType, GeneratorType, ModuleType
from typing import Any, NoReturn

from . import subprocesses, wire
from .confine import Order
from .wire import (
    ASK,
    ERROR,
    LAST_COUNTS,
    MESSAGE,
    OUT_OF_MEMORY,
    VALUE,
    YIELDED,
    unpack_rows,
)

_REQUESTS, _REPLIES, NOTES = 3, 4, 5
# Programs that change the module do not change this.
_clock = time.perf_counter


class _CallError(Exception):
    """The program lacks what is asked of it; shown without a traceback."""


def serve(work: str, data: str, order: Order) -> NoReturn:
    """Serves calls until the process is killed.

    Args:
        work: The workspace.
        data: Folder to show in it as `data/`; empty for none.
        order: What the program may use.
    """
    program = wire.decode(_receive()[1])
    sources = _write_files(work, program)
    if data:
        os.symlink(data, f"{work}/data")
    sys.path.insert(0, work)
    asking = _Asking(is_allowed=program["asks"])
    module: ModuleType | None = None
    while True:
        nonce, message = _receive()
        started = _clock()
        request = wire.decode(message, scale=wire.REQUEST_SCALE)
        os.environ["EVOLVE_TIME_LIMIT_SECONDS"] = str(request["seconds"])
        outbox = asking.open(nonce, order.reply_mb << 20)
        try:
            if "words" in request:
                outbox.send(VALUE, subprocesses.run(request, work, sources, order))
                continue
            if module is None:
                module = _load(work, program["files"][0][0])
                _note_load(_clock() - started)
            _call(module, request, outbox)
        except MemoryError as error:
            error.__traceback__ = None
            outbox.send(OUT_OF_MEMORY, None)
        except BaseException as error:  # noqa: BLE001 - whatever the program raises is its answer
            outbox.send(ERROR, describe(error, work))
        with contextlib.suppress(Exception):
            sys.stdout.flush()


class _Asking:
    """What `from evolve import ask, ask_all` brings a program that may ask a language model."""

    def __init__(self, *, is_allowed: bool) -> None:
        self._outbox: _Outbox | None = None
        self._turn = threading.Lock()
        if is_allowed:
            module = ModuleType("evolve", "Asks the language model of the problem.")
            module.__dict__.update(ask=self.ask, ask_all=self.ask_all)
            sys.modules["evolve"] = module

    def open(self, nonce: bytes, max_bytes: int) -> _Outbox:
        """Returns where the messages of a call go, its questions among them."""
        self._outbox = _Outbox(nonce, max_bytes)
        return self._outbox

    def ask(self, prompt: str, **options: Any) -> str:
        """Returns the model's answer to a prompt."""
        return self.ask_all([prompt], **options)[0]

    def ask_all(self, prompts: Any, **options: Any) -> list[str]:
        """Returns the answers to several prompts, which are asked at the same time."""
        if self._outbox is None:
            raise RuntimeError("ask: a model can be asked from inside of a call only")
        with self._turn:
            self._outbox.send(ASK, {"prompts": list(prompts), "options": options})
            _, body = _receive()
        found = wire.decode(body, scale=wire.REQUEST_SCALE)
        if found["error"]:
            raise RuntimeError(found["error"])
        answers: list[str] = found["answers"]
        return answers


class _Outbox:
    """Sends the messages of one call."""

    def __init__(self, nonce: bytes, max_bytes: int) -> None:
        self._nonce = nonce
        self._max_bytes = max_bytes

    def send(self, kind: bytes, value: Any) -> None:
        body = wire.encode(value, self._max_bytes)
        view = memoryview(MESSAGE.pack(self._nonce, kind, len(body)) + body)
        while view:
            view = view[os.write(_REPLIES, view) :]


def _call(module: ModuleType, request: dict[str, Any], outbox: _Outbox) -> None:
    function = getattr(module, request["function"], None)
    if not callable(function):
        raise _CallError(_missing_function(module, request["function"]))
    if "many" in request:
        outbox.send(VALUE, [_last(function(*row)) for row in unpack_rows(request)])
        return
    value = function(*request["args"], **request["kwargs"])
    if not isinstance(value, GeneratorType):
        outbox.send(VALUE, value)
        return
    is_empty = True
    for part in value:
        outbox.send(YIELDED, part)
        is_empty = False
    if is_empty:
        raise _CallError(f"the generator `{request['function']}` yielded nothing")
    outbox.send(LAST_COUNTS, None)


def _last(value: Any) -> Any:
    if isinstance(value, GeneratorType):
        last = None
        for last in value:  # noqa: B007 - only the last one counts
            pass
        return last
    return value


def _load(work: str, path: str) -> ModuleType:
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
    return module


def _note_load(seconds: float) -> None:
    # Read only where no answer comes; the program may have closed or filled the pipe.
    with contextlib.suppress(OSError):
        os.write(NOTES, b"loaded %.6f\n" % seconds)


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
        subprocesses.write_file(work, path, text)
    for path, built, is_executable in program["built"]:
        subprocesses.write_file(work, path, built, mode=0o700 if is_executable else 0o600)
    return sources


def _receive() -> tuple[bytes, bytearray]:
    nonce, _, size = MESSAGE.unpack(_read_exactly(MESSAGE.size))
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
