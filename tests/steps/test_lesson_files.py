"""Lessons as a text: what is written is read back, and what people change in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.errors import UsageError
from evolve.records import Lesson
from evolve.steps.memory import KnownLesson, format_lessons, parse_lessons

words = st.text("abcXYZ 0123.:#-`*é", min_size=1, max_size=40).filter(
    lambda text: text == " ".join(text.split()) and text
)
lessons = st.builds(
    KnownLesson,
    st.just("0.0"),
    st.builds(Lesson, words, words, st.one_of(st.just(""), words), st.booleans(),
              st.lists(st.text("abc", min_size=1), max_size=3, unique=True).map(tuple)),
    st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.just(0),
    st.one_of(st.just(""), words),
)  # fmt: skip


@given(st.lists(lessons, max_size=4), st.lists(lessons, min_size=1, max_size=2))
def test_what_is_written_is_read_back(first, second):
    def plain(known: KnownLesson) -> tuple:
        # A lesson that is only in people's words counts as taught once.
        return known.lesson, known.taught or 1, known.followed, known.new_bests, known.origin

    text = format_lessons({"packing": first, "bins": second})
    found = parse_lessons(text, "f")
    for name, written in (("packing", first), ("bins", second)):
        ordered = sorted(written, key=lambda one: not one.lesson.works)
        assert [plain(one) for one in found[name]] == [plain(one) for one in ordered]


def test_of_an_item_the_first_line_is_enough():
    text = "Notes of mine.\n\n# Lessons of packing\n\n## What works\n\n- Small steps help.\n"
    (known,) = parse_lessons(text, "f")["packing"]
    assert known == KnownLesson("0.0", Lesson("Small steps help."))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("- Above a heading.", "f: line 3: expected `# Lessons of PROBLEM` and `## What works`"),
        ("## What works\n- A.\n  - color: red", "f: line 5: expected one of evidence, scope"),
        ("## What works\n- A.\n  - taught: many", "`taught`: expected a whole number, got 'many'"),
        ("## What works\n- A.\nand more", "f: line 5: expected an item `- what was learnt`"),
    ],
)
def test_a_line_that_is_not_understood_is_named(line, message):
    with pytest.raises(UsageError, match="f: ") as caught:
        parse_lessons(f"# Lessons of packing\n\n{line}\n", "f")
    assert message in str(caught.value)


def test_a_text_without_lessons_is_not_taken_for_one():
    with pytest.raises(UsageError, match="expected lessons under `# Lessons of PROBLEM`"):
        parse_lessons("export PATH=/bin\n", "f")
    assert parse_lessons("", "f") == {}
