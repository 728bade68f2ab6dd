"""Where calls and evaluations are made: each once, within the budget, and recorded at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from evolve.errors import BudgetExhaustedError, EvaluationCutError, StoreError
from evolve.models.budget import Budget, usage_of
from evolve.models.endpoint import Endpoint
from evolve.models.model import ReplyError
from evolve.models.roster import Part
from evolve.records import AttemptKey, Evaluation, EvaluationPlace, Program, Status, average
from evolve.records.chat import Reply, Request, describe_difference
from evolve.records.results import MAX_SECONDS, Call, Evaluated, Expense, ModelUse
from evolve.source.analysis import fingerprint
from evolve.steps.jobs import PLAIN_RULES, Rules

# Evaluations of one slot that wait for an evaluator.
_AT_A_TIME = 16
EVALUATION = "evaluation"
"""What a slot waits for where it waits for no model."""


class OtherRequestError(StoreError):
    """A slot asked for something else than what is recorded at its place."""


K = TypeVar("K")
V = TypeVar("V")


class Once(Generic[K, V]):
    """Makes each value once, whoever asks for it first, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[K, Future[V]] = {}

    def find(self, key: K, make: Callable[[], V]) -> V:
        """Returns the value of a key; while it is being made, all others wait for it.

        Raises as `make`, to all of them; who asks later makes it anew.
        """
        with self._lock:
            future = self._values.get(key)
            is_first = future is None
            if future is None:
                future = self._values[key] = Future()
        if is_first:
            try:
                future.set_result(make())
            except BaseException as error:  # noqa: BLE001 (the future raises it, to all)
                self.drop(key)
                future.set_exception(error)
        return future.result()

    def put(self, key: K, value: V) -> None:
        """Sets the value of a key, unless it has one."""
        self.find(key, lambda: value)

    def drop(self, key: K) -> None:
        """Forgets a value."""
        with self._lock:
            self._values.pop(key, None)

    def drop_if(self, is_old: Callable[[V], bool]) -> None:
        """Forgets the values, of those that are made, for which a function says so."""
        with self._lock:
            for key, future in list(self._values.items()):
                if future.done() and is_old(future.result()):
                    del self._values[key]


class Wait(NamedTuple):
    """A call or an evaluation that a slot waits for.

    Attributes:
        what: The role that is asked, or `EVALUATION`.
        model: Name of the model that is asked first.
        since: Moment of the monotonic clock.
    """

    what: str
    model: str
    since: float


class Traffic(NamedTuple):
    """What a run waits for at a moment.

    Attributes:
        waits: Calls and evaluations, the oldest first.
        in_flight: Requests that models are answering; the other calls wait for their turn.
        retried: Requests so far that were made because an earlier one failed.
        answers: Answers that are coming in.
        characters: Characters that have come in so far.
        machines: The state of a cluster in words; empty for this machine alone.
    """

    waits: tuple[Wait, ...] = ()
    in_flight: int = 0
    retried: int = 0
    answers: int = 0
    characters: int = 0
    machines: str = ""


@dataclass(eq=False, kw_only=True)
class Journal:
    """Makes calls and evaluations, and remembers those of generations not yet committed.

    A slot that is run again after a kill asks for the same things in the same order; what was
    recorded before is answered from the record.

    Args:
        endpoints: The models of the run, by name.
        successors: By role, the model that is asked in place of one that the run has no more: a
            generation keeps the models it began with, also when a resume has changed them.
        evaluator: Returns the verdict on a program, from any thread; by name it is given `bars`
            where there are any, and `generation` where evaluations ask models.
        budget: Hard caps and totals.
        keep: Called from any thread with each finished call or evaluation; returns when that is
            durable.
        workers: Model calls at a time.
        deadline_seconds: For one call, retries included.
        recording: Answers in place of all models; None for models.
        cut_evaluations: Ends the evaluations that run.
        describe_machines: Returns the state of those that evaluate, where there are several.
        asks: Whether evaluations ask models, which is recorded with their generation.
    """

    endpoints: Mapping[str, Endpoint]
    evaluator: Callable[..., Evaluation]
    budget: Budget
    keep: Callable[[Call | Evaluated | Expense], None]
    workers: int
    deadline_seconds: float
    successors: Mapping[str, str] = field(default_factory=dict)
    recording: Callable[[AttemptKey, Request], Call] | None = None
    cut_evaluations: Callable[[], None] = lambda: None
    describe_machines: Callable[[], str] = str
    asks: bool = False
    _stopped_because: str = field(default="", init=False)
    _calls: dict[AttemptKey, Call] = field(default_factory=dict, init=False)
    _evaluations: dict[AttemptKey, Evaluated] = field(default_factory=dict, init=False)
    _shared: Once[str, Evaluated] = field(default_factory=Once, init=False)
    # Verdicts on drafts of slots that are not recorded yet, by fingerprint.
    _previewed: dict[str, Evaluation] = field(default_factory=dict, init=False)
    _waits: dict[object, Wait] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._permits = threading.BoundedSemaphore(self.workers)

    def traffic(self) -> Traffic:
        """Returns what is waited for right now; may be called from any thread."""
        endpoints = self.endpoints.values()
        return Traffic(
            tuple(self._waits.copy().values()),
            in_flight=sum(one.gate.in_flight for one in endpoints),
            retried=sum(one.retried for one in endpoints),
            answers=sum(one.incoming.answers for one in endpoints),
            characters=sum(one.incoming.characters for one in endpoints),
            machines=self.describe_machines(),
        )

    def recall(self, calls: Iterable[Call], evaluations: Iterable[Evaluated]) -> None:
        """Remembers what was recorded before the run was resumed."""
        self._calls |= {call.key: call for call in calls}
        evaluations = list(evaluations)
        self._evaluations |= {evaluated.key: evaluated for evaluated in evaluations}
        self.share(evaluations)

    def share(self, evaluations: Iterable[Evaluated]) -> None:
        """Remembers evaluations that slots may need which began before they were committed."""
        for evaluated in evaluations:
            if evaluated.evaluation.status is not Status.REJECTED:
                self._shared.put(fingerprint(evaluated.program), evaluated)

    def forget(self, generation: int) -> None:
        """Forgets the evaluations of generations up to one: the population knows them now."""
        self._shared.drop_if(lambda one: one.key.generation <= generation)

    def stop(self, reason: str) -> None:
        """Lets no further call or evaluation begin; those that run are still kept."""
        self._stopped_because = reason
        self.budget.stop(reason)
        if reason == MAX_SECONDS:
            self.cut_evaluations()

    def open_slot(
        self,
        generation: int,
        slot: int,
        parts: Mapping[str, Part] | None = None,
        rules: Rules = PLAIN_RULES,
    ) -> SlotJournal:
        """Returns the view of one slot, in which models play their parts by role."""
        return SlotJournal(self, generation, slot, parts or {}, rules)

    def ask(self, key: AttemptKey, request: Request, model: str) -> Call:
        """Answers a request from the record, else from a model or those that stand in for it.

        Raises:
            BudgetExhaustedError: A cap might be passed, or the run is stopping.
            ModelError: The model cannot be used, or does not answer.
            OtherRequestError: The record holds another request under this key.
        """
        known = self._calls.get(key)
        if known is not None:
            if known.request.hash != request.hash:
                raise OtherRequestError(
                    f"call {key}: expected the request that was recorded, got another: "
                    f"{describe_difference(known.request, request)}; prompts or settings were "
                    "changed since: fork the run instead of resuming it"
                )
            return known
        with self._waiting(request.role, model), self._permits:
            self._check_stopped()
            call = self._complete(key, request, model)
        self.keep(call)
        return call

    def evaluate(
        self, key: AttemptKey, program: Program, rules: Rules
    ) -> tuple[Evaluation, EvaluationPlace]:
        """Returns the verdict on a program, and where it is recorded.

        It comes from the record, from a slot that evaluates the same program at this time, or
        from the evaluator; a rejection costs no evaluation.

        Raises:
            BudgetExhaustedError: The cap is reached, or the run is stopping.
            SandboxError: The sandbox broke.
            EvaluatorError: The evaluator broke.
            OtherRequestError: The record holds another program under this key.
        """
        known = self._evaluations.get(key)
        if known is not None:
            if known.program.id != program.id:
                raise OtherRequestError(
                    f"evaluation {key}: expected the program that was recorded, got another; "
                    "settings were changed since: fork the run instead of resuming it"
                )
            return known.evaluation, EvaluationPlace(key, key)
        mark = fingerprint(program)
        found = self._shared.find(mark, lambda: self._evaluate_new(key, program, rules))
        if found.evaluation.status is Status.REJECTED:
            # What was rejected is no duplicate later, so that each slot has its own.
            self._shared.drop(mark)
            if found.key != key:
                found = self._evaluate_new(key, program, rules)
        return found.evaluation, EvaluationPlace(key, found.key)

    def preview(self, program: Program, generation: int, rules: Rules) -> Evaluation:
        """Returns the verdict on a program that a slot will evaluate, ahead of the record.

        Raises as `evaluate`.
        """
        mark = fingerprint(program)
        if mark not in self._previewed:
            self._previewed[mark] = self._ask_evaluator(program, generation, rules)
        return self._previewed[mark]

    def _evaluate_new(self, key: AttemptKey, program: Program, rules: Rules) -> Evaluated:
        """Evaluates a program; one that would lead again, as far as a cap allows it."""
        evaluation = self._previewed.pop(fingerprint(program), None)
        if evaluation is None:
            evaluation = self._ask_evaluator(program, key.generation, rules)
        confirmation, verdicts = rules.confirmation, [evaluation]
        if confirmation is not None:
            with suppress(BudgetExhaustedError):
                # Once it does not lead any more, the others would only say that again.
                while len(verdicts) <= confirmation.times and confirmation.asks_for(evaluation):
                    verdicts.append(self._ask_evaluator(program, key.generation, rules))
                    evaluation = average(verdicts)
        evaluated = Evaluated(key, program, evaluation)
        self.keep(evaluated)
        return evaluated

    def _ask_evaluator(self, program: Program, generation: int, rules: Rules) -> Evaluation:
        """Returns a new verdict within the cap on evaluations; a rejection costs none."""
        self._check_stopped()
        self.budget.reserve_evaluation()
        given: dict[str, Any] = {"bars": rules.bars} if rules.bars else {}
        if self.asks:
            given["generation"] = generation
        try:
            with self._waiting(EVALUATION):
                evaluation = self.evaluator(program, **given)
        except EvaluationCutError as error:
            raise BudgetExhaustedError(self._stopped_because) from error
        if evaluation.status is Status.REJECTED:
            self.budget.release_evaluation()
        return evaluation

    def _complete(self, key: AttemptKey, request: Request, model: str) -> Call:
        if self.recording is not None:
            call = self.recording(key, request)
            self.budget.restore(request.role, call.reply.model, usage_of(call.reply))
            return call
        if model not in self.endpoints:
            model = self.successors.get(request.role, model)
        return call_endpoint(
            self.endpoints[model], key, request,
            budget=self.budget, keep=self.keep, deadline_seconds=self.deadline_seconds,
        )  # fmt: skip

    @contextmanager
    def _waiting(self, what: str, model: str = "") -> Iterator[None]:
        mark = object()
        self._waits[mark] = Wait(what, model, time.monotonic())
        try:
            yield
        finally:
            del self._waits[mark]

    def _check_stopped(self) -> None:
        if self._stopped_because:
            raise BudgetExhaustedError(self._stopped_because)


@dataclass(eq=False)
class SlotJournal:
    """One slot's way to models and evaluators; numbers what it asks for.

    Args:
        journal: The run's journal.
        generation: Number of the generation.
        slot: Place in the generation.
        parts: Who plays each role, and how.
        rules: How its programs are evaluated.
    """

    journal: Journal
    generation: int
    slot: int
    parts: Mapping[str, Part]
    rules: Rules
    _uses: dict[AttemptKey, ModelUse] = field(default_factory=dict, init=False)
    _calls: int = field(default=0, init=False)
    _evaluations: int = field(default=0, init=False)

    def ask(self, request: Request) -> Reply:
        """Answers a request; raises as `Journal.ask`, or `ReplyError` for an unusable reply."""
        key = AttemptKey(self.generation, self.slot, self._calls)
        self._calls += 1
        part = self.parts.get(request.role, Part(""))
        call = self.journal.ask(key, part.tune(request), part.model)
        reply = call.reply
        tokens = reply.prompt_tokens + reply.completion_tokens
        self._uses[key] = ModelUse(request.role, reply.model, reply.cost_usd, tokens)
        if call.error:
            raise ReplyError(call.error, reply)
        return reply

    @property
    def uses(self) -> tuple[ModelUse, ...]:
        """Returns what the finished calls say about models, in order."""
        return tuple(self._uses[key] for key in sorted(self._uses))

    def preview(self, program: Program) -> Evaluation:
        """Returns the verdict on a program that will be evaluated; raises as `Journal.evaluate`."""
        return self.journal.preview(program, self.generation, self.rules)

    def evaluate_all(
        self, programs: Sequence[Program]
    ) -> Iterator[tuple[Evaluation, EvaluationPlace]]:
        """Yields verdicts and their places in order; several are worked on at a time.

        Raises as `Journal.evaluate`, after those verdicts that come before the failure.
        """
        keys = [
            AttemptKey(self.generation, self.slot, self._evaluations + i)
            for i in range(len(programs))
        ]
        self._evaluations += len(programs)
        evaluate = partial(self.journal.evaluate, rules=self.rules)
        if len(programs) < 2:
            yield from map(evaluate, keys, programs)
            return
        with ThreadPoolExecutor(min(len(programs), _AT_A_TIME)) as threads:
            yield from threads.map(evaluate, keys, programs)


def call_endpoint(
    endpoint: Endpoint,
    key: AttemptKey,
    request: Request,
    *,
    budget: Budget,
    keep: Callable[[Call | Expense], None],
    deadline_seconds: float,
) -> Call:
    """Returns a finished call; keeps the requests of it that may have been charged in vain.

    Raises:
        BudgetExhaustedError: A cap might be passed, or the run is stopping.
        ModelError: The model cannot be used, or does not answer.
    """
    try:
        reply = endpoint.complete(
            request,
            deadline_seconds,
            budget,
            on_lost=lambda worst, why: keep(worst.as_lost(key.generation, key.slot, why)),
        )
    except ReplyError as error:
        return Call(key, request, error.reply or Reply("", endpoint.name), error.reason)
    return Call(key, request, reply)
