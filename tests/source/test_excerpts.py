"""Programs of thousands of lines in a prompt: the block and what it touches are always there."""

from __future__ import annotations

from pathlib import Path

from evolve.models.usage import TokenCounter
from evolve.problem import load_problem
from evolve.records import Program, SourceFile
from evolve.search.previews import find_misfit
from evolve.settings.sections import ModelSettings
from evolve.source import cut_frozen
from evolve.steps.prompt import Block, fit_blocks, show_program
from tests.commands import write_problem

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
    text = fit_blocks([block], "", 2000, TokenCounter(()))["programs"]
    assert text.count(BLOCK) == 2
    assert fit_blocks([block], "", 200_000, TokenCounter(()))["programs"].count(HELPERS) == 2


def test_a_program_that_no_prompt_holds_is_warned_of(tmp_path: Path) -> None:
    whole = load_problem(write_problem(tmp_path / "a", initial=LARGE.replace("EVOLVE", "NO")))
    (warning,) = find_misfit(whole, ModelSettings(digest_tokens=4000))
    assert "does not fit into a prompt, which holds 3000 tokens of programs" in warning
    assert "raise `models.digest_tokens` (at least" in warning
    bounded = load_problem(write_problem(tmp_path / "b", initial=LARGE))
    assert find_misfit(bounded, ModelSettings(digest_tokens=4000)) == []
