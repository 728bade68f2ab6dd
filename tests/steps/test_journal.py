import pytest

from evolve.errors import ModelError
from evolve.models.budget import Budget
from evolve.models.endpoint import Endpoint, RetryPolicy
from evolve.models.gate import Gate
from evolve.models.model import RetryableError
from evolve.models.offline_models import ScriptedModel
from evolve.models.roster import Part
from evolve.records import Evaluation, Status
from evolve.records.chat import Message, Reply, Request
from evolve.records.results import Expense
from evolve.steps.journal import Journal

REQUEST = Request("planner", (Message("user", "What now?"),), 50)


class FailingModel(ScriptedModel):
    """Fails in one way for ever."""

    def __init__(self, error: Exception) -> None:
        super().__init__(name="failing")
        self.error = error
        self.requests: list[Request] = []

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        self.requests.append(request)
        raise self.error


def make_journal(error: Exception):
    failing = FailingModel(error)
    policy = RetryPolicy(first_seconds=0.001, longest_seconds=0.002)
    endpoints = {
        "failing": Endpoint(
            failing, policy=policy, gate=Gate("model 'failing'", outage_seconds=0.02)
        ),
    }
    kept: list[object] = []
    journal = Journal(
        endpoints=endpoints,
        evaluator=lambda _: Evaluation(Status.ERROR, reason="not asked for"),
        budget=Budget(),
        keep=kept.append,
        workers=2,
        deadline_seconds=60.0,
    )
    return journal, failing, kept


def test_a_model_that_cannot_be_used_stops_the_run():
    journal, _, _ = make_journal(ModelError("wrong key"))
    with pytest.raises(ModelError, match="wrong key"):
        journal.open_slot(1, 0, {"planner": Part("failing")}).ask(REQUEST)


def test_a_role_has_its_own_temperature_and_effort():
    journal, failing, _ = make_journal(ModelError("wrong key"))
    part = Part("failing", temperature=0.3, effort="high")
    with pytest.raises(ModelError, match="wrong key"):
        journal.open_slot(1, 0, {"planner": part}).ask(REQUEST)
    assert (failing.requests[0].temperature, failing.requests[0].effort) == (0.3, "high")


def test_requests_that_may_have_been_charged_are_kept_with_their_place():
    error = RetryableError("broke off", may_be_charged=True)
    journal, failing, kept = make_journal(error)
    with pytest.raises(ModelError, match="broke off"):
        journal.open_slot(4, 2, {"planner": Part("failing")}).ask(REQUEST)
    lost = [item for item in kept if isinstance(item, Expense)]
    assert len(lost) == len(failing.requests) >= 1
    assert {(item.generation, item.slot, item.lost) for item in lost} == {(4, 2, "broke off")}
