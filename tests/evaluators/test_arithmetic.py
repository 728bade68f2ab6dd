"""Prompts and agents that do sums, against a model that is right by itself."""

import re
from types import SimpleNamespace

import pytest
from arithmetic_agent import PRICE, draw_lists
from arithmetic_agent import evaluate as evaluate_agent
from arithmetic_prompt import draw_sums, evaluate, evaluate_holdout

from evolve.scoring import Infeasible


def add(text):
    return sum(int(sign + digits) for sign, digits in re.findall(r"([-+]?) ?(\d+)", text))


def ask_with(prompt, answer):
    program = SimpleNamespace(
        files={"prompt.txt": prompt},
        ask_all=lambda prompts: [answer(one.rpartition("\n")[2]) for one in prompts],
    )
    return evaluate(program, seed=0, questions=24)


def test_sums_have_the_values_that_they_say_and_hold_outs_are_others():
    sums = draw_sums(0, 50)
    assert all(add(text) == value for text, value in sums)
    assert not {text for text, _ in sums} & {text for text, _ in draw_sums(1_000_003, 50)}


def test_the_right_number_and_nothing_else_counts():
    assert ask_with("Add.", lambda text: f" {add(text)}\n").objective == 1.0
    assert ask_with("Add.", lambda text: f"It is {add(text)}.").objective == 0.0
    found = ask_with("Add.", lambda text: str(add(text) + 1))
    assert (found.objective, found.metrics["numbers_alone"]) == (0.0, 1.0)
    assert set(found.instances.values()) == {0.0}


@pytest.mark.parametrize("prompt", ["", " \n", "a" * 4001])
def test_no_prompt_and_too_long_ones_are_infeasible(prompt):
    with pytest.raises(Infeasible, match=r"^prompt\.txt: expected a prompt of 1 to 4000"):
        ask_with(prompt, str)


def test_a_hold_out_asks_other_sums():
    asked = []
    program = SimpleNamespace(
        files={"prompt.txt": "Add."}, ask_all=lambda prompts: asked.append(prompts) or prompts
    )
    evaluate(program, seed=0, questions=5)
    evaluate_holdout(program, seed=0, questions=5)
    assert not set(asked[0]) & set(asked[1])


class Agent:
    """Answers with what it is told, after some questions for each list."""

    def __init__(self, answer, questions):
        self.asked, self._answer, self._questions = 0, answer, questions

    def call(self, _, terms):
        self.asked += self._questions
        return self._answer(terms)

    def restart(self):
        pass


@pytest.mark.parametrize(
    ("answer", "questions", "objective"),
    [
        (sum, 3, 1.0 - 3 * PRICE),
        (lambda terms: sum(terms) + 1, 3, -3 * PRICE),
        (sum, 0, 0.0),  # it added by itself
        (sum, 41, -40 * PRICE),
    ],
)
def test_right_sums_count_less_the_questions_that_were_asked(answer, questions, objective):
    found = evaluate_agent(Agent(answer, questions), seed=0, questions=4)
    assert found.objective == pytest.approx(objective)
    assert len(found.instances) == len(draw_lists(0, 4)) == 4


@pytest.mark.parametrize("answer", [lambda _: "7", lambda _: True, lambda _: 7.0, lambda _: None])
def test_what_is_no_whole_number_is_infeasible(answer):
    with pytest.raises(Infeasible, match=r"^solve: expected a whole number"):
        evaluate_agent(Agent(answer, 1), seed=0, questions=1)
