"""What is a marker of an evolvable block, what only speaks of one, and what is misspelt."""

from __future__ import annotations

import pytest

from evolve.source import evolvable_text, find_oddities

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
