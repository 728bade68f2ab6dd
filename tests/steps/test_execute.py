import dataclasses
import json
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.edits import LineEdit, apply_line_edits
from evolve.errors import BudgetExhaustedError
from evolve.problem import load_problem
from evolve.records import Evaluation, Plan, Program, Rejected, SourceFile, Status
from evolve.records.chat import Reply
from evolve.settings import Settings, change_settings
from evolve.steps.agent import Agent
from evolve.steps.checks import check_program
from evolve.steps.execute import Editor, find_form
from evolve.steps.memory import Calibration
from evolve.steps.plan import choose_plan, make_plan
from evolve.steps.start import PlanBoard
from tests.steps.examples import PLAN, make_attempt, make_digest, make_selection

PACKING = Path(__file__).parents[2] / "problems" / "circle_packing"
TEXT = "import math\n# EVOLVE-BLOCK-START\ndef f(x):\n    y = 1\n    return y\n# EVOLVE-BLOCK-END\n"
PARENT = Program((SourceFile("initial.py", TEXT),))


def settings(**changes) -> Settings:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return change_settings(Settings(), {"models.model": ["scripted"], **keys}, where="test")


class TestLineEdits:
    def test_lines_are_replaced_by_number(self):
        made = apply_line_edits(PARENT, [LineEdit(4, 5, ("    return x",))])
        assert made.entry.text == TEXT.replace("    y = 1\n    return y", "    return x")

    def test_lost_indentation_is_put_back(self):
        made = apply_line_edits(PARENT, [LineEdit(4, 4, ("y = 2",))])
        assert "    y = 2\n" in made.entry.text

    def test_line_ends_stay_as_they_are(self):
        crlf = Program((SourceFile("initial.py", TEXT.replace("\n", "\r\n")),))
        made = apply_line_edits(crlf, [LineEdit(4, 4, ("    y = 2",))])
        assert made.entry.text == TEXT.replace("y = 1", "y = 2").replace("\n", "\r\n")

    def test_a_line_that_ends_one_range_and_begins_the_next_is_replaced_once(self):
        edits = [LineEdit(3, 4, ("def f(x):", "    z = 2")), LineEdit(4, 5, ("    return z",))]
        made = apply_line_edits(PARENT, edits)
        assert made.entry.text == TEXT.replace("y = 1\n    return y", "z = 2\n    return z")

    @pytest.mark.parametrize(
        ("edits", "reason"),
        [
            ([(1, 1, "import os")], "outside its evolvable block"),
            ([(2, 2, "x = 1")], "outside its evolvable block"),
            ([(4, 99, "x")], "names the lines 4 to 99"),
            ([(0, 1, "x")], "names the lines 0 to 1"),
            ([(4, 5, "    y = 2"), (5, 5, "    return 1")], "two edits"),
            ([(4, 4, "    y = 2"), (4, 5, "    return 1")], "two edits"),
            ([(3, 5, "def f(x):"), (4, 6, "    return 1")], "two edits"),
            ([(4, 4, "    y = (")], "syntax error"),
            ([(4, 4, "    y = 1")], "changes nothing"),
        ],
    )
    def test_what_cannot_be_applied_says_why(self, edits, reason):
        made = apply_line_edits(PARENT, [LineEdit(a, b, (text,)) for a, b, text in edits])
        assert isinstance(made, Rejected)
        assert reason in made.reason

    @given(
        st.lists(
            st.builds(
                LineEdit,
                st.integers(-2, 9),
                st.integers(-2, 9),
                st.lists(st.text("xy =()#\n\t\r"), max_size=3).map(tuple),
            ),
            max_size=4,
        )
    )
    def test_no_edit_changes_anything_outside_the_block(self, edits):
        made = apply_line_edits(PARENT, edits)
        if isinstance(made, Program):
            assert made.entry.text.startswith(TEXT.partition("def")[0])
            assert made.entry.text.endswith("# EVOLVE-BLOCK-END\n")


class TestEditor:
    def edit(self, problem, text: str, **changes):
        selection, digest = make_selection(problem), make_digest(problem)
        asked = []

        def ask(request):
            asked.append(request)
            return Reply(text, "m")

        editor = Editor(problem, selection, PLAN, digest, ask=ask, settings=settings(**changes))
        return editor.draft(editor.open([]), 7)[0].made, asked[0]

    def test_numbered_edits_are_asked_for_by_shape_and_applied(self, problem):
        reply = (
            'So: {"idea": "i", "edits": [{"first": 3, "last": 3, "lines": ["    first = 3.0"]}]}'
        )
        made, request = self.edit(load_problem(problem), reply, steps__form="lines")
        assert "    first = 3.0\n" in made.entry.text
        numbers = json.loads(request.schema)["properties"]["edits"]["items"]["properties"]["first"]
        assert (numbers["minimum"], numbers["maximum"]) == (2, 5)
        assert "   3|     first = 3.5" in request.messages[-1].text

    def test_search_and_replace_is_taken_where_numbers_were_asked_for(self, problem):
        reply = "<<<<<<< SEARCH\n    first = 3.5\n=======\n    first = 3.0\n>>>>>>> REPLACE"
        made, _ = self.edit(load_problem(problem), reply, steps__form="lines")
        assert "first = 3.0" in made.entry.text

    @pytest.mark.parametrize("edits", ['[{"first": 3}]', '[{"first": "a", "lines": []}]', "[3]"])
    def test_broken_numbers_are_a_rejection(self, problem, edits):
        made, _ = self.edit(load_problem(problem), f'{{"edits": {edits}}}', steps__form="lines")
        assert isinstance(made, Rejected)

    def test_a_form_follows_the_settings_and_what_a_model_can_do(self, problem):
        digest = make_digest(load_problem(problem))
        assert find_form(settings(), PARENT, digest) == "edit"
        assert find_form(settings(steps__form="rewrite"), PARENT, digest) == "rewrite"
        several = Program((*PARENT.files, SourceFile("b.py", "x = 1\n")))
        assert find_form(settings(steps__form="lines"), several, digest) == "edit"


class TestPlans:
    def test_the_most_promising_of_several_plans_is_taken(self):
        plans = [
            Plan("a", predicted_gain=1.0, tags=("dud",)),
            Plan("b", predicted_gain=0.5, tags=("good",)),
            Plan("c"),
        ]
        known = Calibration(0.5, 9, (("dud", 0.1), ("good", 0.9)))
        assert choose_plan(plans, known).change == "b"
        assert choose_plan(plans[2:], known).change == "c"

    def test_a_leap_is_asked_of_its_own_role_with_the_failures_named(self, problem):
        found = load_problem(problem)
        asked = []

        def ask(request):
            asked.append(request)
            return Reply('{"change": "drop the grid"}', "m")

        plan = make_plan(
            found,
            make_selection(found),
            make_digest(found),
            ask=ask,
            settings=settings(),
            seed=1,
            leaps=True,
        )
        assert plan.change == "drop the grid"
        assert asked[0].role == "leap"
        assert "Ideas that never gained" in asked[0].messages[-1].text

    def test_an_object_that_repeats_the_prompt_is_no_plan(self, problem):
        found = load_problem(problem)
        reply = '{"change": "what to change, precisely enough to be carried out"}'
        plan = make_plan(
            found,
            make_selection(found),
            make_digest(found),
            ask=lambda _: Reply(reply, "m"),
            settings=settings(),
            seed=1,
        )
        assert plan == Rejected("the planner's reply names no change")


class TestPlanBoard:
    def test_a_slot_gets_the_plans_of_all_slots_before_it_whatever_their_order_in_time(self):
        board = PlanBoard(3)
        found = []
        thread = threading.Thread(target=lambda: found.append(board.earlier(2)))
        thread.start()
        board.leave(1, None)
        board.leave(0, PLAN)
        board.leave(0, None, cut_by="late")
        thread.join(5)
        assert found == [(PLAN,)]
        assert board.earlier(0) == ()

    def test_a_slot_is_cut_with_the_ones_it_waits_for(self):
        board = PlanBoard(2)
        board.leave(0, None, cut_by="max_cost_usd")
        with pytest.raises(BudgetExhaustedError, match="slot 0 was cut") as caught:
            board.earlier(1)
        assert caught.value.cap == "max_cost_usd"


class TestChecks:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("def other(): pass\n", "expected a function `pack`"),
            ("import sklearn\ndef pack(): pass\n", "imports `sklearn`.*there are: numpy"),
            ("from torch.nn import Module\ndef pack(): pass\n", "imports `torch`"),
            ("def pack():\n    return much\n", "name `much`, used in what begins on line 1"),
        ],
    )
    def test_what_surely_fails_is_told_before_an_evaluation(self, text, reason):
        found = load_problem(PACKING)
        program = Program((SourceFile("initial.py", text),))
        refusal = check_program(program, found, frozenset({"numpy"}))
        assert isinstance(refusal, Rejected)
        assert re.search(reason, refusal.reason)

    @pytest.mark.parametrize(
        "text",
        [
            "import numpy.linalg, os\nfrom helper import x\ndef pack(): pass\n",
            "try:\n    import numba\nexcept ImportError:\n    numba = None\ndef pack(): pass\n",
            "def pack():\n    import scipy\n",
            "from helper import *\ndef pack():\n    return x\n",
        ],
    )
    def test_what_may_work_is_left_to_the_evaluation(self, text):
        found = load_problem(PACKING)
        program = Program((SourceFile("initial.py", text), SourceFile("helper.py", "x = 1\n")))
        assert check_program(program, found, frozenset({"numpy"})) is None
        assert check_program(program, found, frozenset()) is None


class SmallLibrary:
    def elites(self):
        return "abc  objective 1"

    def program(self, name):
        return f"source of {name}" if name == "abc" else ""

    def search(self, words):
        return f"found {words}"


class TestAgent:
    def work(self, problem, replies, evaluations=9, **changes):
        """Lets an agent work on replies in turn; gives its drafts and what it was told."""
        selection = make_selection(problem)
        drafts, chats = [], []
        queue = iter(replies)

        def ask(request):
            chats.append(request.messages)
            return Reply(next(queue), "m", prompt_tokens=100, completion_tokens=10)

        def attempt(made):
            drafts.append(made)
            status = Status.REJECTED if isinstance(made, Rejected) else Status.OK
            attempt = make_attempt(problem, selection.parent.attempt.key, -9.0)
            if status is Status.REJECTED:
                rejected = Evaluation(Status.REJECTED, reason=made.reason)
                return dataclasses.replace(attempt, program=None, evaluation=rejected)
            return attempt

        agent = Agent(
            problem,
            selection,
            PLAN,
            make_digest(problem),
            ask=ask,
            attempt=attempt,
            library=SmallLibrary(),
            settings=settings(**changes),
        )
        agent.work(lambda: 1, evaluations)
        return drafts, chats

    EDIT = "<<<<<<< SEARCH\n    first = 3.5\n=======\n    first = {}\n>>>>>>> REPLACE"

    def test_it_reads_evaluates_and_finishes(self, problem):
        replies = [
            '{"tool": "elites"}',
            '{"tool": "program", "id": "abc"}',
            '{"tool": "search", "words": "grid"}',
            '{"tool": "lessons"}',
            '{"tool": "statement"}',
            '{"tool": "rm -rf"}',
            self.EDIT.format(4.0),
            '{"tool": "finish"}',
        ]
        drafts, chats = self.work(load_problem(problem), replies)
        told = [chat[-1].text for chat in chats[1:]]
        assert "abc  objective 1" in told[0]
        assert "source of abc" in told[1]
        assert "found grid" in told[2]
        assert "Signs matter." in told[3]
        assert "hidden point" in told[4]
        assert "no tool of that name" in told[5]
        assert "does not gain" in told[6]
        assert [type(draft) for draft in drafts] == [Program]

    def test_it_stops_at_its_caps(self, problem):
        found = load_problem(problem)
        edits = [self.EDIT.format(float(number)) for number in range(4, 40)]
        assert len(self.work(found, edits, steps__agent_evaluations=2)[0]) == 2
        assert len(self.work(found, edits, evaluations=1)[0]) == 1
        reads = ['{"tool": "elites"}'] * 50
        assert len(self.work(found, reads, steps__agent_turns=5)[1]) == 5
        assert (
            len(self.work(found, reads, steps__agent_tokens=1000, steps__agent_turns=50)[1]) == 10
        )

    def test_a_draft_that_does_not_apply_is_told_and_costs_no_evaluation(self, problem):
        replies = ["I would change the number.", self.EDIT.format(4.0), '{"tool": "finish"}']
        drafts, chats = self.work(load_problem(problem), replies)
        assert [type(draft) for draft in drafts] == [Rejected, Program]
        assert "neither edits nor a program" in chats[1][-1].text
