"""Scores compressors by the bits that a byte of hidden texts takes."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from evolve.scoring import Infeasible, ProgramHandle, Score

if TYPE_CHECKING:
    from collections.abc import Callable

# Stands here and not in the problem folder, so that no text can be drawn beforehand.
_STREAM = 20_261_125
_MOST_PACKED = 1 << 20
_SYLLABLES = "ba ber cal den dor el en fa gar hin is ka lo mar mi nor o pel qui ra sel ta tin u ver"
_ODD_INPUTS = (
    b"",
    b"\0",
    b"\xff" * 40,
    bytes(range(256)),
    "h\u00e9 \u2603\n".encode() * 9,
)


def evaluate(program: ProgramHandle, *, seed: int, bytes: int) -> Score:  # noqa: A002
    """Scores `compress(data)` and `decompress(packed)`, each in a process of its own."""
    rng = random.Random(_STREAM + seed)  # noqa: S311 - texts, not secrets
    texts = {name: draw(rng, bytes) for name, draw in KINDS.items()}
    odd = [*_ODD_INPUTS, rng.randbytes(200)]
    inputs = [*texts.values(), *odd]
    packed = [
        check_bytes(value, f"compress, input {number}")
        for number, value in enumerate(program.call_many("compress", [(data,) for data in inputs]))
    ]
    # What compressing has left in memory and files is gone.
    program.restart()
    order = rng.sample(range(len(inputs)), len(inputs))
    back = program.call_many("decompress", [(packed[number],) for number in order])
    for number, value in zip(order, back, strict=True):
        found = check_bytes(value, f"decompress, input {number}")
        if found != inputs[number]:
            place = _first_difference(found, inputs[number])
            raise Infeasible(
                f"decompress: input {number} of {len(inputs[number])} bytes came back as "
                f"{len(found)} bytes, different from byte {place} on"
            )
    sizes = dict(zip(texts, map(len, packed), strict=False))
    bits = {name: 8.0 * size / len(texts[name]) for name, size in sizes.items()}
    return Score(
        8.0 * sum(sizes.values()) / sum(map(len, texts.values())),
        metrics={f"{name}_bits": value for name, value in bits.items()},
        measures={"record_share": (bits["records"] + bits["numbers"]) / 2 / bits["prose"]},
        artifacts={
            "bits for a byte": ", ".join(f"{name} {value:.3f}" for name, value in bits.items())
        },
    )


def check_bytes(value: Any, where: str) -> bytes:
    """Returns a returned value back if it is bytes, and not too many.

    Raises:
        Infeasible: It is something else.
    """
    if type(value) is not bytes or len(value) > _MOST_PACKED:
        size = f" of length {len(value)}" if type(value) is bytes else ""
        raise Infeasible(
            f"{where}: expected at most {_MOST_PACKED} bytes, got a {type(value).__name__}{size}"
        )
    return value


def _first_difference(found: bytes, wanted: bytes) -> int:
    pairs = enumerate(zip(found, wanted, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(found), len(wanted)))


def _draw_words(rng: random.Random, count: int) -> list[str]:
    parts = _SYLLABLES.split()
    return ["".join(rng.choices(parts, k=rng.randint(1, 3))) for _ in range(count)]


def _fill(line: Callable[[], str], size: int) -> bytes:
    text = ""
    while len(text) < size:
        text += line()
    return text[:size].encode()


def draw_prose(rng: random.Random, size: int) -> bytes:
    """Draws sentences of words of which few are frequent."""
    words = _draw_words(rng, 300)
    weights = [1.0 / (rank + 2) for rank in range(len(words))]

    def sentence() -> str:
        chosen = rng.choices(words, weights, k=rng.randint(4, 14))
        comma = rng.randrange(len(chosen))
        chosen[comma] += "," if comma + 1 < len(chosen) else ""
        return " ".join(chosen).capitalize() + rng.choice((". ", ". ", ".\n", "? "))

    return _fill(sentence, size)


def draw_records(rng: random.Random, size: int) -> bytes:
    """Draws JSON objects, one a line, with the same keys."""
    words = _draw_words(rng, 40)
    keys = _draw_words(rng, 5)

    def record() -> str:
        values = (rng.randint(1, 9999), rng.choice(words), rng.random() < 0.3)
        tail = (round(rng.gauss(20, 5), 2), rng.choices(words, k=rng.randint(0, 3)))
        return json.dumps(dict(zip(keys, (*values, *tail), strict=True))) + "\n"

    return _fill(record, size)


def draw_numbers(rng: random.Random, size: int) -> bytes:
    """Draws a table of walks."""
    state = [rng.uniform(-50, 50) for _ in range(4)]

    def row() -> str:
        for place in range(len(state)):
            state[place] += rng.gauss(0, 0.3)
        return ",".join(f"{value:.2f}" for value in state) + "\n"

    return _fill(row, size)


def draw_log(rng: random.Random, size: int) -> bytes:
    """Draws lines with a rising time, a level and one of few messages."""
    messages = [" ".join(_draw_words(rng, rng.randint(2, 6))) for _ in range(8)]
    clock = [rng.randrange(80_000)]

    def line() -> str:
        clock[0] += rng.randint(0, 5)
        hours, rest = divmod(clock[0], 3600)
        level = rng.choice(("INFO", "INFO", "INFO", "WARN", "ERROR"))
        stamp = f"{hours:02}:{rest // 60:02}:{rest % 60:02}"
        return (
            f"{stamp} {level} [{rng.randint(1, 6)}] {rng.choice(messages)} {rng.randint(0, 99)}\n"
        )

    return _fill(line, size)


def draw_code(rng: random.Random, size: int) -> bytes:
    """Draws functions of a made-up language."""
    names = _draw_words(rng, 25)

    def function() -> str:
        lines = [f"def {rng.choice(names)}({', '.join(rng.sample(names, 2))}):"]
        for _ in range(rng.randint(2, 5)):
            a, b, c = rng.choices(names, k=3)
            lines.append(
                rng.choice(
                    (
                        f"    {a} = {b} {rng.choice('+-*/')} {c}",
                        f"    if {a} > {rng.randint(0, 20)}:\n        {b} = {c}",
                        f"    for {a} in range({b}):\n        {c}.append({a})",
                    )
                )
            )
        return "\n".join([*lines, f"    return {rng.choice(names)}", "", "", ""])

    return _fill(function, size)


KINDS: dict[str, Callable[[random.Random, int], bytes]] = {
    "prose": draw_prose,
    "records": draw_records,
    "numbers": draw_numbers,
    "log": draw_log,
    "code": draw_code,
}
