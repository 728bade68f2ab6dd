import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.records import (
    AttemptKey,
    Evaluation,
    Lesson,
    Plan,
    Program,
    SourceFile,
    Status,
    Summary,
)
from evolve.records.plain import from_plain, to_plain

texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
lessons = st.builds(Lesson, texts, texts, texts, st.booleans(), st.lists(texts).map(tuple))
records = st.one_of(
    st.builds(Plan, texts, texts, st.lists(texts).map(tuple)),
    st.builds(Summary, texts, st.lists(lessons, max_size=2).map(tuple), st.lists(texts).map(tuple)),
    st.builds(Evaluation, st.just(Status.OK), numbers, st.dictionaries(texts, numbers)),
    st.builds(lambda path, text: Program((SourceFile(path, text),)), texts, texts),
)


@given(records)
def test_records_come_back_equal_from_json(record):
    assert from_plain(type(record), json.loads(json.dumps(to_plain(record)))) == record


def test_collections_of_records_come_back_equal():
    kept = {"a": Evaluation(Status.ERROR, reason="why")}
    assert from_plain(dict[str, Evaluation], to_plain(kept)) == kept
    assert from_plain(tuple[AttemptKey, ...], [[1, 2, 3]]) == (AttemptKey(1, 2, 3),)


@pytest.mark.parametrize(
    ("kind", "data"),
    [(Plan, []), (Plan, {"change": 1}), (Plan, {"other": ""}), (Plan, {"change": "", "tags": "a"}),
     (Evaluation, {"status": "fine"}), (Evaluation, {"status": "ok"}), (AttemptKey, [1, 2]),
     (AttemptKey, [1, 2, "3"]), (dict[str, float], {"a": "1"})],
)  # fmt: skip
def test_data_of_another_form_is_refused(kind, data):
    with pytest.raises((TypeError, ValueError)):
        from_plain(kind, data)
