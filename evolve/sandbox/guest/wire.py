"""What passes between host, relay and program: frames, and values as bytes; never a pickle.

A frame is a kind, a length, a payload of at most `CHUNK` bytes from the host. It sends `START` (the
`ProgramLimits` of a new child), `DATA` (bytes for it) and `KILL` (with a payload: its stack is
wanted). The relay sends `READY` or `FAILED` once, then `DATA` (bytes of the child, opaque) and
`EXITED`. A child never reaches this stream: the relay is between.

A value is a tag, then what it announces. What may be sent: None, bool, int, float, complex, str,
bytes, list, tuple, dict, NumPy arrays of numbers, and NumPy scalars, which arrive as plain Python
numbers. The decoder trusts nothing: depth, counts and sizes are bounded by what is there before
anything is made of them, and its only exception is `FrameError`.
"""

from __future__ import annotations

import math
import signal
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_HEADER = struct.Struct("<cI")
CHUNK = 1 << 16
MAX_CONTROL_BYTES = 4 << 20

# A guest that a signal ended exits with this and its number, as in a shell.
SIGNALLED = 128
# What others send to end a process; a fault of its own has other numbers.
KILLS = {signal.SIGKILL, signal.SIGTERM}

START, DATA, KILL = b"S", b"D", b"K"
READY, FAILED, EXITED = b"R", b"F", b"X"

# Inside `DATA`, between host and child: the call's nonce, a kind, the length of a value.
MESSAGE = struct.Struct("<8scQ")
NO_NONCE = bytes(8)

# The child is ready; it is called; it answers, once or again and again until the last one counts;
# it asks a language model, which is answered by the next message to it; it fails.
CONFINED, CALL, ASK = b"C", b"Q", b"A"
VALUE, YIELDED, LAST_COUNTS = b"V", b"Y", b"L"
ERROR, OUT_OF_MEMORY = b"E", b"M"


def pack_frame(kind: bytes, body: bytes | memoryview) -> bytes:
    """Returns a frame as bytes."""
    return _HEADER.pack(kind, len(body)) + body


def pack_message(nonce: bytes, kind: bytes, body: bytes) -> bytes:
    """Returns a message between host and child as bytes."""
    return MESSAGE.pack(nonce, kind, len(body)) + body


def take_frame(received: bytearray) -> tuple[bytes, bytes] | None:
    """Takes the first frame, a kind and its payload, off what was received; None if it lacks some.

    Raises:
        FrameError: It announces more than a frame has.
    """
    if len(received) < _HEADER.size:
        return None
    kind, size = _HEADER.unpack_from(received)
    if size > MAX_CONTROL_BYTES:
        raise FrameError("a frame is too long")
    end = _HEADER.size + size
    if len(received) < end:
        return None
    body = bytes(memoryview(received)[_HEADER.size : end])
    del received[:end]
    return kind, body


class ProgramLimits(NamedTuple):
    """What one program may use.

    Attributes:
        seconds: Wall-clock time of one call, and of importing the program, together.
        memory_mb: Memory of the whole process tree, beyond the warm guest's own.
        processes: Processes and threads at a time.
        workspace_mb: Files in the workspace and the temporary folders together.
        reply_mb: Size of one returned value.
        output_kb: How much standard output and error is kept.
        gpus: GPUs that evaluators ask a cluster for; their sandbox shows those alone.
        core: The only core that its processes may use; None for any.
        is_alone: Whether its first process may start no other; for programs held to a core.
        reserves: Whether it may reserve more addresses than memory, as virtual machines of
            languages do; the memory that it uses is bounded all the same.
        asks: Whether it may ask a language model.
    """

    # No dataclass: that module takes a cold guest longer to import than all of this package.
    seconds: float = 10.0
    memory_mb: int = 1024
    processes: int = 32
    workspace_mb: int = 64
    reply_mb: int = 64
    output_kb: int = 16
    gpus: int = 0
    core: int | None = None
    is_alone: bool = False
    reserves: bool = False
    asks: bool = False

    @property
    def inodes(self) -> int:
        """Returns how many files and folders there may be."""
        return 1024 + 256 * self.workspace_mb


def pack_rows(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Returns the part of a request that holds a list of arguments for each call, by columns.

    What is alike travels cheaper.
    """
    lengths = set(map(len, rows))
    if len(lengths) == 1 and 0 not in lengths:
        return {"columns": [list(column) for column in zip(*rows, strict=True)]}
    return {"rows": [list(row) for row in rows]}


def unpack_rows(request: dict[str, Any]) -> Iterable[Sequence[Any]]:
    """Returns the arguments of each call."""
    return zip(*request["columns"], strict=True) if "columns" in request else request["rows"]


class Printed:
    """The beginning and the end of a stream.

    Args:
        most: How many bytes are kept of it.
    """

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._kept = bytearray()
        self._cut = 0

    def add(self, data: bytes) -> None:
        """Takes what comes next."""
        self._kept += data
        beyond = len(self._kept) - 2 * self._half
        if beyond > 0:
            self._cut += beyond
            del self._kept[self._half : self._half + beyond]

    def text(self) -> bytes:
        """Returns both, with a line between them that counts what was cut."""
        cut = b"\n[... %d bytes cut ...]\n" % self._cut if self._cut else b""
        return bytes(self._kept[: self._half] + cut + self._kept[self._half :])


MAX_BYTES = 1 << 20
MAX_DEPTH = 100
MAX_NODES = 300_000
# How many more parts requests may have than replies, which nobody can vouch for.
REQUEST_SCALE = 32
_MAX_INT_DIGITS = 4000
_MAX_INT = 10**_MAX_INT_DIGITS
_MAX_INT_BYTES = _MAX_INT.bit_length() // 8 + 1
_MAX_DIMENSIONS = 32
_MAX_SAME_HASH = 16
_DTYPES = (
    *("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"),
    *("<f2", "<f4", "<f8", "<c8", "<c16"),
)
# Plain numbers for those of NumPy, by kind; those of time are numbers there.
_SCALARS: dict[str, Any] = {"f": float, "c": complex, "b": bool, **dict.fromkeys("ium", int)}
_ADVICE = "use NumPy arrays, or flat lists, for many numbers"
_COUNT, _INT, _FLOAT, _COMPLEX = (struct.Struct(code) for code in ("<I", "<q", "<d", "<dd"))
_HEAD = struct.Struct("<BI")
_ARRAY = struct.Struct("<BB")
_NONE, _TRUE, _FALSE, _SMALL, _BIG, _REAL, _PAIR, _TEXT, _BYTES = b"NTFiIfcsb"
_LIST, _TUPLE, _DICT, _FLOATS, _INTS, _NUMBERS = b"ltdDQa"
_CONSTANTS = {_NONE: None, _TRUE: True, _FALSE: False}
_FIXED = {_SMALL: _INT, _REAL: _FLOAT, _PAIR: _COMPLEX}
_PACKED = {_FLOATS: "d", _INTS: "q"}


class FrameError(ValueError):
    """A value that cannot be sent, or bytes that are no value."""


def encode(value: Any, max_bytes: int = MAX_BYTES, *, scale: int = 1) -> bytes:
    """Writes a value as bytes.

    Args:
        value: Plain data and NumPy arrays.
        max_bytes: The most that the result may take.
        scale: Multiplies the limit on parts.

    Raises:
        FrameError: The value has a part of another type, is too deep or too large.
    """
    encoder = _Encoder(MAX_NODES * scale)
    try:
        encoder.put(value, 0)
    except RecursionError:
        raise FrameError(f"expected at most {MAX_DEPTH} levels of nesting, got more") from None
    total = sum(map(len, encoder.parts))
    if total > max_bytes:
        raise FrameError(f"expected at most {max_bytes} bytes (limit: reply_mb), got {total}")
    return b"".join(encoder.parts)


class _Encoder:
    """Writes values one after another to `parts`."""

    def __init__(self, max_nodes: int) -> None:
        self.parts: list[bytes] = []
        self._max_nodes = self._left = max_nodes

    def put(self, value: Any, depth: int) -> None:
        self._left -= 1
        if depth > MAX_DEPTH:
            raise FrameError(f"expected at most {MAX_DEPTH} levels of nesting, got more")
        if self._left < 0:
            raise FrameError(f"expected at most {self._max_nodes} parts, got more; {_ADVICE}")
        if value is None or value is True or value is False:
            self._put(_NONE if value is None else _TRUE if value else _FALSE)
        elif isinstance(value, float):
            self._put(_REAL, _FLOAT.pack(value))
        elif isinstance(value, int):
            self._put_int(int(value))
        elif isinstance(value, str):
            self._put_text(str(value))
        elif isinstance(value, (list, tuple)):
            self._put_row(value, depth)
        elif isinstance(value, dict):
            self.parts.append(_HEAD.pack(_DICT, len(value)))
            for key, part in value.items():
                self.put(key, depth + 1)
                self.put(part, depth + 1)
        else:
            self._put_other(value, depth)

    def _put(self, tag: int, body: bytes = b"") -> None:
        self.parts.append(b"%c%b" % (tag, body))

    def _put_sized(self, tag: int, body: bytes) -> None:
        self.parts += (_HEAD.pack(tag, len(body)), body)

    def _put_text(self, text: str) -> None:
        try:
            self._put_sized(_TEXT, text.encode())
        except UnicodeEncodeError:
            raise FrameError("expected text, got lone surrogates") from None

    def _put_int(self, number: int) -> None:
        if -1 << 63 <= number < 1 << 63:
            self._put(_SMALL, _INT.pack(number))
        elif -_MAX_INT < number < _MAX_INT:
            size = number.bit_length() // 8 + 1
            self._put_sized(_BIG, number.to_bytes(size, "little", signed=True))
        else:
            raise FrameError(
                f"expected integers of at most {_MAX_INT_DIGITS} digits, got a longer one"
            )

    def _put_row(self, value: list[Any] | tuple[Any, ...], depth: int) -> None:
        kinds = set(map(type, value)) if isinstance(value, list) else ()
        tag = _FLOATS if kinds == {float} else _INTS if kinds == {int} else 0
        if tag:
            try:
                body = array(_PACKED[tag], value).tobytes()
            except OverflowError:
                pass
            else:
                self.parts += (_HEAD.pack(tag, len(value)), body)
                return
        self.parts.append(_HEAD.pack(_LIST if isinstance(value, list) else _TUPLE, len(value)))
        for part in value:
            self.put(part, depth + 1)

    def _put_other(self, value: Any, depth: int) -> None:
        numpy = sys.modules.get("numpy")
        if isinstance(value, complex):
            self._put(_PAIR, _COMPLEX.pack(value.real, value.imag))
        elif isinstance(value, (bytes, bytearray)):
            self._put_sized(_BYTES, bytes(value))
        elif numpy is not None and isinstance(value, numpy.ndarray):
            self._put_array(numpy, value)
        elif numpy is not None and isinstance(value, (numpy.number, numpy.bool_)):
            self.put(_SCALARS[value.dtype.kind](value), depth)
        else:
            name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise FrameError(
                "expected plain data (numbers, texts, lists, tuples, dicts, NumPy arrays), "
                f"got a `{name}`"
            )

    def _put_array(self, numpy: Any, value: Any) -> None:
        plain = numpy.asarray(value)
        wide = {"f": "<f8", "c": "<c16"}.get(plain.dtype.kind)
        dtype = plain.dtype.newbyteorder("<")
        if dtype.str not in _DTYPES and wide is not None:
            dtype = numpy.dtype(wide)
        if dtype.str not in _DTYPES or plain.ndim > _MAX_DIMENSIONS:
            raise FrameError(f"expected an array of numbers, got dtype `{plain.dtype}`")
        self._put(_NUMBERS, _ARRAY.pack(_DTYPES.index(dtype.str), plain.ndim))
        self.parts.append(struct.pack(f"<{plain.ndim}I", *plain.shape))
        self.parts.append(plain.astype(dtype, copy=False).tobytes())


def decode(message: bytes | bytearray, *, scale: int = 1) -> Any:
    """Reads a value from bytes that anybody may have written.

    Args:
        message: What came over the wire.
        scale: Multiplies the limit on parts.

    Raises:
        FrameError: The bytes are not the encoding of a value.
    """
    decoder = _Decoder(memoryview(message), MAX_NODES * scale)
    try:
        value = decoder.read(0)
    except (RecursionError, MemoryError):
        raise FrameError("the value is too deep or too large") from None
    if decoder.left:
        raise FrameError(f"{decoder.left} bytes belong to nothing")
    return value


class _Decoder:
    """Reads values one after another; nothing is made before its size is known to be there."""

    def __init__(self, data: memoryview, max_nodes: int) -> None:
        self._data = data
        self._position = 0
        self._nodes = max_nodes

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def read(self, depth: int) -> Any:
        self._nodes -= 1
        if depth > MAX_DEPTH or self._nodes < 0:
            raise FrameError("the value is too deep or has too many parts")
        try:
            tag = self._data[self._position]
            self._position += 1
            if tag in _CONSTANTS:
                return _CONSTANTS[tag]
            if tag in _FIXED:
                body = _FIXED[tag].unpack_from(self._data, self._position)
                self._position += _FIXED[tag].size
                return complex(*body) if tag == _PAIR else body[0]
            if tag == _NUMBERS:
                return self._read_array()
            count = _COUNT.unpack_from(self._data, self._position)[0]
        except (IndexError, struct.error):
            raise FrameError("more is announced than there is") from None
        self._position += _COUNT.size
        return self._read_sized(tag, count, depth)

    def _read_sized(self, tag: int, count: int, depth: int) -> Any:
        if tag == _TEXT:
            return self._read_text(count)
        if tag in {_LIST, _TUPLE}:
            if count > min(self.left, self._nodes):
                raise FrameError("a list has more parts than there are")
            parts = [self.read(depth + 1) for _ in range(count)]
            return parts if tag == _LIST else tuple(parts)
        if tag == _DICT:
            return self._read_dict(count, depth)
        if tag == _BYTES:
            return bytes(self._take(count))
        if tag in _PACKED:
            numbers = array(_PACKED[tag])
            numbers.frombytes(self._take(8 * count))
            return numbers.tolist()
        if tag == _BIG and count <= _MAX_INT_BYTES:
            return int.from_bytes(self._take(count), "little", signed=True)
        raise FrameError("a tag is unknown, or an integer too long")

    def _take(self, size: int) -> memoryview:
        end = self._position + size
        if end > len(self._data):
            raise FrameError("more is announced than there is")
        part = self._data[self._position : end]
        self._position = end
        return part

    def _read_text(self, size: int) -> str:
        try:
            return str(self._take(size), "utf-8")
        except UnicodeDecodeError:
            raise FrameError("a text is not UTF-8") from None

    def _read_dict(self, count: int, depth: int) -> dict[Any, Any]:
        if 2 * count > min(self.left, self._nodes):
            raise FrameError("a dict has more parts than there are")
        items = []
        for _ in range(count):
            key = self.read(depth + 1)
            if type(key) is not str:
                _check_key(key)
            items.append((key, self.read(depth + 1)))
        # Keys chosen to collide would make the dict below quadratic.
        hashes = Counter(hash(key) for key, _ in items if count > _MAX_SAME_HASH)
        if max(hashes.values(), default=0) > _MAX_SAME_HASH:
            raise FrameError("the keys of a dict collide")
        return dict(items)

    def _read_array(self) -> Any:
        import numpy as np

        number, dimensions = _ARRAY.unpack(self._take(2))
        if number >= len(_DTYPES) or dimensions > _MAX_DIMENSIONS:
            raise FrameError("an array has a dtype that is no number's, or too many dimensions")
        shape = struct.unpack(f"<{dimensions}I", self._take(4 * dimensions))
        dtype = np.dtype(_DTYPES[number])
        # Of those without elements NumPy bounds the other dimensions all the same.
        if math.prod(size or 1 for size in shape) * dtype.itemsize > sys.maxsize:
            raise FrameError("an array has a shape that is no shape")
        body = self._take(math.prod(shape) * dtype.itemsize)
        result = np.frombuffer(body, dtype).reshape(shape).copy()
        if dtype.kind == "b" and result.size and int(result.view(np.uint8).max()) > 1:
            raise FrameError("an array of booleans holds something else")
        return result


def _check_key(key: Any) -> None:
    if type(key) is tuple:
        for part in key:
            _check_key(part)
    elif key is not None and type(key) not in {bool, int, float, str, bytes}:
        raise FrameError("a key of a dict is not hashable plain data")
