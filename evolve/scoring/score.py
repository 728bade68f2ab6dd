"""The verdict of an evaluator, its pictures, and strict checks of what a program returned."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from evolve.records.attempts import MOST_BYTES, VALIDATION, as_address, as_text, find_kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int | None, ...]

# Whether messages on what a program returned may quote it: what it returns may be its input.
quotes_values: ContextVar[bool] = ContextVar("quotes_values", default=True)


class Infeasible(Exception):  # noqa: N818 - a verdict on the program, not an error
    """The program returned something that does not count; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture of an answer, for people and for models that see.

    Attributes:
        data: A whole PNG, JPEG, GIF or WebP file, of at most 1 MB.

    Raises:
        TypeError: It is something else than bytes.
        ValueError: It is another kind of file, or too large.
    """

    data: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.data, bytes):
            raise TypeError(f"Image: expected bytes, got {self.data!r:.80}")
        if not find_kind(self.data):
            raise ValueError(f"Image: expected PNG, JPEG, GIF or WebP, got {self.data[:8]!r}")
        if len(self.data) > MOST_BYTES:
            raise ValueError(f"Image: expected at most {MOST_BYTES} bytes, got {len(self.data)}")
        if not _is_whole(self.data):
            raise ValueError(f"Image: expected a whole file, got a part: {len(self.data)} bytes")

    @classmethod
    def from_pixels(cls, rows: Any) -> Image:
        """Makes a PNG.

        Args:
            rows: Rows of pixels from the top, all of one length: numbers from 0, black, to 255,
                white, or triples of them for red, green and blue; lists or a NumPy array.

        Raises:
            ValueError: Rows are missing, or of different lengths or values.
        """
        rows = rows.tolist() if hasattr(rows, "tolist") else rows
        if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
            raise ValueError("Image: expected rows of one length, at least one pixel long")
        coloured = isinstance(rows[0][0], Sequence)
        if coloured and any(len(pixel) != 3 for row in rows for pixel in row):
            raise ValueError("Image: expected numbers or triples of red, green and blue as pixels")
        lines = [bytes([0, *(_flatten(row) if coloured else row)]) for row in rows]
        header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2 if coloured else 0, 0, 0, 0)
        parts = (b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines), 9)), (b"IEND", b"")
        return cls(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts))

    @property
    def address(self) -> str:
        """Returns the `data:` address by which a verdict holds it."""
        return as_address(find_kind(self.data), self.data)


def _is_whole(data: bytes) -> bool:
    """Returns whether a picture has the end that its kind asks for."""
    ends = {
        "png": data.endswith(b"IEND\xaeB`\x82"),
        "jpeg": b"\xff\xd9" in data[-1024:],
        "gif": data.endswith(b";"),
        "webp": len(data) >= 8 + int.from_bytes(data[4:8], "little"),
    }
    return ends[find_kind(data)]


@dataclass(frozen=True, slots=True)
class Score:
    """The verdict on a program that counts.

    Attributes:
        objective: The optimised number in the problem's own units, finite.
        metrics: Other finite numbers, shown and never selected on.
        measures: Coordinates in measure space; at least those that `problem.toml` expects.
        artifacts: Texts and pictures for people and for the next prompt.
        instances: Objectives of the instances that the objective is the mean of, by name. A
            champion is then replaced only by a program that is better beyond their noise.
        validation: The same for instances that the objective leaves out. Only the champion is
            selected by them.

    Raises:
        TypeError: A number is not a real number (booleans are not), or a text is not a text.
        ValueError: A number is not finite, or the objective is among the measures.
    """

    objective: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, str | Image] = field(default_factory=dict)
    instances: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "objective" in self.measures:
            raise ValueError(
                "Score: expected measures that differ from the objective, got a measure called "
                "`objective`; measures say how programs differ, not how good they are"
            )
        for place in ("metrics", "measures", "instances", "validation"):
            found: Mapping[str, float] = getattr(self, place)
            if not isinstance(found, Mapping):
                raise TypeError(f"Score: expected {place} by name, a dict, got {found!r:.80}")
            numbers = {
                _check_text(f"a name in {place}", name): _check_number(f"{place} `{name}`", value)
                for name, value in found.items()
            }
            object.__setattr__(self, place, numbers)
        if any(name.startswith(VALIDATION) for name in self.instances):
            raise ValueError(
                f"Score: expected names of instances that do not begin with {VALIDATION!r}; "
                "`validation` takes those"
            )
        artifacts = {
            _check_text("a name in artifacts", name): item.address
            if isinstance(item, Image)
            else as_text(_check_text(f"artifacts `{name}`", item))
            for name, item in self.artifacts.items()
        }
        object.__setattr__(self, "artifacts", artifacts)
        object.__setattr__(self, "objective", _check_number("objective", self.objective))

    @property
    def texts(self) -> dict[str, str]:
        """Returns the artifacts as verdicts hold them: pictures by their address."""
        return {name: str(text) for name, text in self.artifacts.items()}


def as_floats(
    value: object, shape: Shape, *, where: str, magnitude: float = 1e9
) -> NDArray[np.float64]:
    """Returns a returned value as an array of doubles, once it is checked.

    Lists, tuples and arrays count, of whole numbers and floats only: no booleans, no texts, no
    complex numbers, no objects.

    Args:
        value: What the program returned.
        shape: The expected shape; `None` stands for any length.
        where: Name of the place for messages, such as the called function.
        magnitude: Largest absolute value that counts.

    Returns:
        A new array of shape `shape`.

    Raises:
        Infeasible: Another shape, another type, a number that is not finite or too large; the
            message names the place, as in `pack[3][0]`.
    """
    import numpy as np

    sizes = list(shape)
    if isinstance(value, np.ndarray):
        array = _check_array(value, sizes, where)
    else:
        found: list[float] = []
        _collect(value, sizes, where, found)
        array = np.array(found, dtype=np.float64).reshape([size or 0 for size in sizes])
    sizes_of_numbers = np.abs(array)
    # One pass where all is well, for some evaluators check thousands of small arrays.
    if array.size and not np.maximum.reduce(sizes_of_numbers, axis=None) <= magnitude:
        bad = ~(sizes_of_numbers <= magnitude)
        place = np.unravel_index(int(np.argmax(bad)), array.shape)
        indices = "".join(f"[{index}]" for index in place)
        got = f", got {float(array[place])!r}" if quotes_values.get() else ""
        raise Infeasible(
            f"{where}{indices}: expected a finite number of at most {magnitude:g} in size{got}"
        )
    return array


def _collect(value: object, sizes: list[int | None], where: str, found: list[float]) -> None:
    """Walks through nested lists and keeps their numbers; fills in sizes left open."""
    import numpy as np

    if isinstance(value, np.ndarray):
        found += _check_array(value, sizes, where).ravel().tolist()
    elif not sizes:
        found.append(_check_float(value, where))
    elif type(value) not in {list, tuple}:
        raise Infeasible(f"{where}: expected {_describe(sizes)}, got {_show(value)}")
    else:
        items: Sequence[object] = value  # type: ignore[assignment]
        deeper = sizes[1:]
        if sizes[0] not in {None, len(items)}:
            raise Infeasible(f"{where}: expected {_describe(sizes)}, got {len(items)} entries")
        for index, item in enumerate(items):
            _collect(item, deeper, f"{where}[{index}]", found)
        sizes[:] = [len(items), *deeper]


def _check_array(array: NDArray[Any], sizes: list[int | None], where: str) -> NDArray[np.float64]:
    fits = array.ndim == len(sizes) and all(
        size in {None, length} for size, length in zip(sizes, array.shape, strict=True)
    )
    if not fits:
        raise Infeasible(
            f"{where}: expected {_describe(sizes)}, got an array of shape {array.shape}"
        )
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise Infeasible(f"{where}: expected numbers, got an array of type {array.dtype}")
    sizes[:] = array.shape
    return array.astype("float64")


def _check_float(value: object, where: str) -> float:
    import numpy as np

    # Exact types: a subclass may answer comparisons as it likes.
    if type(value) not in {int, float} and not isinstance(value, np.floating | np.integer):
        raise Infeasible(f"{where}: expected a number, got {_show(value)}")
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError as error:
        raise Infeasible(f"{where}: expected a number that fits a double, got more") from error


def _describe(sizes: Sequence[int | None]) -> str:
    if not sizes:
        return "a number"
    return " by ".join("any number" if size is None else str(size) for size in sizes) + " numbers"


def _show(value: object) -> str:
    kind = type(value).__name__
    is_short = isinstance(value, int | float | str | None) and quotes_values.get()
    return f"{kind} {value!r:.60}" if is_short else f"a {kind}"


def _check_number(where: str, value: object) -> float:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        # An array without axes, of NumPy, JAX or PyTorch.
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Score: {where}: expected a number, got {value!r:.200}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(
            f"Score: {where}: expected a finite number, got {number}; raise `Infeasible` for "
            "programs that do not count"
        )
    return number


def _check_text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"Score: {where}: expected a text, got {value!r:.200}")
    return value


def _flatten(row: Sequence[Sequence[int]]) -> list[int]:
    return [value for pixel in row for value in pixel]


def _chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)
