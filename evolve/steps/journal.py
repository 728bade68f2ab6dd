"""What slots pay for: every call and evaluation once, within the budget, and kept at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from evolve.errors import BudgetExhaustedError, EvaluationCutError, ModelError, StoreError
from evolve.models.budget import usage_of
from evolve.models.model import ReplyError
from evolve.models.roster import Part
from evolve.problem import NO_BARS
from evolve.records import AttemptKey, Evaluation, Status, average
from evolve.records.chat import Reply, describe_difference
from evolve.records.results import MAX_SECONDS, Call, Evaluated, EvaluationPlace, Expense, ModelUse
from evolve.source import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from evolve.models.budget import Budget, Reservation
    from evolve.models.endpoint import Endpoint
    from evolve.records import Program
    from evolve.records.chat import Request
    from evolve.steps.jobs import Confirmation


# Evaluations of one slot that wait for an evaluator.
_AT_A_TIME = 16
EVALUATION = "evaluation"
"""What a slot waits for where it waits for no model."""


class OtherRequestError(StoreError):
    """A slot asked for something else than what is recorded at its place."""


class Evaluate(Protocol):
    """Evaluates a program; safe to call from any thread."""

    def __call__(
        self, program: Program, /, *, bars: Mapping[str, float] = ..., generation: int = ...
    ) -> Evaluation:
        """Evaluates a program for a generation and waits; bars let it go on, by stage."""


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


class Journal:
    """Pays for calls and evaluations, and remembers those of generations not yet committed.

    A slot that is run again after a kill asks for the same things in the same order; what was
    recorded before is answered from the record.

    Args:
        endpoints: The models of the run, by name.
        fallbacks: Names of those that are asked, in order, when another one cannot be.
        successors: By role, the model that is asked in place of one that the run has no more: a
            generation keeps the models it began with, also when a resume has changed them.
        evaluate: Returns the verdict on a program.
        budget: Hard caps and totals.
        keep: Called from any thread with each finished call or evaluation; returns when that is
            durable.
        workers: Model calls at a time.
        deadline_seconds: For one call, retries included.
        tell: Called with a line when a fallback is asked, from any thread.
        recording: Answers in place of all models; None for models.
        cut_evaluations: Ends the evaluations that run.
        describe_machines: Returns the state of those that evaluate, where there are several.
        asks: Whether evaluations ask models, which is recorded with their generation.
    """

    def __init__(
        self,
        *,
        endpoints: Mapping[str, Endpoint],
        evaluate: Evaluate,
        budget: Budget,
        keep: Callable[[Call | Evaluated | Expense], None],
        workers: int,
        deadline_seconds: float,
        fallbacks: Sequence[str] = (),
        successors: Mapping[str, str] = MappingProxyType({}),
        tell: Callable[[str], None] = lambda _: None,
        recording: Callable[[AttemptKey, Request], Call] | None = None,
        cut_evaluations: Callable[[], None] = lambda: None,
        describe_machines: Callable[[], str] = str,
        asks: bool = False,
    ) -> None:
        self.budget = budget
        self._endpoints = endpoints
        self._fallbacks = fallbacks
        self._successors = successors
        self._tell = tell
        self._recording = recording
        self._cut_evaluations = cut_evaluations
        self._describe_machines = describe_machines
        self._asks = asks
        self._replaced: set[str] = set()
        self._evaluate = evaluate
        self._keep = keep
        self._deadline_seconds = deadline_seconds
        self._permits = threading.BoundedSemaphore(workers)
        self._stopped_because = ""
        self._calls: dict[AttemptKey, Call] = {}
        self._evaluations: dict[AttemptKey, Evaluated] = {}
        self._shared: dict[str, _Shared] = {}
        # Verdicts on drafts of slots that are not recorded yet, by fingerprint.
        self._previewed: dict[str, Evaluation] = {}
        self._sharing = threading.Lock()
        self._waits: dict[object, Wait] = {}

    def traffic(self) -> Traffic:
        """Returns what is waited for right now; may be called from any thread."""
        endpoints = self._endpoints.values()
        return Traffic(
            tuple(self._waits.copy().values()),
            in_flight=sum(one.in_flight for one in endpoints),
            retried=sum(one.retried for one in endpoints),
            answers=sum(one.incoming.answers for one in endpoints),
            characters=sum(one.incoming.characters for one in endpoints),
            machines=self._describe_machines(),
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
            if evaluated.evaluation.status is Status.REJECTED:
                continue
            shared = self._shared.setdefault(fingerprint(evaluated.program), _Shared(evaluated.key))
            if not shared.future.done():
                shared.future.set_result(evaluated.evaluation)

    def forget(self, generation: int) -> None:
        """Forgets the evaluations of generations up to one: the population knows them now."""
        with self._sharing:
            for mark in [m for m, one in self._shared.items() if one.key.generation <= generation]:
                del self._shared[mark]

    def stop(self, reason: str) -> None:
        """Lets no further call or evaluation begin; those that run are still kept."""
        self._stopped_because = reason
        self.budget.stop(reason)
        if reason == MAX_SECONDS:
            self._cut_evaluations()

    def open_slot(
        self,
        generation: int,
        slot: int,
        parts: Mapping[str, Part] | None = None,
        confirmation: Confirmation | None = None,
        bars: Mapping[str, float] = NO_BARS,
    ) -> SlotJournal:
        """Returns the view of one slot, in which models play their parts by role."""
        return SlotJournal(self, generation, slot, parts or {}, confirmation, bars=bars)

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
        self._keep(call)
        return call

    def evaluate(
        self,
        key: AttemptKey,
        program: Program,
        confirmation: Confirmation | None = None,
        bars: Mapping[str, float] = NO_BARS,
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
        with self._sharing:
            shared = self._shared.get(mark)
            is_first = shared is None
            if shared is None:
                shared = self._shared[mark] = _Shared(key)
        if is_first:
            try:
                evaluation = self._evaluate_new(key, program, confirmation, bars)
            except BaseException as error:
                with self._sharing:
                    del self._shared[mark]
                shared.future.set_exception(error)
                raise
            if evaluation.status is Status.REJECTED:
                with self._sharing:
                    del self._shared[mark]
            shared.future.set_result(evaluation)
        evaluation = shared.future.result()
        if evaluation.status is Status.REJECTED and not is_first:
            # What was rejected is no duplicate later, so that each slot has its own.
            return self._evaluate_new(key, program, confirmation, bars), EvaluationPlace(key, key)
        return evaluation, EvaluationPlace(key, shared.key)

    def preview(
        self, program: Program, generation: int, bars: Mapping[str, float] = NO_BARS
    ) -> Evaluation:
        """Returns the verdict on a program that a slot will evaluate, ahead of the record.

        Raises as `evaluate`.
        """
        mark = fingerprint(program)
        known = self._previewed.get(mark)
        if known is None:
            known = self._previewed[mark] = self._pay_evaluator(program, bars, generation)
        return known

    def _evaluate_new(
        self,
        key: AttemptKey,
        program: Program,
        confirmation: Confirmation | None,
        bars: Mapping[str, float],
    ) -> Evaluation:
        evaluation = self._previewed.pop(fingerprint(program), None)
        if evaluation is None:
            evaluation = self._pay_evaluator(program, bars, key.generation)
        if confirmation is not None and confirmation.asks_for(evaluation):
            evaluation = self._confirm(key, program, evaluation, confirmation, bars=bars)
        self._keep(Evaluated(key, program, evaluation))
        return evaluation

    def _confirm(
        self,
        key: AttemptKey,
        program: Program,
        evaluation: Evaluation,
        confirmation: Confirmation,
        *,
        bars: Mapping[str, float],
    ) -> Evaluation:
        """Evaluates a program again; where a cap does not allow it, the one verdict stands."""
        verdicts = [evaluation]
        with suppress(BudgetExhaustedError, EvaluationCutError):
            for _ in range(confirmation.times):
                self._check_stopped()
                self.budget.reserve_evaluation()
                verdicts.append(self._ask_evaluator(program, bars, key.generation))
                # It does not lead any more: the others would only say that again.
                if not confirmation.asks_for(average(verdicts)):
                    break
        return average(verdicts)

    def _pay_evaluator(
        self, program: Program, bars: Mapping[str, float], generation: int
    ) -> Evaluation:
        """Returns a new verdict within the cap on evaluations; a rejection costs none."""
        self._check_stopped()
        self.budget.reserve_evaluation()
        try:
            with self._waiting(EVALUATION):
                evaluation = self._ask_evaluator(program, bars, generation)
        except EvaluationCutError as error:
            raise BudgetExhaustedError(self._stopped_because) from error
        if evaluation.status is Status.REJECTED:
            self.budget.release_evaluation()
        return evaluation

    def _ask_evaluator(
        self, program: Program, bars: Mapping[str, float], generation: int
    ) -> Evaluation:
        given: dict[str, Any] = {"bars": bars} if bars else {}
        if self._asks:
            given["generation"] = generation
        return self._evaluate(program, **given)

    def _complete(self, key: AttemptKey, request: Request, model: str) -> Call:
        if self._recording is not None:
            call = self._recording(key, request)
            self.budget.restore(request.role, call.reply.model, usage_of(call.reply))
            return call
        if model not in self._endpoints:
            model = self._successors.get(request.role, model)
        names = [model, *(name for name in self._fallbacks if name != model)]
        for name, stand_in in pairwise([*names, ""]):
            try:
                return self._ask_endpoint(key, request, name, is_last=not stand_in)
            except ModelError as error:
                if not stand_in:
                    raise
                self._tell_stand_in(name, stand_in, error)
        raise ModelError(f"model {model!r}: expected it among those of the run")

    def _ask_endpoint(self, key: AttemptKey, request: Request, name: str, *, is_last: bool) -> Call:
        def keep_lost(worst: Reservation, reason: str) -> None:
            self._keep(
                Expense(
                    key.generation, key.slot, worst.role, worst.model, worst.prompt_tokens, 0,
                    worst.completion_tokens, worst.cost_usd, reason,
                )
            )  # fmt: skip

        try:
            reply = self._endpoints[name].complete(
                request, self._deadline_seconds, self.budget, may_wait=is_last, on_lost=keep_lost
            )
        except ReplyError as error:
            return Call(key, request, error.reply or Reply("", name), error.reason)
        return Call(key, request, reply)

    def _tell_stand_in(self, name: str, stand_in: str, error: ModelError) -> None:
        if name not in self._replaced:
            self._replaced.add(name)
            self._tell(f"{error}; {stand_in} is asked instead, as long as that is so")

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


class SlotJournal:
    """One slot's way to models and evaluators; numbers what it asks for.

    Args:
        journal: The run's journal.
        generation: Number of the generation.
        slot: Place in the generation.
        parts: Who plays each role, and how.
        confirmation: Which programs are evaluated again; None for none.
        bars: By early stage of an evaluation, the objective that lets a program go on.
    """

    def __init__(
        self,
        journal: Journal,
        generation: int,
        slot: int,
        parts: Mapping[str, Part],
        confirmation: Confirmation | None = None,
        *,
        bars: Mapping[str, float] = NO_BARS,
    ) -> None:
        self._journal = journal
        self._bars = bars
        self._confirmation = confirmation
        self._parts = parts
        self._uses: dict[AttemptKey, ModelUse] = {}
        self._place = (generation, slot)
        self._calls = 0
        self._evaluations = 0

    def ask(self, request: Request) -> Reply:
        """Answers a request; raises as `Journal.ask`, or `ReplyError` for an unusable reply."""
        key = AttemptKey(*self._place, self._calls)
        self._calls += 1
        part = self._parts.get(request.role, Part(""))
        call = self._journal.ask(key, part.tune(request), part.model)
        self._uses[key] = use_of(call)
        return _answer(call)

    @property
    def uses(self) -> tuple[ModelUse, ...]:
        """Returns what the finished calls say about models, in order."""
        return tuple(self._uses[key] for key in sorted(self._uses))

    def evaluate(self, program: Program) -> tuple[Evaluation, EvaluationPlace]:
        """Returns the verdict and its place; raises as `Journal.evaluate`."""
        key = AttemptKey(*self._place, self._evaluations)
        self._evaluations += 1
        return self._journal.evaluate(key, program, self._confirmation, self._bars)

    def preview(self, program: Program) -> Evaluation:
        """Returns the verdict on a program that will be evaluated; raises as `Journal.evaluate`."""
        return self._journal.preview(program, self._place[0], self._bars)

    def evaluate_all(
        self, programs: Sequence[Program]
    ) -> Iterator[tuple[Evaluation, EvaluationPlace]]:
        """Yields verdicts and their places in order; several are worked on at a time.

        Raises as `Journal.evaluate`, after those verdicts that come before the failure.
        """
        keys = [AttemptKey(*self._place, self._evaluations + i) for i in range(len(programs))]
        self._evaluations += len(programs)
        if len(programs) < 2:
            for key, program in zip(keys, programs, strict=True):
                yield self._journal.evaluate(key, program, self._confirmation, self._bars)
            return
        with ThreadPoolExecutor(min(len(programs), _AT_A_TIME)) as threads:
            waiting = [
                threads.submit(self._journal.evaluate, key, program, self._confirmation, self._bars)
                for key, program in zip(keys, programs, strict=True)
            ]
            for future in waiting:
                yield future.result()


class _Shared:
    """An evaluation that several slots may need at the same time, and where it is recorded."""

    def __init__(self, key: AttemptKey) -> None:
        self.key = key
        self.future: Future[Evaluation] = Future()


def use_of(call: Call) -> ModelUse:
    """Returns what a call says about the model that answered."""
    reply = call.reply
    tokens = reply.prompt_tokens + reply.completion_tokens
    return ModelUse(call.request.role, reply.model, reply.cost_usd, tokens)


def _answer(call: Call) -> Reply:
    if call.error:
        raise ReplyError(call.error, call.reply)
    return call.reply
