"""What is a marker of an evolvable block, what only speaks of one, and what is misspelt."""

from __future__ import annotations

from pathlib import Path

import pytest

from evolve.problem import load_problem
from evolve.records import Program, SourceFile
from evolve.search.digests import find_misfit
from evolve.settings.sections import ModelSettings
from evolve.source import cut_frozen, evolvable_text, find_oddities
from evolve.steps.prompt import Block, fit_blocks, show_program
from tests.commands import write_problem

REAL = "# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\n"


@pytest.mark.parametrize(
    "prose",
    [
        '"""Only code between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END is evolved."""\n',
        '"""Only code between\nEVOLVE-BLOCK-START and EVOLVE-BLOCK-END is evolved."""\n',
        '"""The part\nbegins at EVOLVE-BLOCK-START\nand ends at EVOLVE-BLOCK-END.\n"""\n',
        '"""Usage:\n\n    # EVOLVE-BLOCK-START\n    # EVOLVE-BLOCK-END\n"""\n',
        '"""Usage:\n\n    # EVOLVE-BLOCK-START\n"""\n',
        "# Code between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change.\n",
        "# EVOLVE-BLOCK-START and EVOLVE-BLOCK-END bound what may change.\n",
        "# EVOLVE-BLOCK-START marks the first line that may change.\n",
        "MARKERS = [\n    'EVOLVE-BLOCK-START',\n    'EVOLVE-BLOCK-END',\n]\n",
        'START = "EVOLVE-BLOCK-START"\n',
        'if "# EVOLVE-BLOCK-END" in __doc__: pass\n',
        "print('# EVOLVE-BLOCK-END')\n",
    ],
)
def test_marker_words_in_prose_are_prose(prose: str) -> None:
    assert evolvable_text(prose + REAL) == "x = 1\n"
    assert evolvable_text(REAL + prose) == "x = 1\n"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("# EVOLVE-BLOCK-START: the fit", "# EVOLVE-BLOCK-END: the fit"),
        ("# EVOLVE-BLOCK-START the fit", "# EVOLVE-BLOCK-END the fit"),
        ("#EVOLVE-BLOCK-START", "#EVOLVE-BLOCK-END"),
        ("    ### EVOLVE-BLOCK-START ###", "    ### EVOLVE-BLOCK-END ###"),
        ("/* EVOLVE-BLOCK-START */", "/* EVOLVE-BLOCK-END */"),
        ("<!-- EVOLVE-BLOCK-START -->", "<!-- EVOLVE-BLOCK-END -->"),
        ("-- EVOLVE-BLOCK-START", "-- EVOLVE-BLOCK-END"),
        ("(* EVOLVE-BLOCK-START *)", "(* EVOLVE-BLOCK-END *)"),
        ("% EVOLVE-BLOCK-START", "% EVOLVE-BLOCK-END"),
        ("C EVOLVE-BLOCK-START", "C EVOLVE-BLOCK-END"),
        ("EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END"),
        ("def f():  # EVOLVE-BLOCK-START", "    pass  # EVOLVE-BLOCK-END"),
        ("int f() { // EVOLVE-BLOCK-START", "} // EVOLVE-BLOCK-END"),
    ],
)
def test_markers_are_read_in_any_comment(start: str, end: str) -> None:
    assert evolvable_text(f"before\n{start}\nx\n{end}\nafter\n") == "x\n"


def test_markers_in_a_string_alone_bound_a_text_that_is_evolved() -> None:
    assert evolvable_text(f'PROMPT = """\n{REAL}"""\n') == "x = 1\n"


@pytest.mark.parametrize(
    "line",
    [
        "# EVOLVE_BLOCK_START",
        "# evolve-block-start",
        "# EVOLVE BLOCK START",
        "// EVOLVE-BLOCK-BEGIN",
        "# EVOLVE-START",
        "# EVLOVE-BLOCK-START",
        "# EVOLVE-BLOCKS-START",
        "# Evolve-Block-End",
    ],
)
def test_a_misspelt_marker_is_warned_of(line: str) -> None:
    first, second = find_oddities(f"x = 1\n{line}\ny = 2\n")
    assert first.startswith(f"line 2: `{line}` is no marker")
    assert second.startswith("all of the file may change")


@pytest.mark.parametrize("inside", ["", "\n", "# your code here\n"])
def test_an_empty_block_is_warned_of(inside: str) -> None:
    text = f"a = 1\n# EVOLVE-BLOCK-START\n{inside}# EVOLVE-BLOCK-END\n"
    assert find_oddities(text) == [
        "line 2: the block is empty: only a model can put something there"
    ]


@pytest.mark.parametrize("text", [REAL, "x = 1\n", "", "# evolve the block from the start on\n"])
def test_nothing_is_said_of_what_is_well(text: str) -> None:
    assert find_oddities(text) == []


HELPERS = "".join(f"def helper_{i}(x):\n    return x + {i}\n\n\n" for i in range(1500))
BLOCK = "# EVOLVE-BLOCK-START\ndef point():\n    return helper_700(math.pi)\n# EVOLVE-BLOCK-END\n"
LARGE = f"import math\n\n{HELPERS}{BLOCK}" + "LAST = 1\n" * 100


def test_the_block_and_what_it_uses_are_left_of_a_long_file() -> None:
    short = cut_frozen(LARGE)
    assert BLOCK in short
    assert "import math\n" in short
    assert "def helper_700(x):\n    return x + 700\n" in short
    assert "helper_300" not in short
    assert len(short.splitlines()) < 60
    cut = [int(line.split()[0][1:]) for line in short.splitlines() if "are left out]" in line]
    assert sum(cut) + len(short.splitlines()) - len(cut) == len(LARGE.splitlines())


def test_what_a_block_uses_is_left_in_other_languages_too() -> None:
    frozen = "".join(f"static int helper_{i}(int x) {{ return x; }}\n" for i in range(2000))
    block = "// EVOLVE-BLOCK-START\nint f() { return helper_700(1); }\n// EVOLVE-BLOCK-END\n"
    short = cut_frozen(f"#include <math.h>\n{frozen}{block}")
    assert block in short
    assert "static int helper_700(" in short


def test_a_file_of_which_all_may_change_is_left_whole() -> None:
    assert cut_frozen(HELPERS) == HELPERS


def test_frozen_text_gives_way_before_a_program_does() -> None:
    program = Program((SourceFile("initial.py", LARGE),))
    long, short = show_program(program), show_program(program, is_short=True)
    block = Block("programs", (long, long), shorter=(short, short))
    text = fit_blocks([block], "", 2000)["programs"]
    assert text.count(BLOCK) == 2
    assert fit_blocks([block], "", 200_000)["programs"].count(HELPERS) == 2


def test_a_program_that_no_prompt_holds_is_warned_of(tmp_path: Path) -> None:
    whole = load_problem(write_problem(tmp_path / "a", initial=LARGE.replace("EVOLVE", "NO")))
    (warning,) = find_misfit(whole, ModelSettings(digest_tokens=4000))
    assert "does not fit into a prompt, which holds 3000 tokens of programs" in warning
    assert "raise `models.digest_tokens` (at least" in warning
    bounded = load_problem(write_problem(tmp_path / "b", initial=LARGE))
    assert find_misfit(bounded, ModelSettings(digest_tokens=4000)) == []
