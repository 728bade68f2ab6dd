from __future__ import annotations

import bz2
import lzma
import random
import re
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import text_compression
from text_compression import KINDS, check_bytes

from evolve.records import Status
from evolve.scoring import Infeasible
from tests.judge import Judge, open_judge

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    yield from open_judge("text_compression", bytes=600)


def test_the_recorded_baseline_is_what_the_standard_library_gives(judge: Judge) -> None:
    rng = random.Random(text_compression._STREAM)
    texts = [draw(rng, 2500) for draw in KINDS.values()]
    best = [
        min(
            len(zlib.compress(text, 9)),
            len(bz2.compress(text)),
            len(lzma.compress(text, format=lzma.FORMAT_ALONE)),
        )
        for text in texts
    ]
    assert judge.problem.baseline is not None
    # Later versions of the libraries may save a few bytes.
    assert 8 * sum(best) / 12500 == pytest.approx(judge.problem.baseline.value, rel=0.02)


@pytest.mark.parametrize("name", KINDS)
def test_texts_depend_on_the_seed_and_have_their_size(name: str) -> None:
    first, again, other = (KINDS[name](random.Random(seed), 700) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 700
    assert first.isascii()


@pytest.mark.parametrize("value", [None, "text", [1, 2], bytes(2**20 + 1), {}, 3])
def test_only_bytes_count(value: Any) -> None:
    assert check_bytes(b"", "here") == b""
    with pytest.raises(Infeasible, match="here: expected at most 1048576 bytes, got a "):
        check_bytes(value, "here")


def test_the_starting_program_is_right_and_longer_than_the_baseline(judge: Judge) -> None:
    evaluation = judge()
    assert evaluation.status is Status.OK, evaluation
    assert judge.problem.baseline is not None
    assert judge.problem.baseline.value < evaluation.objective < 8.0
    assert set(evaluation.measures) == {axis.name for axis in judge.problem.measures}
    assert judge().metrics == evaluation.metrics


def test_a_change_of_another_file_counts(judge: Judge) -> None:
    changed = judge(("ORDER = 0", "ORDER = 1"), ("RATE = 0.02", "RATE = 0.2"), path="model.py")
    assert changed.objective < judge().objective


@pytest.mark.parametrize(
    ("path", "old", "new", "reason"),
    [
        # The texts are kept in memory, or in a file, and the packed form is a number.
        (
            "main.py",
            "    encoder, model = Encoder(), Model()\n    for byte in data:",
            (
                "    KEPT.append(bytes(data)); open('kept', 'ab').write(data)\n"
                "    return bytes([len(KEPT) - 1])\n"
                "    for byte in data:"
            ),
            "IndexError",
        ),
        ("coder.py", "bytes([(self.low >> 24) + 1])", 'b""', "decompress: input"),
        (
            "model.py",
            "* RATE",
            "* RATE + __import__('os').urandom(1)[0] * 1e-5",
            "decompress: input",
        ),
        ("main.py", "return bytes(data)", "return data.decode('latin-1')", "expected at most"),
    ],
    ids=["kept", "short", "unsteady", "text"],
)
def test_programs_that_cheat_get_no_score(
    judge: Judge, path: str, old: str, new: str, reason: str
) -> None:
    changes = [(old, new)]
    if "KEPT" in new:
        changes += [("LENGTH_BYTES = 4", "LENGTH_BYTES = 4\nKEPT = []")]
        changes += [("    length = int.from", "    return KEPT[packed[0]]\n    length = int.from")]
    evaluation = judge(*changes, path=path)
    assert evaluation.objective is None
    assert re.search(reason, evaluation.reason), evaluation.reason


@pytest.mark.parametrize("place", ["compress", "decompress"])
def test_a_program_that_fails_shows_nothing_of_the_texts(judge: Judge, place: str) -> None:
    words = "raise RuntimeError(repr(data))" if place == "compress" else "raise KeyError(packed)"
    start = f"def {place}("
    text = dict(judge.problem.initial.files)["main.py"]
    head = next(line for line in text.splitlines() if line.startswith(start))
    evaluation = judge((head, f"{head}\n    print(locals(), flush=True)\n    {words}"))
    kind = words.removeprefix("raise ").partition("(")[0]
    assert evaluation.status is Status.ERROR
    assert re.fullmatch(rf"{kind} in line \d+ of main.py", evaluation.reason)
    assert not evaluation.artifacts
