from __future__ import annotations

import random
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from levenshtein_c import check_answers, draw_pairs, draw_small_pairs, find_distance, write_pairs

from evolve.records import Status
from evolve.sandbox.replies import Finished
from evolve.scoring import Infeasible
from tests.judge import Judge, open_judge

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN = "    int band = FIRST_BAND;\n"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    yield from open_judge("levenshtein_c", pairs=6, length=400)


def find_distance_by_table(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        last, row = row, [i]
        for j, other in enumerate(b, start=1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (letter != other)))
    return row[-1]


@given(st.text("abc", max_size=80), st.text("abc", max_size=80))
def test_distances_are_those_of_the_table(a: str, b: str) -> None:
    assert find_distance(a, b) == find_distance_by_table(a, b) == find_distance(b, a)


def test_pairs_depend_on_the_seed_alone_and_keep_what_the_statement_says() -> None:
    for draw in (draw_small_pairs, lambda rng: draw_pairs(rng, 30, 200)):
        pairs = draw(random.Random(1))
        assert pairs == draw(random.Random(1)) != draw(random.Random(2))
        letters = {letter for pair in pairs for text in pair for letter in text}
        assert all(33 <= ord(letter) <= 126 for letter in letters)
        assert max(len(text) for pair in pairs for text in pair) <= 4000
    assert {("", ""), ("kitten", "sitting")} <= set(draw_small_pairs(random.Random(1)))
    assert write_pairs([("ab", ""), ("c", "d")]) == "2\nab\n\nc\nd\n"


@pytest.mark.parametrize(
    "stdout",
    [b"", b"3", b"3\n\n", b"2\n", b" 3\n", b"3.0\n", b"03\n", b"nan\n", b"\xff\n", b"3\n3\n"],
)
def test_only_the_exact_number_counts(stdout: bytes) -> None:
    pairs = [("kitten", "sitting")]
    check_answers(Finished(0, b"3\n"), pairs)
    with pytest.raises(Infeasible, match="expected"):
        check_answers(Finished(0, stdout), pairs)


@needs_compiler
def test_the_starting_program_is_right_and_slower_than_the_baseline(judge: Judge) -> None:
    evaluation = judge()
    assert evaluation.status is Status.OK, evaluation
    assert judge.problem.baseline is not None
    assert evaluation.objective > judge.problem.baseline.value
    assert set(evaluation.measures) == {axis.name for axis in judge.problem.measures}


@needs_compiler
@pytest.mark.parametrize(
    ("old", "new", "status", "reason"),
    [
        ("? 0 : 1", "? 0 : 2", Status.INFEASIBLE, "expected"),
        (OPEN, OPEN + "if (a_length > 390) return 300;", Status.INFEASIBLE, "expected"),
        (OPEN, OPEN + "if (a_length == 129) abort();", Status.CRASHED, "ended by SIGABRT"),
        (OPEN, "int bond = FIRST_BAND;", Status.ERROR, "build exited with code 1.*error.*band"),
    ],
    ids=["wrong", "lazy", "crash", "typo"],
)
def test_programs_that_cheat_or_fail_get_no_score(
    judge: Judge, old: str, new: str, status: Status, reason: str
) -> None:
    evaluation = judge((old, new))
    assert evaluation.status is status, evaluation
    assert re.search(reason, evaluation.reason), evaluation.reason


@needs_compiler
def test_work_in_another_process_is_refused(judge: Judge) -> None:
    fork = "#include <unistd.h>\n#include <sys/wait.h>\nstatic int table"
    forking = OPEN + "if (a_length > 300 && a_length < 450) { if (fork() < 0) exit(9); }"
    evaluation = judge(("static int table", fork), (OPEN, forking))
    assert evaluation.objective is None, evaluation
