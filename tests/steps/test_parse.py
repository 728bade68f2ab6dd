import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.steps.parse import as_tags, as_words, find_objects, finish_object


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure!\n```json\n{"a": {"b": [1]}}\n```\nthanks', {"a": {"b": [1]}}),
        ('{broken {"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ("no object {} here", None),
        ("{" * 100_000, None),
        ("", None),
    ],
)
def test_objects_in_a_reply_are_found(text, found):
    assert find_objects(text, bool) == ([found] if found else [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": "half of a sen', {"a": "half of a sen"}),
        ('{"a": 1, "b": "x, y", "tags": ["one", "tw', {"a": 1, "b": "x, y", "tags": ["one", "tw"]}),
        ('Sure: {"a": "x \\"y\\" \\', {"a": 'x "y" \\'}),
        ('{"a": "x \\\\', {"a": "x \\"}),
        ('{"a": 1, "risk', {"a": 1}),
        ('{"a": 1, "risk": ', {"a": 1}),
        ('{"a', None),
        ("{x for x in y}", None),
        ("{" * 100_000, None),
        ("nothing", None),
    ],
)
def test_of_an_object_that_was_cut_off_there_is_what_was_written(text, found):
    assert finish_object(text) == found


@given(st.dictionaries(st.text(), st.text() | st.lists(st.integers()), min_size=1), st.data())
def test_an_object_cut_anywhere_gives_only_keys_that_it_has(whole, data):
    text = json.dumps(whole)
    found = finish_object(text[: data.draw(st.integers(1, len(text)))])
    assert found is None or set(found) <= set(whole)


def test_tags_are_few_and_short():
    assert as_tags(["X"] * 9 + [3, "y" * 99]) == ("x", "y" * 40)
    assert as_tags({"no": "list"}) == ()


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ('{"why": "h", // not sure\n "change": "use exp", /* 1 */ "n": 1.0}', "use exp"),
        ('{"change": "use exp", # so\n "tags": ["a", "b",], // end\n}', "use exp"),
        ("{'why': None, 'change': 'use \\'exp\\', \"now\"', 'x': True}", "use 'exp', \"now\""),
        ("{change: 'use exp', n: +0.5, m: NaN}", "use exp"),
        ('{"Change ": "use exp"}', "use exp"),
        (r'{"change": "use \alpha, \(x\)"}', r"use \alpha, \(x\)"),
        (r'{"change": "\frac{a}{b}, \theta, \nabla f"}', r"\frac{a}{b}, \theta, \nabla f"),
        (r'{"change": "a\nb\t\"c\" \\theta \u00e9"}', 'a\nb\t"c" \\theta \u00e9'),
        ('{"a": [{"b": {"change": "use exp"}}]}', "use exp"),
        ('Take $x_{1}$ {"note": 1} for {x: y} {"change": "use exp"} {"b": 2', "use exp"),
    ],
)
def test_an_object_that_is_not_quite_json_is_read(text, change):
    (found,) = find_objects(text, lambda one: "change" in one)
    assert found["change"] == change


@given(st.text(alphabet="{}[]'\",:/#* \\\nachnge1"))
def test_any_text_can_be_looked_through(text):
    assert isinstance(find_objects(text, lambda one: "change" in one), list)


def test_large_replies_are_looked_through_in_bounded_time():
    for text in ('{"a":' * 5_000, '{"a": "' * 5_000, "{a: 1 // x\n" * 5_000, "{'a': [" * 5_000):
        assert find_objects(text, bool) == []


def test_fields_of_any_shape_become_text():
    assert (
        as_words({"file": "a.py", "what": ["one", {"two": 2}]}) == "file: a.py\nwhat: one\ntwo: 2"
    )
    assert as_words(None) == ""
