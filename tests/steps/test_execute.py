import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from evolve.models.budget import Budget
from evolve.models.model import ReplyError
from evolve.problem import load_problem
from evolve.records import AttemptKey, Evaluation, Plan, Program, Rejected, SourceFile, Status
from evolve.records.chat import Message, Reply
from evolve.records.results import Call
from evolve.settings.sections import BudgetSettings
from evolve.steps.execute import UNNAMED, Draft, Editor, edit_messages
from evolve.steps.jobs import GenerationJob, ModelJob, Seat
from evolve.steps.journal import Journal
from evolve.steps.plan import make_plans, parse_plans
from evolve.steps.recorder import check_program
from evolve.steps.slot import run_slot
from tests.builders import PLAN, SETTINGS, make_attempt, make_digest

PACKING = Path(__file__).parents[2] / "problems" / "circle_packing"
EDIT = "<<<<<<< SEARCH\n    first = 3.5\n=======\n    first = {}\n>>>>>>> REPLACE"


def ask_first(editor: Editor) -> Draft:
    return editor.draft(edit_messages(editor.digest, editor.seat, editor.plan), 7)


class TestEditor:
    def open(self, problem, *replies, plan=None, seat=None):
        """Returns an editor that is answered in turn, and what it asks."""
        asked = []
        answers = iter(replies)

        def ask(request):
            asked.append(request)
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, Reply) else Reply(answer, "m")

        return Editor(make_digest(problem), seat or Seat(), plan, ask), asked

    def test_one_reply_holds_the_plan_and_the_program(self, problem):
        reply = f"Base: 2.1.0\nChange: round it\n\n{EDIT.format(3.0)}"
        editor, asked = self.open(load_problem(problem), reply)
        draft = ask_first(editor)
        assert draft.plan == Plan("round it", base="2.1.0")
        assert "first = 3.0" in draft.made.entry.text
        assert (asked[0].role, asked[0].seed, asked[0].max_tokens) == ("editor", 7, None)

    def test_a_plan_of_a_planner_is_carried_out_on_its_base(self, problem):
        plan = dataclasses.replace(PLAN, base="1.0.0")
        reply = EDIT.replace("3.5", "2.5").format(9.0)
        editor, asked = self.open(load_problem(problem), reply, plan=plan)
        draft = ask_first(editor)
        assert (draft.plan, str(draft.base.key)) == (plan, "1.0.0")
        assert "Move the first number towards 3" in asked[0].messages[-1].text

    def test_a_leap_is_asked_of_its_own_role(self, problem):
        editor, asked = self.open(load_problem(problem), "no", seat=Seat(leap=True))
        ask_first(editor)
        assert asked[0].role == "leap"
        assert "The search has stalled" in asked[0].messages[-1].text

    def test_a_repair_keeps_the_plan_and_sees_what_happened(self, problem):
        found = load_problem(problem)
        head = "Base: 2.1.0\nChange: round it\n\n"
        editor, asked = self.open(found, head + EDIT.format("1 / 0"), EDIT.format(3.0))
        draft = ask_first(editor)
        failed = make_attempt(found, AttemptKey(3, 0, 0), None)
        repaired = editor.repair(draft, failed, 8)
        assert repaired.plan == draft.plan
        assert "first = 3.0" in repaired.made.entry.text
        told = asked[1].messages[-1].text
        assert "ValueError: no such point" in told
        assert "after 0.25 s" in told
        assert asked[1].messages[-2].text.startswith("Base: 2.1.0")

    def test_an_unusable_reply_is_a_rejection_with_its_reason(self, problem):
        editor, _ = self.open(load_problem(problem), ReplyError("it is empty"))
        draft = ask_first(editor)
        assert draft.made == Rejected("the editor's reply cannot be used: it is empty")
        assert draft.plan.change == UNNAMED


class TestPlans:
    def plan(self, problem, text, count=3):
        asked = []

        def ask(request):
            asked.append(request)
            return Reply(text, "m")

        digest = make_digest(load_problem(problem))
        return make_plans(digest, count, ask=ask, seed=1), asked

    def test_one_call_gives_the_plans_of_all_slots_each_with_its_base(self, problem):
        text = (
            '{"plans": [{"base": "1.0.0", "change": "one\\n    code", "expect": -7, "tags": ["a"]},'
            ' {"base": "?", "change": ["two", "lines"]}, {"why": "no change"}, {"change": "3"},'
            ' {"change": "4"}]}'
        )
        plans, asked = self.plan(problem, text)
        assert [(plan.base, plan.change) for plan in plans] == [
            ("1.0.0", "one\n    code"),
            ("2.1.0", "two\nlines"),
            ("2.1.0", "3"),
        ]
        assert plans[0].tags == ("a",)
        assert len(asked) == 1
        assert asked[0].role == "planner"

    def test_plans_that_stand_alone_or_are_cut_off_are_read(self, problem):
        plans, _ = self.plan(problem, 'First {"change": "one"} and then {"change": "two"}.')
        assert [plan.change for plan in plans] == ["one", "two"]
        plans, _ = self.plan(problem, '{"plans": [{"change": "one"}, {"change": "tw')
        assert [plan.change for plan in plans] == ["one", "tw"]

    @pytest.mark.parametrize("text", ["", "no plan", '{"plans": []}', '{"plans": [{"why": "x"}]}'])
    def test_a_reply_without_a_change_is_a_rejection(self, problem, text):
        plans, asked = self.plan(problem, text)
        assert plans == Rejected("the planner's reply names no change")
        assert len(asked) == 2

    def test_a_reply_that_cannot_be_read_is_asked_about_once(self, problem):
        replies = ["Use a closed form.", '{"plan": {"Change": ["use exp", "and log"]}}']
        asked = []

        def ask(request):
            asked.append(request)
            return Reply(replies[len(asked) - 1], "m")

        (plan,) = make_plans(make_digest(load_problem(problem)), 3, ask=ask, seed=1)
        assert plan.change == "use exp\nand log"
        before, (answer, question) = asked[1].messages[:-2], asked[1].messages[-2:]
        assert before == asked[0].messages
        assert answer == Message("assistant", replies[0])
        assert "names no change. Answer with the JSON object alone" in question.text

    @pytest.mark.parametrize(
        ("text", "changes"),
        [
            ('Draft: {"change": "a"} No. Final: {"change": "b"}', ["b"]),
            ('{"plans": {"1": {"Change": "a"}}} {"x": 1}', ["a"]),
            ('{"plan": [{"idea": "a", "hypothesis": "h"}]}', ["a"]),
            ('[{"change": {"file": "f", "what": "w"}}]', ["file: f\nwhat: w"]),
            ('{"plans": [{"change": "whole"}]} {"plans": [{"change": "cut', ["whole"]),
        ],
    )
    def test_the_last_plans_of_the_right_shape_count(self, problem, text, changes):
        plans, _ = self.plan(problem, text, 1)
        assert [plan.change for plan in plans] == changes

    def test_the_last_list_of_plans_counts(self, problem):
        found = load_problem(problem)
        text = '{"plans": [{"change": "draft"}]} No: {"plans": [{"change": "final"}]}'
        (plan,) = parse_plans(text, make_digest(found), 3)
        assert plan.change == "final"


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


TOOLS = {
    "elites": lambda _: "abc  objective 1",
    "program": lambda name: f"source of {name}" if name == "abc" else "",
    "search": lambda words: f"found {words}",
}


class TestAgent:
    def work(self, problem, replies, evaluations=9, turns=12):
        """Lets an agent work on replies in turn; returns its attempts and what it was shown."""
        chats = []
        queue = iter(replies)

        def answer(key, request):
            chats.append(request.messages)
            reply = Reply(next(queue), "m", prompt_tokens=100, completion_tokens=10)
            return Call(key, request, reply)

        journal = Journal(
            endpoints={}, evaluator=lambda _: Evaluation(Status.OK, -9.0), keep=lambda _: None,
            budget=Budget(BudgetSettings()), workers=1, deadline_seconds=1.0, recording=answer,
        )  # fmt: skip
        steps = dataclasses.replace(SETTINGS.steps, agent_turns=turns)
        job = ModelJob(0, 0, Seat(), evaluations, tools=TOOLS)
        digest = dataclasses.replace(make_digest(problem), steps=steps)
        generation = GenerationJob(3, (job,), lambda _: None, lambda _: None, digest=digest)
        rng, slot = np.random.default_rng(0), journal.open_slot(3, 0)
        result = run_slot(job, generation, None, rng=rng, journal=slot)
        return list(result.attempts), chats

    def test_it_reads_evaluates_and_finishes(self, problem):
        replies = [
            '{"tool": "elites"}',
            '{"tool": "program", "id": "abc"}',
            '{"tool": "search", "words": "grid"}',
            '{"tool": "lessons"}',
            '{"tool": "statement"}',
            '{"tool": "rm -rf"}',
            EDIT.format(4.0),
            '{"tool": "finish"}',
        ]
        attempts, chats = self.work(load_problem(problem), replies)
        shown = [chat[-1].text for chat in chats[1:]]
        assert "abc  objective 1" in shown[0]
        assert "source of abc" in shown[1]
        assert "found grid" in shown[2]
        assert "Negative numbers lose." in shown[3]
        assert "hidden point" in shown[4]
        assert "no tool of that name" in shown[5]
        assert "does not gain" in shown[6]
        assert [attempt.objective for attempt in attempts] == [-9.0]

    def test_it_stops_at_its_caps(self, problem):
        found = load_problem(problem)
        edits = [EDIT.format(float(number)) for number in range(4, 40)]
        assert len(self.work(found, edits, turns=8)[0]) == 2
        assert len(self.work(found, edits, evaluations=1)[0]) == 1
        reads = ['{"tool": "elites"}'] * 50
        assert len(self.work(found, reads, turns=5)[1]) == 5

    def test_a_draft_that_does_not_apply_is_shown_and_costs_no_evaluation(self, problem):
        replies = ["I would change the number.", EDIT.format(4.0), '{"tool": "finish"}']
        attempts, chats = self.work(load_problem(problem), replies)
        assert [attempt.objective for attempt in attempts] == [None, -9.0]
        assert "neither edits nor a program" in chats[1][-1].text


class TestRepairs:
    def repair(self, problem, first, second):
        asked = []
        answers = iter((first, second))

        def ask(request):
            asked.append(request)
            return Reply(next(answers), "m")

        found = load_problem(problem)
        editor = Editor(make_digest(found), Seat(), None, ask)
        draft = ask_first(editor)
        failed = make_attempt(found, AttemptKey(3, 0, 0), None)
        rejected = Evaluation(Status.REJECTED, reason=draft.made.reason)
        failed = dataclasses.replace(failed, program=None, evaluation=rejected)
        return editor.repair(draft, failed, 2), asked[1].messages[-1].text

    def test_a_plan_without_code_is_asked_for_its_code_alone(self, problem):
        plan = "Base: 1.0.0\nChange: round it\nWhy: it is odd"
        edit = "<<<<<<< SEARCH\n    first = 2.5\n=======\n    first = 1.25\n>>>>>>> REPLACE\n"
        draft, asked = self.repair(problem, plan, edit)
        assert "Write the code alone now" in asked
        assert (str(draft.base.key), draft.plan.base) == ("1.0.0", "1.0.0")
        assert draft.plan.change == "round it"
        assert isinstance(draft.made, Program)

    def test_edits_that_fit_nowhere_are_asked_for_in_the_same_form(self, problem):
        _, asked = self.repair(problem, EDIT.format(3.0).replace("3.5", "77.0"), "")
        assert "Answer in the same form as before." in asked
