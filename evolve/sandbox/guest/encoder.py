"""Values to bytes."""

from __future__ import annotations

import json
import math
import sys
from array import array
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
    PACKED_LENGTH,
    SIZE,
    TAG,
    FrameError,
    check_int,
    check_text,
)

_ADVICE = "use NumPy arrays, or flat lists, for many numbers"


def encode(value: Any, max_bytes: int, *, scale: int = 1) -> bytes:
    """Writes a value as bytes.

    Args:
        value: Plain data and NumPy arrays.
        max_bytes: The most that the result may take.
        scale: Multiplies the limits on plain data.

    Raises:
        FrameError: The value has a part of another type, is too deep or too large.
    """
    encoder = _Encoder(MAX_NODES * scale)
    try:
        tree = encoder.convert(value, 0)
        text = json.dumps(tree, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError:
        raise FrameError(f"expected at most {MAX_DEPTH} levels of nesting, got more") from None
    if len(text) > MAX_JSON_BYTES * scale:
        raise FrameError(
            f"expected at most {MAX_JSON_BYTES * scale} bytes of plain data, got {len(text)}; "
            f"{_ADVICE}"
        )
    buffers = encoder.buffers
    sizes = b"".join(SIZE.pack(len(buffer)) for buffer in buffers)
    total = COUNTS.size + len(sizes) + len(text) + sum(map(len, buffers))
    if total > max_bytes:
        raise FrameError(f"expected at most {max_bytes} bytes, got {total}")
    return b"".join((COUNTS.pack(len(text), len(buffers)), sizes, text, *buffers))


class _Encoder:
    """Turns a value into a tree for JSON, and sets raw bytes aside."""

    def __init__(self, max_nodes: int) -> None:
        self.buffers: list[bytes] = []
        self._max_nodes = max_nodes
        self._nodes = 0

    def convert(self, value: Any, depth: int) -> Any:
        self._nodes += 1
        if value is None or value is True or value is False:
            return value
        if depth > MAX_DEPTH:
            raise FrameError(f"expected at most {MAX_DEPTH} levels of nesting, got more")
        if self._nodes > self._max_nodes:
            raise FrameError(f"expected at most {self._max_nodes} parts, got more; {_ADVICE}")
        if isinstance(value, str):
            return check_text(str(value))
        if isinstance(value, int):
            return check_int(int(value))
        if isinstance(value, float):
            return _tag_float(float(value))
        if isinstance(value, (list, tuple, dict)):
            return self._convert_container(value, depth)
        return self._convert_other(value)

    def _convert_container(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return self._convert_dict(value, depth)
        if isinstance(value, list) and len(value) > 1:
            long = len(value) >= PACKED_LENGTH
            packed = self._pack_arrays(value) or (self._pack_numbers(value) if long else None)
            if packed is not None:
                return packed
        parts = [self.convert(part, depth + 1) for part in value]
        return parts if isinstance(value, list) else {TAG: "tuple", "v": parts}

    def _pack_numbers(self, value: list[Any]) -> Any:
        kinds = set(map(type, value))
        name = "floats" if kinds == {float} else "ints" if kinds == {int} else None
        if name is None:
            return None
        try:
            self.buffers.append(array(PACKED_CODES[name], value).tobytes())
        except OverflowError:
            return None
        return {TAG: name}

    def _pack_arrays(self, value: list[Any]) -> Any:
        """Joins small flat arrays of one type; else gives None."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(value[0]) is not numpy.ndarray:
            return None
        dtype = value[0].dtype
        is_alike = all(
            type(part) is numpy.ndarray and part.ndim == 1 and part.dtype == dtype for part in value
        )
        if not is_alike or dtype.str not in DTYPES or self._nodes + len(value) > self._max_nodes:
            return None
        # To join large ones would need their memory twice.
        if sum(map(len, value)) * dtype.itemsize > JOINED_BYTES:
            return None
        self._nodes += len(value)
        self.buffers.append(numpy.concatenate(value).tobytes())
        return {TAG: "arrays", "dtype": dtype.str, "sizes": list(map(len, value))}

    def _convert_dict(self, value: dict[Any, Any], depth: int) -> Any:
        if TAG not in value and all(type(key) is str for key in value):
            return {check_text(key): self.convert(part, depth + 1) for key, part in value.items()}
        pairs = [
            [self.convert(key, depth + 1), self.convert(part, depth + 1)]
            for key, part in value.items()
        ]
        return {TAG: "dict", "v": pairs}

    def _convert_other(self, value: Any) -> Any:
        if isinstance(value, complex):
            return {TAG: "complex", "v": [_tag_float(value.real), _tag_float(value.imag)]}
        if isinstance(value, (bytes, bytearray)):
            self.buffers.append(bytes(value))
            return {TAG: "bytes"}
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            return self._convert_array(numpy, value)
        if numpy is not None and isinstance(value, numpy.generic):
            plain = _plain_number(numpy, value)
            if plain is not None:
                return self.convert(plain, 0)
        name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise FrameError(
            "expected plain data (numbers, texts, lists, tuples, dicts, NumPy arrays), "
            f"got a `{name}`"
        )

    def _convert_array(self, numpy: Any, value: Any) -> Any:
        plain = numpy.asarray(value)
        wide = {"f": "<f8", "c": "<c16"}.get(plain.dtype.kind)
        dtype = plain.dtype.newbyteorder("<")
        if dtype.str not in DTYPES and wide is not None:
            dtype = numpy.dtype(wide)
        if dtype.str not in DTYPES or plain.ndim > MAX_DIMENSIONS:
            raise FrameError(f"expected an array of numbers, got dtype `{plain.dtype}`")
        self.buffers.append(plain.astype(dtype, copy=False).tobytes())
        return {TAG: "array", "dtype": dtype.str, "shape": list(plain.shape)}


def _plain_number(numpy: Any, value: Any) -> Any:
    if isinstance(value, numpy.floating):
        return float(value)
    if isinstance(value, numpy.complexfloating):
        return complex(value)
    if isinstance(value, (numpy.integer, numpy.bool_)):
        plain = value.item()
        return plain if isinstance(plain, (int, bool)) else None
    return None


def _tag_float(number: float) -> Any:
    if math.isfinite(number):
        return number
    return {TAG: "float", "v": str(number)}
