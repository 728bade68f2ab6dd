import pytest

from evolve.source import find_fault, holds_values, is_text


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.json", '{"x": 1.5}', None),
        ("a.json", '{\n"x": 1.5,\n}', "line 3: "),
        ("a.json", "[" * 100_000, "line 1: "),
        ("a.toml", "x = 1.5\n", None),
        ("a.toml", "x = 1\ny = = 2\n", "line 2: Invalid value"),
        ("a.py", "x = (", "line 1: "),
        ("a.yaml", "x: [", None),
        ("a.txt", "{", None),
    ],
)
def test_what_can_be_read_is_checked_with_the_line(path, text, expected):
    found = find_fault(path, text)
    assert (found is None) if expected is None else str(found).startswith(expected)


def test_texts_and_values_are_told_by_their_names():
    assert [is_text(name) for name in ("a.txt", "b/c.JSON", "main.c", "Makefile", "x.py")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert holds_values("a.yml")
    assert not holds_values("a.txt")
