"""Values as bytes: JSON for structure, raw buffers for numbers; never a pickle.

What may be sent: None, bool, int, float, complex, str, bytes, list, tuple, dict, NumPy arrays of
numbers, and NumPy scalars, which arrive as plain Python numbers. Tuples arrive as tuples, and
non-finite floats as themselves, by a tag. The decoder trusts nothing: sizes are checked before
they are believed, every buffer is used once and in order, and its only exception is `FrameError`.
"""

from __future__ import annotations

from .decoder import decode
from .encoder import encode
from .values import MAX_DEPTH, MAX_NODES, REQUEST_SCALE, FrameError

__all__ = ["MAX_DEPTH", "MAX_NODES", "REQUEST_SCALE", "FrameError", "decode", "encode"]
