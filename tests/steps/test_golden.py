"""Complete prompts, word for word; `EVOLVE_UPDATE_GOLDEN=1 pytest` writes them anew."""

import dataclasses
import os
from itertools import takewhile
from pathlib import Path

import pytest

from evolve.problem import load_problem
from evolve.records import AttemptKey
from evolve.steps.execute import edit_messages, repair_messages
from evolve.steps.jobs import Seat
from evolve.steps.plan import plan_messages
from evolve.steps.prompt import show_messages
from evolve.steps.slot import TOOLS
from evolve.steps.summarize import summary_messages
from tests.builders import PLAN, SETTINGS, make_attempt, make_digest

GOLDEN = Path(__file__).parents[1] / "golden"
AGENT = dataclasses.replace(SETTINGS.steps, agent_turns=12)
NAMES = ("agent", "edit", "edit_alone", "edit_leap", "edit_planned", "edit_rewrite", "plan")


def prompts(problem):
    digest = make_digest(problem)
    failed = make_attempt(problem, AttemptKey(3, 0, 0), None)
    dull = make_attempt(problem, AttemptKey(3, 1, 0), -8.5)
    edits = {
        "edit": (digest, Seat(2, 4), None),
        "edit_alone": (make_digest(problem, pending=(PLAN,)), Seat(), None),
        "edit_leap": (digest, Seat(0, 4, leap=True), None),
        "edit_planned": (digest, Seat(0, 4), PLAN),
        "edit_rewrite": (make_digest(problem, rewrites=True), Seat(0, 4), None),
    }
    return {
        **{name: edit_messages(*one) for name, one in edits.items()},
        "plan": plan_messages(digest, 4),
        "agent": edit_messages(
            dataclasses.replace(digest, steps=AGENT), Seat(2, 4), None, tools=TOOLS
        ),
        "repair": repair_messages(problem, failed),
        "summarize": summary_messages(digest, [[failed], [dull]]),
    }


@pytest.mark.parametrize("name", [*NAMES, "repair", "summarize"])
def test_a_prompt_reads_as_it_did(name, problem):
    shown = show_messages(prompts(load_problem(problem))[name])
    path = GOLDEN / f"{name}.md"
    if os.environ.get("EVOLVE_UPDATE_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()


def test_every_golden_text_is_of_a_prompt(problem):
    assert {path.stem for path in GOLDEN.glob("*.md")} == set(prompts(load_problem(problem)))


def shared_start(*texts: str) -> str:
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False))
    return "".join(column[0] for column in alike)


def test_prompts_of_a_generation_begin_alike_so_that_providers_read_the_page_once(problem):
    found = load_problem(problem)
    digest = make_digest(found)
    seats = [show_messages(edit_messages(digest, Seat(number, 4), None)) for number in range(4)]
    start = shared_start(*seats)
    assert "def point()" in start
    assert "All attempts so far" in start
    assert "engineers answer this same page" in start
