import pytest

from evolve.errors import UsageError
from evolve.importing.systems import Constants, parse_duration
from evolve.importing.travel import decode, hide_keys


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(5, 5.0), ("90", 90.0), ("45s", 45.0), ("5m", 300.0), ("2 hours", 7200.0),
     ("10 minutes", 600.0), ("00:20:00", 1200.0), ("1:30", 90.0)],
)  # fmt: skip
def test_durations_are_read_in_the_ways_that_people_write_them(text, seconds):
    assert parse_duration(text, "x") == seconds


@pytest.mark.parametrize("value", ["soon", 0, -1, True, [5]])
def test_what_is_no_duration_is_named(value):
    with pytest.raises(UsageError, match=r"config\.yaml: `timeout`: expected seconds"):
        parse_duration(value, "config.yaml: `timeout`")


@pytest.mark.parametrize(
    ("text", "suffix", "hidden", "count"),
    [
        ('api_key: "sk-THIS-IS-A-SECRET"\n', ".yaml", 'api_key: "HIDDEN"\n', 1),
        ("llm:\n  OPENAI_API_KEY: abc\n", ".yml", "llm:\n  OPENAI_API_KEY: HIDDEN\n", 1),
        ('{"password": "hunter2"}', ".json", '{"password": "HIDDEN"}', 1),
        ('Client(api_key="abcd1234efgh")', ".py", 'Client(api_key="HIDDEN")', 1),
        ("print('AKIAABCDEFGHIJKLMNOP')", ".py", "print('HIDDEN')", 1),
        ("api_key: ${OPENAI_API_KEY}\n", ".yaml", "api_key: ${OPENAI_API_KEY}\n", 0),
        ("max_tokens: 3000\napi_key: null\n", ".yaml", "max_tokens: 3000\napi_key: null\n", 0),
        ('key = os.environ["API_KEY"]\n', ".py", 'key = os.environ["API_KEY"]\n', 0),
    ],
)
def test_keys_are_hidden_and_references_to_them_are_not(text, suffix, hidden, count):
    assert hide_keys(text, suffix) == (hidden, count)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("é".encode(), "é"),
        ("# é\n".encode("latin-1"), "# é\n"),
        ("# -*- coding: latin-1 -*-\n# é\n".encode("latin-1"), "# coding: utf-8 -*-\n# é\n"),
        (b"\xef\xbb\xbfx = 1\r\n", "x = 1\n"),
    ],
)
def test_sources_are_decoded_by_what_they_say_or_by_latin_1(data, text, tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes(data)
    assert decode(path) == text


def test_a_long_word_is_searched_for_keys_at_once():
    assert hide_keys("x" * 1_000_000, ".json") == ("x" * 1_000_000, 0)


def test_constants_are_found_through_sums_names_calls_and_other_files(tmp_path):
    (tmp_path / "prompts.py").write_text('MESSAGE = """\n  Raise it.\n"""\n')
    (tmp_path / "text.md").write_text("From a file.")
    (tmp_path / "run.py").write_text(
        "from prompts import MESSAGE as M\n"
        "import textwrap\n"
        "from pathlib import Path\n"
        'BASE = "Raise"\n'
        'SUM = BASE + " the" + f" value of {BASE}"\n'
        "OTHER = M.strip()\n"
        "SHAPED = textwrap.dedent(M)\n"
        'READ = Path(__file__).with_name("text.md").read_text()\n'
        "COMPUTED = BASE + make()\n"
        "LOOP = LOOP\n"
    )
    found = {
        name: Constants(tmp_path).find(tmp_path / "run.py", name)
        for name in ("SUM", "OTHER", "SHAPED", "READ", "COMPUTED", "LOOP", "NONE")
    }
    assert found == {
        "SUM": "Raise the value of Raise",
        "OTHER": "Raise it.",
        "SHAPED": "\nRaise it.\n",
        "READ": "From a file.",
        "COMPUTED": None,
        "LOOP": None,
        "NONE": None,
    }
