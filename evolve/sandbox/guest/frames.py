"""Values as bytes: JSON for structure, raw buffers for arrays; never a pickle.

What may be sent: None, bool, int, float, complex, str, bytes, list, tuple, dict, NumPy arrays of
numbers, and NumPy scalars, which arrive as plain Python numbers. Tuples arrive as tuples, and
non-finite floats as themselves, by a tag. The decoder trusts nothing: sizes are checked before
they are believed, every buffer is used once and in order, and its only exception is `FrameError`.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections import Counter
from typing import Any

MAX_DEPTH = 100
MAX_JSON_BYTES = 16 << 20
MAX_INT_DIGITS = 4000
_MAX_DIMENSIONS = 32
_MAX_SAME_HASH = 16
_TAG = "!"
_COUNTS = struct.Struct("<II")
_SIZE = struct.Struct("<Q")
_DTYPES = frozenset(
    {"|b1", "|i1", "|u1"} | {f"<{kind}{size}" for kind in "iu" for size in (2, 4, 8)}
) | {"<f2", "<f4", "<f8", "<c8", "<c16"}
_SPECIAL_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_MAX_INT = 10**MAX_INT_DIGITS

Buffer = bytes | bytearray | memoryview


class FrameError(ValueError):
    """A value that cannot be sent, or bytes that are no value."""


def encode(value: Any, max_bytes: int) -> bytes:
    """Writes a value as bytes.

    Args:
        value: Plain data and NumPy arrays.
        max_bytes: The most that the result may take.

    Raises:
        FrameError: The value has a part of another type, is too deep or too large.
    """
    buffers: list[Buffer] = []
    try:
        tree = _to_tree(value, buffers, 0)
        text = json.dumps(tree, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError:
        raise FrameError(f"expected at most {MAX_DEPTH} levels of nesting, got more") from None
    if len(text) > MAX_JSON_BYTES:
        raise FrameError(
            f"expected at most {MAX_JSON_BYTES >> 20} MB of plain data, got {len(text) >> 20} MB; "
            "use NumPy arrays for many numbers"
        )
    sizes = b"".join(_SIZE.pack(len(buffer)) for buffer in buffers)
    total = _COUNTS.size + len(sizes) + len(text) + sum(map(len, buffers))
    if total > max_bytes:
        raise FrameError(f"expected at most {max_bytes} bytes, got {total}")
    return b"".join((_COUNTS.pack(len(text), len(buffers)), sizes, text, *buffers))


def decode(message: Buffer) -> Any:
    """Reads a value from bytes that anybody may have written.

    Raises:
        FrameError: The bytes are not the encoding of a value.
    """
    text, buffers = _split(memoryview(message))
    try:
        tree = json.loads(str(text, "utf-8"), parse_constant=_refuse_constant)
        value = _from_tree(tree, buffers, 0)
    except RecursionError:
        raise FrameError("the structure is nested too deeply") from None
    except (ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, FrameError):
            raise
        raise FrameError(f"not a value: {str(error)[:200]}") from None
    if buffers:
        raise FrameError(f"{len(buffers)} buffers belong to no array")
    return value


def _split(message: memoryview) -> tuple[memoryview, list[memoryview]]:
    if len(message) < _COUNTS.size:
        raise FrameError("the message has no head")
    text_size, count = _COUNTS.unpack_from(message)
    position = _COUNTS.size + count * _SIZE.size
    if text_size > MAX_JSON_BYTES or position > len(message):
        raise FrameError("the head announces more than there is")
    sizes = [_SIZE.unpack_from(message, _COUNTS.size + i * _SIZE.size)[0] for i in range(count)]
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


def _to_tree(value: Any, buffers: list[Buffer], depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if depth > MAX_DEPTH:
        raise FrameError(f"expected at most {MAX_DEPTH} levels of nesting, got more")
    if isinstance(value, str):
        return _checked_text(str(value))
    if isinstance(value, int):
        return _checked_int(int(value))
    if isinstance(value, float):
        return _tagged_float(float(value))
    if isinstance(value, (list, tuple, dict)):
        return _container_to_tree(value, buffers, depth)
    if isinstance(value, complex):
        return {_TAG: "complex", "v": [_tagged_float(value.real), _tagged_float(value.imag)]}
    if isinstance(value, (bytes, bytearray)):
        buffers.append(bytes(value))
        return {_TAG: "bytes"}
    return _foreign_to_tree(value, buffers, depth)


def _container_to_tree(value: Any, buffers: list[Buffer], depth: int) -> Any:
    if isinstance(value, dict):
        return _dict_to_tree(value, buffers, depth)
    parts = [_to_tree(part, buffers, depth + 1) for part in value]
    return parts if isinstance(value, list) else {_TAG: "tuple", "v": parts}


def _dict_to_tree(value: dict[Any, Any], buffers: list[Buffer], depth: int) -> Any:
    if _TAG not in value and all(type(key) is str for key in value):
        return {
            _checked_text(key): _to_tree(part, buffers, depth + 1) for key, part in value.items()
        }
    pairs = [
        [_to_tree(key, buffers, depth + 1), _to_tree(part, buffers, depth + 1)]
        for key, part in value.items()
    ]
    return {_TAG: "dict", "v": pairs}


def _foreign_to_tree(value: Any, buffers: list[Buffer], depth: int) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        if isinstance(value, numpy.floating):
            return _tagged_float(float(value))
        plain = complex(value) if isinstance(value, numpy.complexfloating) else value.item()
        if isinstance(plain, (bool, int, complex)):
            return _to_tree(plain, buffers, depth)
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _array_to_tree(numpy, value, buffers)
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    raise FrameError(
        f"expected plain data (numbers, texts, lists, tuples, dicts, NumPy arrays), got a `{name}`"
    )


def _array_to_tree(numpy: Any, value: Any, buffers: list[Buffer]) -> Any:
    array = numpy.asarray(value)
    if array.dtype.kind not in "biufc":
        raise FrameError(f"expected an array of numbers, got dtype `{array.dtype}`")
    wide = {"f": "<f8", "c": "<c16"}.get(array.dtype.kind)
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in _DTYPES and wide is not None:
        dtype = numpy.dtype(wide)
    array = numpy.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
    if dtype.str not in _DTYPES or array.ndim > _MAX_DIMENSIONS:
        raise FrameError(f"expected an array of numbers, got dtype `{array.dtype}`")
    buffers.append(array.tobytes())
    return {_TAG: "array", "dtype": dtype.str, "shape": list(array.shape)}


def _checked_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FrameError("expected text, got lone surrogates") from None
    return text


def _checked_int(number: int) -> int:
    if not -_MAX_INT < number < _MAX_INT:
        raise FrameError(f"expected integers of at most {MAX_INT_DIGITS} digits, got a longer one")
    return number


def _tagged_float(number: float) -> Any:
    if math.isfinite(number):
        return number
    return {_TAG: "float", "v": str(number)}


def _from_tree(tree: Any, buffers: list[memoryview], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise FrameError("the structure is nested too deeply")
    kind = type(tree)
    if kind is list:
        return [_from_tree(part, buffers, depth + 1) for part in tree]
    if kind is str:
        return _checked_text(tree)
    if kind is int:
        return _checked_int(tree)
    if kind is float and not math.isfinite(tree):
        raise FrameError("a number is too large for a float")
    if kind is not dict:
        return tree
    if _TAG in tree:
        return _from_tagged(tree, buffers, depth)
    return {_checked_text(key): _from_tree(part, buffers, depth + 1) for key, part in tree.items()}


def _from_tagged(tree: dict[str, Any], buffers: list[memoryview], depth: int) -> Any:
    kind, parts = tree[_TAG], tree.get("v")
    if kind == "tuple" and type(parts) is list:
        return tuple([_from_tree(part, buffers, depth + 1) for part in parts])
    if kind == "float" and type(parts) is str and parts in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[parts]
    if kind == "complex" and type(parts) is list and len(parts) == 2:
        real, imaginary = (_from_tree(part, buffers, depth + 1) for part in parts)
        if type(real) is float and type(imaginary) is float:
            return complex(real, imaginary)
    if kind == "bytes" and buffers:
        return bytes(buffers.pop())
    if kind == "dict" and type(parts) is list:
        return _dict_from_pairs(parts, buffers, depth)
    if kind == "array" and buffers:
        return _array_from(tree, buffers.pop())
    raise FrameError("a tag is unknown or incomplete")


def _dict_from_pairs(pairs: list[Any], buffers: list[memoryview], depth: int) -> dict[Any, Any]:
    items = []
    for pair in pairs:
        if type(pair) is not list or len(pair) != 2:
            raise FrameError("an entry of a dict is no pair")
        key = _from_tree(pair[0], buffers, depth + 1)
        _check_key(key)
        items.append((key, _from_tree(pair[1], buffers, depth + 1)))
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


def _array_from(tree: dict[str, Any], buffer: memoryview) -> Any:
    import numpy as np

    name, shape = tree.get("dtype"), tree.get("shape")
    if type(name) is not str or name not in _DTYPES:
        raise FrameError("an array has a dtype that is no number's")
    if type(shape) is not list or len(shape) > _MAX_DIMENSIONS:
        raise FrameError("an array has no shape")
    if any(type(size) is not int or not 0 <= size < 1 << 31 for size in shape):
        raise FrameError("an array has a shape that is no shape")
    dtype = np.dtype(name)
    if math.prod(shape) * dtype.itemsize != len(buffer):
        raise FrameError("an array's shape and its bytes differ in size")
    array = np.frombuffer(buffer, dtype=dtype).reshape(shape).copy()
    if dtype.kind == "b" and array.size and int(array.view(np.uint8).max()) > 1:
        raise FrameError("an array of booleans holds something else")
    return array


def _refuse_constant(name: str) -> Any:
    raise FrameError(f"`{name}` stands untagged in the data")
