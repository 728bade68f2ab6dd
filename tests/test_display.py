"""What reaches a terminal, a page and a spreadsheet."""

import csv
import io
import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import evolve
from evolve.display import Listing, TextTable, as_cell, clean, one_line
from evolve.report.render import Document, Section, render_html

CLI = Path(evolve.__file__).parent / "cli"
ATTACKS = {
    "title": "\x1b]0;owned\x07",
    "clear": "\x1b[2J\x1b[H",
    "clipboard": "\x1b]52;c;cm0gLXJmIH4K\x1b\\",
    "link": "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "c1": "\x9b31m \x9d0;t\x9c",
    "bell": "\a",
    "backspace": "safe\b\b\b\bevil",
    "return": "evil\rsafe",
    "delete": "\x7f",
    "override": "\u202egnp.exe",
    "isolate": "\u2066if admin\u2069",
    "mark": "\u200f\u200e\u061c",
    "line": "a\u2028b\u2029c\x85d",
    "hidden": "pass\u200bword\u2060\ufeff",
    "tags": "\U000e0041\U000e007f",
    "half": "\udc80",
}
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@given(st.text() | st.sampled_from(list(ATTACKS.values())))
def test_nothing_is_obeyed_reordered_or_hidden(text):
    shown = clean(text)
    assert not OBEYED.search(shown)
    assert all(
        unicodedata.bidirectional(char) not in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI"}
        and unicodedata.bidirectional(char) not in {"FSI", "PDI"}
        for char in shown
    )
    shown.encode()
    assert clean(shown) == shown
    assert "\n" not in one_line(text)
    assert len(one_line(text).splitlines()) <= 1


@pytest.mark.parametrize("text", ["plain", "a\tb\nc", "Grüße, 世界 👍🏽", "العربية", "'\\x1b'"])
def test_plain_text_stays_as_it_is(text):
    assert clean(text) == text


def test_what_is_cut_out_is_spelt_out():
    assert clean("\x1b[31m\u202e\udc80\r") == "\\x1b[31m\\u202e\\udc80\\r"
    assert clean("a\r\nb") == "a\nb"


@given(st.text(), st.sampled_from(["=", "+", "-", "@", "\t", "\r", "\n=", " =", "\uff1d"]))
def test_no_cell_is_computed(text, start):
    cell = as_cell(start + text)
    stream = io.StringIO()
    csv.writer(stream).writerow([cell])
    ((read,),) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    assert read == cell
    assert read[0] == "'" or float(read) is not None


@pytest.mark.parametrize("value", [-1.5, 3, "-1.5", "+2e-05", "-inf", "a=b", "x-y", "", None])
def test_numbers_and_other_texts_are_left_alone(value):
    assert as_cell(value) == value


@pytest.mark.parametrize("text", ["-1+cmd", "=1", "@SUM(A1)", "-2,5", "+49 123", "\t=1", "  =1"])
def test_what_looks_like_a_number_and_is_none_is_no_number(text):
    assert as_cell(text).startswith("'")


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_in_a_report_is_obeyed(attack):
    blocks = (TextTable((attack,), ((attack,),)), Listing(f"x\n{attack}", title=attack))
    page = render_html(Document(f"t{attack}", (Section(f"s{attack}", blocks),)))
    assert clean(page) == page


def test_data_for_programs_is_read_back(tmp_path):
    attack = "".join(ATTACKS.values())
    code = "import json, sys; from evolve.display import say_json; say_json(json.load(sys.stdin))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps({attack: attack}), capture_output=True,
        text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(done.stdout) == {attack: attack}
    assert clean(done.stdout) == done.stdout


def test_a_traceback_is_cleaned_too(tmp_path):
    code = (
        "import sys; from evolve.display import say_bug; sys.excepthook = say_bug\n"
        "raise ValueError(chr(27) + ']0;owned' + chr(7))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "ValueError: \\x1b]0;owned\\x07" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("path", sorted(CLI.glob("*.py")), ids=lambda path: path.name)
def test_commands_print_by_say_alone(path):
    pattern = r"typer\.echo|\bprint\(|std(out|err)\.write|typer\.secho|style\("
    assert not re.search(pattern, path.read_text())
