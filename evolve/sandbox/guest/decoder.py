"""Bytes that anybody may have written to values."""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from itertools import accumulate
from typing import Any

from .values import (
    COUNTS,
    DTYPES,
    JOINED_BYTES,
    MAX_DEPTH,
    MAX_DIMENSIONS,
    MAX_JSON_BYTES,
    MAX_NODES,
    PACKED_CODES,
    SIZE,
    TAG,
    Buffer,
    FrameError,
    check_int,
    check_text,
)

_MAX_SAME_HASH = 16
# The shortest tag that takes a buffer: `{"!":"ints"}`.
_TAG_BYTES = 12
_SPECIAL_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def decode(message: Buffer, *, scale: int = 1) -> Any:
    """Reads a value.

    Args:
        message: What came over the wire.
        scale: Multiplies the limits on plain data.

    Raises:
        FrameError: The bytes are not the encoding of a value.
    """
    text, buffers = _split(memoryview(message), scale)
    try:
        tree = json.loads(str(text, "utf-8"), parse_constant=_refuse_constant)
        value = _Decoder(buffers, MAX_NODES * scale).convert(tree, 0)
    except RecursionError:
        raise FrameError("the structure is nested too deeply") from None
    except (ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, FrameError):
            raise
        raise FrameError(f"not a value: {str(error)[:200]}") from None
    if buffers:
        raise FrameError(f"{len(buffers)} buffers belong to nothing")
    return value


def _split(message: memoryview, scale: int) -> tuple[memoryview, list[memoryview]]:
    if len(message) < COUNTS.size:
        raise FrameError("the message has no head")
    text_size, count = COUNTS.unpack_from(message)
    position = COUNTS.size + count * SIZE.size
    if text_size > MAX_JSON_BYTES * scale or position > len(message):
        raise FrameError("the head announces more than there is")
    # Each has a tag in the text, and none is made before that is sure: millions of empty ones
    # would fill the memory.
    if count > min(MAX_NODES * scale, text_size // _TAG_BYTES):
        raise FrameError(f"{count} buffers are more than the data can have")
    sizes = [SIZE.unpack_from(message, COUNTS.size + i * SIZE.size)[0] for i in range(count)]
    if position + text_size + sum(sizes) != len(message):
        raise FrameError("the sizes do not add up")
    text = message[position : position + text_size]
    position += text_size
    buffers = []
    for size in sizes:
        buffers.append(message[position : position + size])
        position += size
    buffers.reverse()
    return text, buffers


class _Decoder:
    """Turns a tree from JSON back into the value.

    Args:
        buffers: Raw bytes, the first one last; each is used once.
        max_nodes: How many parts the value may have.
    """

    def __init__(self, buffers: list[memoryview], max_nodes: int) -> None:
        self._max_nodes = max_nodes
        self._buffers = buffers
        self._nodes = 0

    def convert(self, tree: Any, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > self._max_nodes:
            raise FrameError("the structure is nested too deeply or has too many parts")
        kind = type(tree)
        if kind is list:
            return [self.convert(part, depth + 1) for part in tree]
        if kind is str:
            return check_text(tree)
        if kind is int:
            return check_int(tree)
        if kind is float and not math.isfinite(tree):
            raise FrameError("a number is too large for a float")
        if kind is not dict:
            return tree
        if TAG in tree:
            return self._convert_tagged(tree, depth)
        return {check_text(key): self.convert(part, depth + 1) for key, part in tree.items()}

    def _convert_tagged(self, tree: dict[str, Any], depth: int) -> Any:
        kind, parts = tree[TAG], tree.get("v")
        if type(parts) is list:
            if kind == "tuple":
                return tuple([self.convert(part, depth + 1) for part in parts])
            if kind == "dict":
                return self._convert_pairs(parts, depth)
            if kind == "complex" and len(parts) == 2:
                return self._convert_complex(parts, depth)
        elif kind == "float" and type(parts) is str and parts in _SPECIAL_FLOATS:
            return _SPECIAL_FLOATS[parts]
        elif self._buffers and kind == "arrays":
            return self._split_arrays(tree, self._buffers.pop())
        elif self._buffers and type(kind) is str:
            return _read_raw(kind, tree, self._buffers.pop())
        raise FrameError("a tag is unknown or incomplete")

    def _convert_complex(self, parts: list[Any], depth: int) -> complex:
        real, imaginary = (self.convert(part, depth + 1) for part in parts)
        if type(real) is not float or type(imaginary) is not float:
            raise FrameError("a complex number has parts that are no floats")
        return complex(real, imaginary)

    def _split_arrays(self, tree: dict[str, Any], buffer: memoryview) -> list[Any]:
        sizes = tree.get("sizes")
        if type(sizes) is not list:
            raise FrameError("joined arrays have no sizes")
        self._nodes += len(sizes)
        if self._nodes > self._max_nodes:
            raise FrameError("the structure has too many parts")
        if any(type(size) is not int or size < 0 for size in sizes):
            raise FrameError("joined arrays have a size that is no size")
        if len(buffer) > JOINED_BYTES:
            raise FrameError("joined arrays are too large")
        joined = _read_array({**tree, "shape": [sum(sizes)]}, buffer)
        ends = list(accumulate(sizes))
        # Each has memory of its own: a program may write to one.
        return [joined[end - size : end].copy() for end, size in zip(ends, sizes, strict=True)]

    def _convert_pairs(self, pairs: list[Any], depth: int) -> dict[Any, Any]:
        items = []
        for pair in pairs:
            if type(pair) is not list or len(pair) != 2:
                raise FrameError("an entry of a dict is no pair")
            key = self.convert(pair[0], depth + 1)
            _check_key(key)
            items.append((key, self.convert(pair[1], depth + 1)))
        # Keys chosen to collide would make the dict below quadratic.
        same = Counter(hash(key) for key, _ in items)
        if same and max(same.values()) > _MAX_SAME_HASH:
            raise FrameError("the keys of a dict collide")
        return dict(items)


def _check_key(key: Any) -> None:
    if type(key) is tuple:
        for part in key:
            _check_key(part)
    elif key is not None and type(key) not in {bool, int, float, str, bytes}:
        raise FrameError("a key of a dict is not hashable plain data")


def _read_raw(kind: str, tree: dict[str, Any], buffer: memoryview) -> Any:
    if kind == "bytes":
        return bytes(buffer)
    if kind == "array":
        return _read_array(tree, buffer)
    if kind in PACKED_CODES:
        numbers = array(PACKED_CODES[kind])
        numbers.frombytes(buffer)
        return numbers.tolist()
    raise FrameError("a tag is unknown or incomplete")


def _read_array(tree: dict[str, Any], buffer: memoryview) -> Any:
    import numpy as np

    name, shape = tree.get("dtype"), tree.get("shape")
    if type(name) is not str or name not in DTYPES:
        raise FrameError("an array has a dtype that is no number's")
    if type(shape) is not list or len(shape) > MAX_DIMENSIONS:
        raise FrameError("an array has no shape")
    if any(type(size) is not int or not 0 <= size < 1 << 31 for size in shape):
        raise FrameError("an array has a shape that is no shape")
    dtype = np.dtype(name)
    if math.prod(shape) * dtype.itemsize != len(buffer):
        raise FrameError("an array's shape and its bytes differ in size")
    result = np.frombuffer(buffer, dtype=dtype).reshape(shape).copy()
    if dtype.kind == "b" and result.size and int(result.view(np.uint8).max()) > 1:
        raise FrameError("an array of booleans holds something else")
    return result


def _refuse_constant(name: str) -> Any:
    raise FrameError(f"`{name}` stands untagged in the data")
