import pytest

from evolve.errors import UsageError
from evolve.models.budget import Price
from evolve.records.chat import Message
from evolve.runs.wiring import TYPICAL_TOKENS, estimate_roles, expect_two_generations
from evolve.settings import Settings, change_settings
from tests.commands import run_evolve

PROMPTS = {step: (Message("user", "word " * 750),) for step in ("plan", "edit", "summarize")}
PRICES = {"a": Price(1e-6, 2e-6), "b": Price(3e-6, 6e-6), "c": None}


def make_settings(**changes: object) -> Settings:
    changes = {
        "models.model": ["a"],
        "loop.slots": 4,
        **{key.replace("__", "."): v for key, v in changes.items()},
    }
    return change_settings(Settings(), changes, where="test")


def test_a_role_costs_what_its_models_cost_by_weight():
    settings = make_settings(models__planner=["a"], models__editor=["a", "3*b"], steps__repairs=0)
    planner, editor, summarizer = estimate_roles(settings, PROMPTS, PRICES.get)
    # One call for the four slots of a generation.
    assert planner[2:5] == (0.25, 250.0, 0.25 * TYPICAL_TOKENS["planner"])
    assert planner.cost_usd == pytest.approx(250e-6 + 2e-6 * planner.completion_tokens)
    assert summarizer.calls == 0.25
    single = 1000e-6 + 2e-6 * TYPICAL_TOKENS["editor"]
    assert editor.cost_usd == pytest.approx((1 + 3 * 3) / 4 * single)


def test_an_unknown_price_is_not_taken_for_nothing():
    estimates = estimate_roles(make_settings(models__editor=["a", "c"]), PROMPTS, PRICES.get)
    assert [estimate.cost_usd is None for estimate in estimates] == [True, False]


def test_steps_that_are_left_out_cost_nothing():
    settings = make_settings(search__without=["summaries"])
    roles = [estimate.role for estimate in estimate_roles(settings, PROMPTS, PRICES.get)]
    assert roles == ["editor"]


def test_check_tells_what_a_run_will_cost_and_what_a_budget_buys(tmp_path, problem):
    price = "prices.scripted={prompt = 1, completion = 2}"
    done = run_evolve(
        "check", problem, "--estimate", "--model", "scripted", "--set", price,
        "--max-cost", 1, "--generations", 10, cwd=tmp_path,
    )  # fmt: skip
    assert "a run of 40 slots: " in done.stdout
    assert "$1 buys about " in done.stdout


@pytest.mark.parametrize(
    ("cap", "message"),
    [
        ({"budget.max_calls": 9}, r"`budget.max_calls`: .* about 5 \(`loop.slots` is 4\), got 9;"),
        ({"budget.max_evaluations": 8}, r"`budget.max_evaluations`: .* about 4 .*, got 8; raise"),
        ({"budget.max_tokens": 19_000}, r"`budget.max_tokens`: .*, got 19000; .* --force runs"),
        ({"budget.max_cost_usd": 0.03}, r"`budget.max_cost_usd`: .*, got 0.03; raise it"),
    ],
)
def test_a_budget_for_fewer_than_two_generations_is_refused(cap, message):
    def expect(**changes: object) -> None:
        settings = make_settings(**changes)
        expect_two_generations(settings, lambda: estimate_roles(settings, PROMPTS, PRICES.get))

    with pytest.raises(UsageError, match=message):
        expect(**cap)
    expect(**{key: 2 * value for key, value in cap.items()})
    # Without a model there is nothing to pay for.
    expect(**cap, models__model=[])


def test_run_refuses_a_small_budget_unless_forced(tmp_path, problem):
    arguments = ("run", problem, "--model", "scripted", "--set", "budget.max_calls=3")
    done = run_evolve(*arguments, "--run-dir", "it", code=2, cwd=tmp_path)
    assert "got 3; raise it, or lower `loop.slots`; --force runs with it" in done.stderr
    assert not (tmp_path / "it").exists()
    done = run_evolve(*arguments, "--run-dir", "it", "--force", code=None, cwd=tmp_path)
    assert "max_calls" in done.stdout


def test_check_says_that_run_would_refuse_a_budget(tmp_path, problem):
    done = run_evolve(
        "check", problem, "--estimate", "--model", "scripted", "--set", "budget.max_calls=3",
        cwd=tmp_path, code=2,
    )  # fmt: skip
    assert "run would refuse this budget: `budget.max_calls`" in done.stdout


def test_what_programs_ask_is_said_to_come_on_top(tmp_path):
    done = run_evolve(
        "check", "arithmetic_prompt", "--estimate", "--model", "scripted", cwd=tmp_path
    )
    assert "what the program asks comes on top: at most 40 questions an evaluation" in done.stdout
