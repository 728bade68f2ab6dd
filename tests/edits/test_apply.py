import json
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evolve.edits import apply_reply
from evolve.records import Program, Rejected, SourceFile
from evolve.source.parsing import frozen_parts
from tests.builders import make_program

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "transcripts"
PARENTS = json.loads((TRANSCRIPTS / "parents.json").read_text(encoding="utf-8"))
REPLIES = [
    json.loads(line)
    for line in (TRANSCRIPTS / "replies.jsonl").read_text(encoding="utf-8").splitlines()
]

MARKED = '''"""Frozen words."""
import math

LIMIT = 3


# EVOLVE-BLOCK-START
def pack(count):
    step = 0.5
    for i in range(count):
        step = step * 0.9
    return helper(step)


def helper(value):
    return value + 1
# EVOLVE-BLOCK-END


def main():
    return pack(LIMIT)
'''


def block(search: str, replacement: str) -> str:
    return f"<<<<<<< SEARCH\n{search}\n=======\n{replacement}\n>>>>>>> REPLACE\n"


def fence(code: str, language: str = "python") -> str:
    return f"Here it is:\n\n```{language}\n{code}\n```\nDone.\n"


def new(title: str, code: str) -> str:
    return f"{title}\n```\n{code}\n```\n"


def applied(parent: Program, reply: str, **options: object) -> str:
    outcome = apply_reply(parent, reply, **options)
    assert isinstance(outcome, Program), outcome
    return outcome.entry.text


def rejected(parent: Program, reply: str, **options: object) -> Rejected:
    outcome = apply_reply(parent, reply, **options)
    assert isinstance(outcome, Rejected), outcome.entry.text
    return outcome


class TestTranscripts:
    @pytest.mark.parametrize(
        "row", REPLIES, ids=lambda r: f"{r['model']}-{r['task']}-{r['sample']}-{r['turn']}"
    )
    def test_a_reply_of_a_real_model_ends_as_judged_by_hand(self, row):
        parent = make_program(PARENTS[row["parent"]])
        outcome = apply_reply(parent, row["text"], cut_off=row["finish_reason"] == "length")
        if row["expected"] == "applied":
            assert isinstance(outcome, Program)
            assert outcome.id == row["program"]
        else:
            assert isinstance(outcome, Rejected)
            assert outcome.reason == row["expected"]


class TestBlocks:
    def test_an_exact_block_replaces_its_lines_and_nothing_else(self):
        text = applied(make_program(MARKED), block("    step = 0.5", "    step = 0.25"))
        assert text == MARKED.replace("step = 0.5", "step = 0.25")

    @pytest.mark.parametrize(
        ("opening", "divider", "closing"),
        [
            ("<<<<< SEARCH", "=====", ">>>>> REPLACE"),
            ("<<<<<<<<< SEARCH", "=========", ">>>>>>>>> REPLACE"),
            ("<<<<<<< ORIGINAL", "=======", ">>>>>>> UPDATED"),
            ("  <<<<<<< SEARCH:", "  =======", "  >>>>>>>"),
            ("<<<<<<<", "=======", ">>>>>>> REPLACE"),
        ],
    )
    def test_marks_may_vary(self, opening, divider, closing):
        reply = f"{opening}\n    step = 0.5\n{divider}\n    step = 2.5\n{closing}"
        assert "step = 2.5" in applied(make_program(MARKED), reply)

    @pytest.mark.parametrize(
        ("search", "replacement"),
        [
            ("    step = 0.5   ", "    step = 0.25"),
            ("\tstep = 0.5", "\tstep = 0.25"),
            ("step = 0.5", "step = 0.25"),
            ("            step = 0.5", "            step = 0.25"),
            ("    step=0.5", "    step = 0.25"),
            ("\n    step = 0.5\n", "\n    step = 0.25\n"),
            ("```python\n    step = 0.5\n```", "```python\n    step = 0.25\n```"),
        ],
    )
    def test_white_space_and_inner_fences_are_forgiven(self, search, replacement):
        text = applied(make_program(MARKED), block(search, replacement))
        assert text == MARKED.replace("step = 0.5", "step = 0.25")

    def test_a_replacement_follows_the_indentation_of_the_file(self):
        search = "for i in range(count):\n    step = step * 0.9"
        new = "for i in range(count):\n    if i:\n        step = step * 0.8"
        text = applied(make_program(MARKED), block(search, new))
        assert "    for i in range(count):\n        if i:\n            step = step * 0.8\n" in text

    def test_tabs_in_the_file_stay_tabs(self):
        parent = make_program("def f():\n\tif True:\n\t\treturn 1\n\treturn 2\n")
        reply = block(
            "    if True:\n        return 1", "    if True:\n        x = 3\n        return x"
        )
        expected = "def f():\n\tif True:\n\t\tx = 3\n\t\treturn x\n\treturn 2\n"
        assert applied(parent, reply) == expected

    def test_two_spaces_in_the_file_are_kept_where_the_reply_has_four(self):
        parent = make_program("def f(n):\n  for i in range(n):\n    n += i\n  return n\n")
        reply = block(
            "    for i in range(n):\n        n += i",
            "    for i in range(n):\n        n += i\n        n -= 1",
        )
        expected = "def f(n):\n  for i in range(n):\n    n += i\n    n -= 1\n  return n\n"
        assert applied(parent, reply) == expected

    @pytest.mark.parametrize("reply_end", ["\n", "\r\n"])
    @pytest.mark.parametrize("file_end", ["\n", "\r\n"])
    def test_line_ends_of_the_file_are_kept(self, reply_end, file_end):
        parent = make_program(MARKED.replace("\n", file_end))
        reply = block("    step = 0.5", "    step = 0.25\n    step += 1").replace("\n", reply_end)
        expected = MARKED.replace("step = 0.5", "step = 0.25\n    step += 1")
        assert applied(parent, reply) == expected.replace("\n", file_end)

    def test_a_replacement_without_its_indentation_is_aligned_when_it_must_be(self):
        text = applied(make_program(MARKED), block("    step = 0.5", "step = 0.25"))
        assert "    step = 0.25\n" in text

    def test_several_blocks_apply_to_the_text_as_it_was(self):
        reply = block("    step = 0.5", "    step = step * 0.9") + block(
            "        step = step * 0.9", "        step = step * 0.7"
        )
        text = applied(make_program(MARKED), reply)
        assert "    step = step * 0.9\n    for" in text
        assert "        step = step * 0.7\n" in text

    def test_blocks_that_build_on_each_other_apply_in_turn(self):
        reply = block("    step = 0.5", "    step = 0.25\n    extra = 1") + block(
            "    extra = 1", "    extra = 2"
        )
        assert "    step = 0.25\n    extra = 2\n" in applied(make_program(MARKED), reply)

    def test_blocks_that_overlap_are_rejected(self):
        reply = block("    step = 0.5\n    for i in range(count):", "    for i in range(3):")
        reply += block("    step = 0.5", "    step = 1.5")
        assert "edit 2 of 2 searches lines" in rejected(make_program(MARKED), reply).reason

    def test_a_repeated_block_applies_once(self):
        reply = 2 * block("    step = 0.5", "    step = 0.25")
        assert "step = 0.25" in applied(make_program(MARKED), reply)

    def test_an_empty_replacement_deletes(self):
        reply = "<<<<<<< SEARCH\n    step = 0.5\n=======\n>>>>>>> REPLACE\n"
        assert applied(make_program(MARKED), reply) == MARKED.replace("    step = 0.5\n", "")

    def test_a_program_without_a_last_line_end_keeps_none(self):
        assert applied(make_program("x = 1\ny = 2"), block("y = 2", "y = 3")) == "x = 1\ny = 3"


class TestRefusals:
    def test_an_ambiguous_block_names_its_places(self):
        parent = make_program("a = 1\nb = 2\na = 1\n")
        reason = rejected(parent, block("a = 1", "a = 3")).reason
        assert "2 places (lines 1, 3)" in reason

    def test_the_only_exact_place_wins_over_similar_ones(self):
        parent = make_program("def f():\n    a = 1\n\n\na = 1\n")
        assert applied(parent, block("a = 1", "a = 3")) == "def f():\n    a = 1\n\n\na = 3\n"

    def test_a_near_miss_shows_the_closest_lines(self):
        outcome = rejected(make_program(MARKED), block("    step = 0.75", "    step = 1"))
        assert "not in initial.py: 'step = 0.75'" in outcome.reason
        assert "9:     step = 0.5" in outcome.detail

    def test_lines_unlike_everything_get_no_hint(self):
        assert rejected(make_program(MARKED), block("%%%%%%%%%%", "x = 1")).detail == ""

    @pytest.mark.parametrize(
        "reply",
        [
            block("    step = 0.5", "    step = 0.5"),
            fence(MARKED),
            fence(MARKED.replace("\n", "  \n")),
        ],
    )
    def test_what_changes_nothing_is_rejected(self, reply):
        assert rejected(make_program(MARKED), reply).reason == "the edit changes nothing"

    @pytest.mark.parametrize("reply", ["", " \n\t\n"])
    def test_an_empty_reply_is_rejected(self, reply):
        assert rejected(make_program(MARKED), reply).reason == "the reply is empty"

    @pytest.mark.parametrize(
        "reply", ["I'm sorry, but I can't help with that.", "Sorry", "pack", "print('pack')"]
    )
    def test_a_refusal_is_not_taken_for_code(self, reply):
        reason = rejected(make_program(MARKED), reply).reason
        assert reason == "the reply holds neither edits nor a program"

    def test_code_that_defines_nothing_of_the_program_is_rejected(self):
        reason = rejected(make_program(MARKED), fence("x = 1")).reason
        assert reason == "the reply's code defines none of `helper`, `pack`"

    @pytest.mark.parametrize(
        "reply",
        [
            "<<<<<<< SEARCH\n    step = 0.5\n=======\n    step = 0.2",
            "<<<<<<< SEARCH\n    step = 0.5",
            block("    step = 0.5", "    step = 0.2") + "<<<<<<< SEARCH\n    return",
        ],
    )
    def test_a_block_that_is_cut_off_is_rejected(self, reply):
        assert "cut off" in rejected(make_program(MARKED), reply).reason

    def test_open_code_of_a_reply_that_hit_its_limit_is_rejected(self):
        reply = fence(MARKED.replace("0.5", "0.6")).rsplit("```", 1)[0]
        assert isinstance(apply_reply(make_program(MARKED), reply), Program)
        assert "cut off" in rejected(make_program(MARKED), reply, cut_off=True).reason

    def test_open_code_that_does_not_parse_counts_as_cut_off(self):
        reason = rejected(make_program(MARKED), "```python\ndef pack(count):\n    x = (").reason
        assert "cut off inside its code; line 2" in reason

    def test_a_syntax_error_names_its_line(self):
        reason = rejected(make_program(MARKED), block("    step = 0.5", "    step = = 1")).reason
        assert reason.startswith("syntax error in initial.py, line 9")
        assert "`step = = 1`" in reason

    def test_a_return_outside_a_function_is_a_syntax_error(self):
        parent = make_program("x = 1\n")
        assert "'return' outside function" in rejected(parent, block("x = 1", "return 1")).reason

    def test_an_empty_search_is_rejected(self):
        assert "no lines to search" in rejected(make_program(MARKED), block("", "x = 1")).reason

    def test_a_reply_without_end_is_rejected_unread(self):
        assert "1000001 characters" in rejected(make_program(MARKED), "x" * 1_000_001).reason

    @pytest.mark.parametrize("character", ["\ud800", "\0"])
    def test_what_no_file_can_hold_is_rejected(self, character):
        reply = block("    step = 0.5", f"    step = '{character}'")
        assert "not text" in rejected(make_program(MARKED), reply).reason

    def test_edits_without_number_are_rejected(self):
        reply = "".join(block("a = 1", f"a = {i + 2}") for i in range(300))
        assert "300 edits" in rejected(make_program("a = 1\n"), reply).reason


class TestFrozenText:
    def test_an_edit_outside_the_block_is_rejected(self):
        reason = rejected(make_program(MARKED), block("LIMIT = 3", "LIMIT = 4")).reason
        assert "outside its evolvable block" in reason

    def test_an_edit_may_repeat_the_marker_beside_its_lines(self):
        search = "# EVOLVE-BLOCK-START\ndef pack(count):\n    step = 0.5"
        text = applied(make_program(MARKED), block(search, search.replace("0.5", "0.6")))
        assert text == MARKED.replace("step = 0.5", "step = 0.6")

    def test_an_edit_cannot_move_the_markers(self):
        reply = block("    step = 0.5", "    step = 0.6\n# EVOLVE-BLOCK-END\n    x = 1")
        assert applied(make_program(MARKED), reply) == MARKED.replace(
            "    step = 0.5\n", "    step = 0.6\n    x = 1\n"
        )
        away = block("    return value + 1\n# EVOLVE-BLOCK-END", "    return value + 2")
        assert "outside" in rejected(make_program(MARKED), away).reason

    def test_new_imports_beside_frozen_ones_go_into_the_block(self):
        text = applied(make_program(MARKED), block("import math", "import math\nimport random"))
        assert text == MARKED.replace("START\n", "START\nimport random\n")

    @pytest.mark.parametrize(
        ("comment", "path"), [("//", "a.c"), ("--", "a.lua"), ("<!--", "a.html"), (";;", "a.lisp")]
    )
    def test_markers_hold_in_any_comment_syntax(self, comment, path):
        text = f"head\n{comment} EVOLVE-BLOCK-START\nbody one\n{comment} EVOLVE-BLOCK-END\ntail\n"
        assert "body two" in applied(make_program(text, path), block("body one", "body two"))
        assert "outside" in rejected(make_program(text, path), block("tail", "tale")).reason

    def test_an_edit_in_each_of_several_blocks_applies(self):
        two = MARKED + "# EVOLVE-BLOCK-START\nlast = 1\n# EVOLVE-BLOCK-END\n"
        reply = block("    step = 0.5", "    step = 0.6") + block("last = 1", "last = 2")
        assert applied(make_program(two), reply) == two.replace("0.5", "0.6").replace(
            "t = 1", "t = 2"
        )

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_what_is_frozen_stays_byte_for_byte_whatever_the_reply(self, data):
        newline = data.draw(st.sampled_from(["\n", "\r\n"]))
        text = MARKED.replace("\n", newline)
        source = st.sampled_from(MARKED.split("\n"))
        line = source | st.sampled_from(
            ["x = 1", "import os", "LIMIT = 9", "# EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-END"]
        )
        lines = st.lists(line, max_size=6).map("\n".join)
        shape = st.sampled_from([block, lambda a, b: fence(a + "\n" + b), lambda a, b: a + b])
        parts = st.lists(st.builds(lambda f, a, b: f(a, b), shape, lines, lines), max_size=4)
        outcome = apply_reply(make_program(text), "\n".join(data.draw(parts)))
        if isinstance(outcome, Program):
            assert frozen_parts(outcome.entry.text) == frozen_parts(text)
            assert outcome.entry.text != text

    @settings(max_examples=100, deadline=None)
    @given(
        first=st.integers(0, 7),
        size=st.integers(1, 4),
        new=st.lists(st.text("ab =#():", max_size=8), max_size=4),
        newline=st.sampled_from(["\n", "\r\n"]),
    )
    def test_an_edit_made_from_two_texts_gives_the_second(self, first, size, new, newline):
        old = ["alpha", "beta", "gamma", "delta", "", "  epsilon", "zeta", "eta", "theta", "iota"]
        search = old[first : first + size]
        expected = newline.join([*old[:first], *new, *old[first + size :], ""])
        text = newline.join([*old, ""])
        reply = "\n".join(["<<<<<<< SEARCH", *search, "=======", *new, ">>>>>>> REPLACE"])
        outcome = apply_reply(make_program(text, "a.txt"), reply)
        if isinstance(outcome, Program):
            assert outcome.entry.text == expected
        else:
            assert "nothing" in outcome.reason or not "".join(search).strip()

    @settings(max_examples=100, deadline=None)
    @given(st.text("<=>-+@` \nabcSEARCH#:/.py", max_size=200))
    def test_no_reply_raises(self, reply):
        assert isinstance(apply_reply(make_program(MARKED), reply), Program | Rejected)


class TestLooseForms:
    def test_headings_over_fences_are_edits(self):
        reply = (
            "#### SEARCH\n```python\n    step = 0.5\n```\n"
            "#### REPLACE\n```python\n    step = 0.6\n```\n"
        )
        assert applied(make_program(MARKED), reply) == MARKED.replace("step = 0.5", "step = 0.6")

    @pytest.mark.parametrize("path", ["initial.py", "prompt.txt"])
    def test_a_diff_that_nobody_asked_for_is_not_taken_for_the_program(self, path):
        reply = "```diff\n@@ -9 +9 @@\n-    step = 0.5\n+    step = 0.25\n```\n"
        assert rejected(make_program(MARKED, path), reply)


class TestRewrites:
    NEW = "def pack(count):\n    return helper(count)\n\n\ndef helper(value):\n    return value * 2"

    @pytest.mark.parametrize("language", ["python", "", "java", "py"])
    def test_the_functions_of_the_block_become_the_block(self, language):
        text = applied(make_program(MARKED), fence(self.NEW, language))
        assert frozen_parts(text) == frozen_parts(MARKED)
        assert self.NEW in text

    def test_a_whole_file_gives_only_its_evolvable_part(self):
        rewrite = MARKED.replace("LIMIT = 3", "LIMIT = 99").replace("0.9", "0.8")
        assert applied(make_program(MARKED), fence(rewrite)) == MARKED.replace("0.9", "0.8")

    def test_a_whole_file_without_markers_gives_the_same(self):
        rewrite = MARKED.replace("0.9", "0.8").replace("# EVOLVE-BLOCK-START\n", "")
        rewrite = rewrite.replace("# EVOLVE-BLOCK-END\n", "")
        assert applied(make_program(MARKED), fence(rewrite)) == MARKED.replace("0.9", "0.8")

    def test_imports_above_the_markers_come_along_when_they_are_used(self):
        rewrite = MARKED.replace("import math", "import math\nimport random").replace(
            "step = 0.5", "step = random.random()"
        )
        text = applied(make_program(MARKED), fence(rewrite))
        assert "# EVOLVE-BLOCK-START\nimport random\n" in text
        assert frozen_parts(text) == frozen_parts(MARKED)

    def test_definitions_that_a_rewrite_needs_and_lacks_are_kept(self):
        text = applied(make_program(MARKED), fence("def pack(count):\n    return helper(9)"))
        assert "def helper(value):\n    return value + 1\n" in text
        assert "return helper(9)" in text

    def test_a_helper_alone_leaves_the_rest_as_it_was(self):
        text = applied(make_program(MARKED), fence("def helper(value):\n    return value - 1"))
        assert "def pack(count):\n    step = 0.5\n" in text
        assert "value + 1" not in text

    def test_an_import_that_a_rewrite_forgets_is_kept(self):
        parent = make_program("import math\n\n\ndef f(x):\n    return math.sqrt(x)\n")
        text = applied(parent, fence("def f(x):\n    return math.cos(x)"))
        assert text == "import math\n\n\ndef f(x):\n    return math.cos(x)\n"

    def test_the_last_whole_program_is_taken(self):
        reply = fence(self.NEW.replace("2", "3")) + fence(self.NEW) + fence("print(pack(3))")
        assert "value * 2" in applied(make_program(MARKED), reply)

    def test_parts_in_several_fences_are_brought_together(self):
        first, second = self.NEW.split("\n\n\n")
        text = applied(make_program(MARKED), fence(first) + fence(second))
        assert "value * 2" in text
        assert "return helper(count)" in text

    @pytest.mark.parametrize("lead", ["", "Here is the program.\n\n"])
    def test_a_program_without_fences_is_found(self, lead):
        reply = lead + self.NEW + ("\n\nIt is better.\n" if lead else "")
        assert "value * 2" in applied(make_program(MARKED), reply)

    def test_edits_win_over_a_program_in_the_same_reply(self):
        reply = fence(self.NEW) + block("    step = 0.5", "    step = 0.6")
        assert applied(make_program(MARKED), reply) == MARKED.replace("step = 0.5", "step = 0.6")

    def test_a_program_is_taken_when_the_edits_do_not_apply(self):
        reply = block("    nothing like it", "    x = 1") + fence(self.NEW)
        assert "value * 2" in applied(make_program(MARKED), reply)

    def test_code_written_for_the_parent_style_of_line_ends_keeps_them(self):
        crlf = MARKED.replace("\n", "\r\n")
        text = applied(make_program(crlf), fence(self.NEW))
        assert "\n" not in text.replace("\r\n", "")

    def test_several_blocks_are_rewritten_by_their_markers(self):
        two = "# EVOLVE-BLOCK-START\na = 1\n# EVOLVE-BLOCK-END\nb = 2\n"
        two += "# EVOLVE-BLOCK-START\nc = 3\n# EVOLVE-BLOCK-END\n"
        new = two.replace("1", "7").replace("3", "8")
        assert applied(make_program(two), fence(new)) == new
        reason = rejected(make_program(two), fence("a = 7\nc = 8")).reason
        assert "marks 0 evolvable blocks, the program has 2" in reason

    def test_a_block_inside_a_function_is_cut_out_of_the_whole(self):
        text = (
            "def f(x):\n    # EVOLVE-BLOCK-START\n    y = x\n    # EVOLVE-BLOCK-END\n    return y\n"
        )
        assert applied(
            make_program(text), fence("def f(x):\n    y = x * 2\n    return y")
        ) == text.replace("y = x\n", "y = x * 2\n")

    def test_a_program_in_another_language_is_rewritten_between_its_frozen_lines(self):
        text = "int a;\n// EVOLVE-BLOCK-START\nint f() { return 1; }\n// EVOLVE-BLOCK-END\nint z;\n"
        parent = make_program(text, "main.c")
        expected = text.replace("return 1", "return 2")
        assert applied(parent, fence("int f() { return 2; }\nint z;", "c")) == expected
        assert applied(parent, expected) == expected
        assert "resembles" in rejected(parent, fence("make run now", "text")).reason


class TestMarksInText:
    """Programs whose own text looks like the marks of an edit."""

    TITLED = "Title\n=======\nold words\n\nOther\n=====\nmore\n"

    @pytest.mark.parametrize(
        ("search", "replacement"),
        [
            ("Title\n=======\nold words", "Title\n=======\nnew words"),
            ("old words", "new words\n\nThird\n=======\nwords"),
            ("Title\n=======", "Better\n======="),
            ("old words\n\nOther\n=====\nmore", "Other\n=====\nless"),
            ("Title\n=======\nold words", ""),
            ("Other\n=====\nmore", "Other\n=======\nmore"),
        ],
    )
    def test_the_divider_that_fits_wins(self, search, replacement):
        for path in ("page.rst", "page.txt"):
            text = applied(make_program(self.TITLED, path), block(search, replacement))
            assert text == self.TITLED.replace(search, replacement)

    @pytest.mark.parametrize("sides", ["Title\n=======\nBetter", "Title\n=======\n=======\nBetter"])
    def test_a_row_that_may_be_text_or_the_divider_is_asked_about(self, sides):
        parent = make_program(self.TITLED, "page.md")
        reply = f"<<<<<<< SEARCH\n{sides}\n=======\n>>>>>>> REPLACE\n"
        if sides.count("=") == 14:
            reply = f"<<<<<<< SEARCH\n{sides}\n>>>>>>> REPLACE\n"
        assert "`=` in line 2 may be text" in rejected(parent, reply).reason

    def test_the_fences_in_an_edit_that_does_not_apply_are_no_program(self):
        parent = make_program("one two\nthree\n", "page.txt")
        reply = "```text\n" + block("```\none 2\n```", "```text\none two\n```") + "```\n"
        assert "not in page.txt" in rejected(parent, reply).reason

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_an_edit_among_marks_gives_what_it_says_or_is_refused(self, data):
        odd = ["=======", "=====", "<<<<<<< HEAD", ">>>>>>> theirs", ">>>>>>>"]
        lines = data.draw(
            st.lists(st.sampled_from([*odd, *"abcdef"]), min_size=1, max_size=8, unique=True)
        )
        first = data.draw(st.integers(0, len(lines) - 1))
        last = data.draw(st.integers(first + 1, len(lines)))
        new = data.draw(st.lists(st.sampled_from([*odd, "x", "y"]), max_size=4))
        reply = block("\n".join(lines[first:last]), "\n".join(new))
        outcome = apply_reply(make_program("\n".join(lines) + "\n", "page.txt"), reply)
        # Of rows alone nobody can say which of them is the divider.
        assume(not new or {"x", "y"} & set(new))
        assume(new[:1] != ["======="] or lines[last : last + 1] != new[:1])
        if isinstance(outcome, Program):
            whole = " ".join([*lines[:first], *new, *lines[last:]])
            assert outcome.entry.text.split() == whole.split()

    def test_rows_without_number_are_rejected(self):
        reply = block("\n".join(["======="] * 60), "x")
        assert "61 rows of `=`" in rejected(make_program(self.TITLED, "page.md"), reply).reason

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (">>>>>>> theirs\n", ">>>>>>> ours\n"),
            (
                "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> theirs\n",
                "<<<<<<< HEAD\nc\n=======\nd\n>>>>>>> x\n",
            ),
            ("b\n>>>>>>> theirs\nend\n", "b\n>>>>>>>\nend\nmore\n"),
        ],
    )
    def test_marks_of_conflicts_in_a_program_are_its_text(self, old, new):
        text = "SAMPLE = '''\n<<<<<<< HEAD\na\n=======\nb\n>>>>>>> theirs\nend\n'''\n"
        reply = block(old.removesuffix("\n"), new.removesuffix("\n"))
        assert applied(make_program(text), reply) == text.replace(old, new)
        assert applied(make_program(text), fence(text.replace("a\n", "z\n"))) == text.replace(
            "a\n", "z\n"
        )

    def test_blocks_with_different_marks_stay_apart(self):
        first = "<<<<<<< SEARCH\na = 1\n=======\na = 2\n>>>>>>>\n"
        second = "<<<<<<< ORIGINAL\nb = 1\n=======\nb = 2\n>>>>>>> UPDATED\n"
        parent = make_program("a = 1;\nb = 1;\n".replace(";", ""), "main.c")
        assert applied(parent, first + second) == "a = 2\nb = 2\n"

    FENCED = "Say:\n\n```json\n{}\n```\n\nor:\n\n```\nnothing\n```\nEnd.\n"

    def test_fences_of_a_program_are_its_text(self):
        parent = make_program(self.FENCED, "prompt.md")
        new = self.FENCED.replace("```json\n{}\n```", '```json\n{"a": 1}\n```\nthen')
        reply = block("```json\n{}\n```", '```json\n{"a": 1}\n```\nthen')
        assert applied(parent, reply) == new
        reply = block("```\nnothing\n```\nEnd.", "End.")
        assert applied(parent, reply) == "Say:\n\n```json\n{}\n```\n\nor:\n\nEnd.\n"

    def test_a_program_with_fences_is_taken_whole_or_not_at_all(self):
        one = "Say:\n\n```json\n{}\n```\nEnd.\n"
        new = one.replace("Say", "Answer")
        assert applied(make_program(one, "prompt.md"), fence(new.rstrip(), "markdown")) == new
        longer = f"````markdown\n{self.FENCED}````\n".replace("Say", "Answer")
        parent = make_program(self.FENCED, "prompt.md")
        assert applied(parent, longer) == self.FENCED.replace("Say", "Answer")
        reason = rejected(parent, longer.replace("````", "```")).reason
        assert "between lines of four backticks" in reason
        apart = fence(new.rstrip(), "markdown").replace("Done", "```text\nor this\n```\nDone")
        assert "four backticks" in rejected(make_program(one, "prompt.md"), apart).reason

    def test_fences_in_the_strings_of_a_program_are_code(self):
        text = 'PROMPT = """\n```json\n{}\n```\n"""\n\n\ndef f():\n    return PROMPT\n'
        new = text.replace("{}", "[]")
        assert applied(make_program(text), fence(new.rstrip())) == new


class TestOwnLanguage:
    @pytest.mark.parametrize(
        ("path", "old", "language", "new"),
        [
            ("main.sh", "read x; echo $((x * 3))\n", "bash", "read x; echo $((x * 4))\n"),
            ("main.sh", "read x; echo $((x * 3))\n", "console", "read x; echo $((x * 4))\n"),
            ("run", "#!/bin/sh\nread x\n", "sh", "#!/bin/sh\nread y\n"),
            ("config.json", '{"a": 1, "b": [1, 2]}\n', "json", '{"a": 2, "b": [1, 2]}\n'),
            ("config.yaml", "a: 1\n", "yaml", "a: 2\n"),
            ("prompt.txt", "Answer. Be brief.\n", "text", "Reply with one word alone.\n"),
            ("prompt.md", "Answer. Be brief.\n", "markdown", "# Reply\n\nwith one word.\n"),
            ("fix.diff", "+a = 1\n+b = 2\n", "diff", "+a = 1\n+b = 3\n"),
        ],
    )
    def test_a_fence_in_the_language_of_the_file_holds_the_program(self, path, old, language, new):
        assert applied(make_program(old, path), fence(new.rstrip(), language)) == new

    @pytest.mark.parametrize("language", ["bash", "text", "json", "yaml"])
    def test_other_fences_hold_commands_and_output(self, language):
        parent = make_program("int step = 1;\nint f() { return step; }\n", "main.c")
        reason = rejected(parent, fence("f returns step 1", language)).reason
        assert "resembles" in reason


class TestInventedNames:
    CODE = "def solve(x):\n    return x + 2"
    TITLES = (
        "**solution.py**", "# main.py", "File: solution.py", "Node.js:", "`std.sort`:",
        "`np.where`:", "### src/app/solver.py", "File `initial.py`:", "/tmp/x/initial.py",
    )  # fmt: skip

    @pytest.mark.parametrize("title", TITLES)
    def test_the_only_file_is_meant_whatever_its_name(self, title):
        parent = make_program("def solve(x):\n    return x + 1\n")
        edit = block("    return x + 1", "    return x + 2")
        for reply in (f"```python\n{self.CODE}\n```\n", f"```python\n{edit}```\n", edit):
            assert applied(parent, f"{title}\n{reply}") == self.CODE + "\n"
        inside = title.replace("`", "")
        assert applied(parent, f"```python {inside}\n{self.CODE}\n```") == self.CODE + "\n"

    def test_a_test_beside_the_program_is_not_the_program(self):
        parent = make_program("def solve(x):\n    return x + 1\n")
        test = "def test_solve():\n    assert solve(1) == 3\n\n\ndef test_more():\n    pass"
        reply = f"solution.py\n{fence(self.CODE)}\ntest_solution.py\n{fence(test)}"
        assert applied(parent, reply) == self.CODE + "\n"

    def test_of_several_names_in_another_language_the_right_one_counts(self):
        parent = make_program("int solve(int x) { return x + 1; }\n", "main.c")
        code = "int solve(int x) { return x + 2; }"
        test = "int main() { int x = solve(1); return x == 3; /* int solve int x */ }"
        reply = f"main.c\n```c\n{code}\n```\n\ntest_main.c\n```c\n{test}\n```\n"
        assert applied(parent, reply) == code + "\n"
        reason = rejected(parent, reply.replace("main.c", "solver.c")).reason
        assert "names several files, solver.c, test_solver.c; the program has main.c" in reason


class TestFiles:
    TWO = Program((SourceFile("main.py", "a = 1\n"), SourceFile("lib/tools.py", "a = 1\n")))

    def texts(self, reply: str) -> list[str]:
        outcome = apply_reply(self.TWO, reply)
        assert isinstance(outcome, Program), outcome
        return [file.text for file in outcome.files]

    def test_the_entry_file_is_the_default(self):
        assert self.texts(block("a = 1", "a = 2")) == ["a = 2\n", "a = 1\n"]

    @pytest.mark.parametrize(
        "title",
        [
            "lib/tools.py",
            "File `lib/tools.py`:\n",
            "### FILE: lib/tools.py",
            "**`lib/tools.py`**:",
            "File: tools.py",
            "tools.py",
        ],
    )
    def test_a_line_above_a_block_names_its_file(self, title):
        assert self.texts(f"{title}\n" + block("a = 1", "a = 2")) == ["a = 1\n", "a = 2\n"]

    def test_a_line_above_a_fence_around_a_block_names_its_file(self):
        reply = "lib/tools.py\n```python\n" + block("a = 1", "a = 2") + "```\n"
        assert self.texts(reply) == ["a = 1\n", "a = 2\n"]

    def test_several_files_change_in_one_reply(self):
        reply = block("a = 1", "a = 2") + "lib/tools.py\n" + block("a = 1", "a = 3")
        assert self.texts(reply) == ["a = 2\n", "a = 3\n"]

    def test_fenced_files_are_rewritten_each(self):
        reply = "### FILE: main.py\n```python\na = 5\n```\n\n```python lib/tools.py\na = 6\n```\n"
        assert self.texts(reply) == ["a = 5\n", "a = 6\n"]

    @pytest.mark.parametrize("body", [block("a = 1", "a = 2"), "```python\na = 2\n```\n"])
    def test_an_unknown_file_is_rejected(self, body):
        reason = rejected(self.TWO, "### FILE: other.py\n" + body).reason
        assert "unknown file 'other.py'" in reason
        assert "main.py, lib/tools.py" in reason


class TestAddedFiles:
    ONE = Program((SourceFile("main.py", "a = 1\n"),))

    def texts(self, reply: str) -> dict[str, str]:
        outcome = apply_reply(self.ONE, reply, may_add=("lib/*.py", "*.json"))
        assert isinstance(outcome, Program), outcome
        return dict(outcome.files)

    def test_a_named_fence_is_a_new_file_and_the_rest_an_edit(self):
        reply = f"{new('lib/more.py', 'b = 2')}\n{block('a = 1', 'a = 3')}"
        assert self.texts(reply) == {"main.py": "a = 3\n", "lib/more.py": "b = 2\n"}

    def test_new_files_alone_are_a_change(self):
        reply = f"{new('`data.json`:', '[1, 2]')}"
        assert self.texts(reply) == {"main.py": "a = 1\n", "data.json": "[1, 2]\n"}

    def test_a_name_that_no_pattern_allows_is_the_program_itself(self):
        assert self.texts(f"{new('other.py', 'a = 5')}") == {"main.py": "a = 5\n"}

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (f"{new('lib/more.py', 'def (')}", "syntax error in lib/more.py, line 1"),
            (f"{new('lib/more.py', 'b = 2')}\n{block('z = 9', 'z = 8')}", "not"),
            ("".join(f"{new(f'lib/m{n}.py', 'b = 2')}" for n in range(21)), "more than 20 files"),
        ],
    )
    def test_what_cannot_be_added_is_refused_whole(self, reply, reason):
        outcome = apply_reply(self.ONE, reply, may_add=("lib/*.py",))
        assert isinstance(outcome, Rejected)
        assert reason in outcome.reason
