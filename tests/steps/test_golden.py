"""Complete prompts, word for word; `EVOLVE_UPDATE_GOLDEN=1 pytest` writes them anew."""

import os
from itertools import takewhile
from pathlib import Path

import pytest

from evolve.problem import load_problem
from evolve.records import AttemptKey
from evolve.settings import Settings, change_settings
from evolve.steps.agent import agent_messages
from evolve.steps.execute import edit_messages, repair_messages
from evolve.steps.plan import plan_messages
from evolve.steps.prompt import show_messages
from evolve.steps.summarize import summary_messages
from tests.steps.examples import PLAN, make_attempt, make_digest, make_selection

GOLDEN = Path(__file__).parents[1] / "golden"
SETTINGS = change_settings(Settings(), {"models.model": ["scripted"]}, where="test")
SEVERAL = change_settings(SETTINGS, {"steps.plans": 3}, where="test")


def prompts(problem):
    selection, digest = make_selection(problem), make_digest(problem)
    failed = make_attempt(problem, AttemptKey(3, 0, 0), None)
    dull = make_attempt(problem, AttemptKey(3, 0, 1), -8.5)
    planned = (problem, selection, digest)
    edited = (problem, selection, PLAN, digest)
    return {
        "plan": plan_messages(*planned, settings=SETTINGS),
        "plan_several": plan_messages(*planned, settings=SEVERAL, earlier=(PLAN,)),
        "leap": plan_messages(*planned, settings=SETTINGS, leaps=True),
        "edit": edit_messages(*edited, settings=SETTINGS, form="edit"),
        "edit_again": edit_messages(
            *edited, settings=SETTINGS, form="edit", attempts=(failed, dull)
        ),
        "rewrite": edit_messages(*edited, settings=SETTINGS, form="rewrite"),
        "lines": edit_messages(*edited, settings=SETTINGS, form="lines"),
        "agent": agent_messages(*edited, settings=SETTINGS),
        "repair": repair_messages(problem, failed),
        "summarize": summary_messages(problem, selection, PLAN, (failed, dull), settings=SETTINGS),
    }


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.md")))
def test_a_prompt_reads_as_it_did(name, problem):
    assert (
        show_messages(prompts(load_problem(problem))[name]) == (GOLDEN / f"{name}.md").read_text()
    )


def test_every_prompt_has_its_golden_text(problem):
    found = prompts(load_problem(problem))
    if os.environ.get("EVOLVE_UPDATE_GOLDEN"):
        for name, messages in found.items():
            (GOLDEN / f"{name}.md").write_text(show_messages(messages))
    assert {path.stem for path in GOLDEN.glob("*.md")} == set(found)


def shared_start(*texts: str) -> str:
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False))
    return "".join(column[0] for column in alike)


def test_prompts_begin_alike_so_that_providers_read_the_problem_once(problem):
    found = {name: show_messages(chat) for name, chat in prompts(load_problem(problem)).items()}
    start = shared_start(*(found[name] for name in ("plan", "leap", "edit", "agent")))
    assert "def point()" in start
    assert "# Other good programs" in start
    assert "Return two numbers" in shared_start(found["plan"], found["summarize"])
