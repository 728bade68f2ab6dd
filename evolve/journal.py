"""What slots pay for: every call and evaluation once, within the budget, and kept at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from evolve.chat import Reply
from evolve.errors import BudgetExhaustedError, StoreError
from evolve.models.protocol import ReplyError
from evolve.records import AttemptKey, Evaluation
from evolve.results import Call, Evaluated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from evolve.chat import Request
    from evolve.models.budget import Budget
    from evolve.models.protocol import Model
    from evolve.records import Program


# Evaluations of one slot that wait for an evaluator.
_AT_A_TIME = 16


class OtherRequestError(StoreError):
    """A slot asked for something else than what is recorded at its place."""


class Evaluate(Protocol):
    """Gives the verdict on a program; safe to call from any thread."""

    def __call__(self, program: Program) -> Evaluation:
        """Evaluates a program and waits for the verdict."""


class Journal:
    """Pays for calls and evaluations, and remembers those of generations not yet committed.

    A slot that is run again after a kill asks for the same things in the same order; what was
    paid for before is answered from the record.

    Args:
        models: The model of each role.
        evaluate: Gives the verdict on a program.
        budget: Hard caps and totals.
        keep: Called from any thread with each finished call or evaluation; returns when that is
            durable.
        workers: Model calls at a time.
        deadline_seconds: For one call, retries included.
    """

    def __init__(
        self,
        *,
        models: Mapping[str, Model],
        evaluate: Evaluate,
        budget: Budget,
        keep: Callable[[Call | Evaluated], None],
        workers: int,
        deadline_seconds: float,
    ) -> None:
        self.budget = budget
        self._models = models
        self._evaluate = evaluate
        self._keep = keep
        self._deadline_seconds = deadline_seconds
        self._permits = threading.BoundedSemaphore(workers)
        self._stopped_because = ""
        self._calls: dict[AttemptKey, Call] = {}
        self._evaluations: dict[AttemptKey, Evaluated] = {}

    def recall(self, calls: Iterable[Call], evaluations: Iterable[Evaluated]) -> None:
        """Remembers what was paid for before the run was resumed."""
        self._calls |= {call.key: call for call in calls}
        self._evaluations |= {evaluated.key: evaluated for evaluated in evaluations}

    def stop(self, reason: str) -> None:
        """Lets no further call or evaluation begin; those that run are still kept."""
        self._stopped_because = reason

    def open_slot(self, generation: int, slot: int) -> SlotJournal:
        """Gives the view of one slot."""
        return SlotJournal(self, generation, slot)

    def ask(self, key: AttemptKey, request: Request) -> Reply:
        """Answers a request from the record, else from the model.

        Raises:
            BudgetExhaustedError: A cap might be passed, or the run is stopping.
            ReplyError: The model's reply cannot be used.
            ModelError: The model cannot be used, or does not answer.
            OtherRequestError: The record holds another request under this key.
        """
        known = self._calls.get(key)
        if known is not None:
            if known.request.hash != request.hash:
                raise OtherRequestError(
                    f"call {key}: expected the request that was recorded, got another; prompts or "
                    "settings were changed since: fork the run instead of resuming it"
                )
            return _answer(known)
        with self._permits:
            self._check_stopped()
            call = self._complete(key, request)
        self._keep(call)
        return _answer(call)

    def evaluate(self, key: AttemptKey, program: Program) -> Evaluation:
        """Gives the verdict from the record, else from the evaluator.

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
            return known.evaluation
        self._check_stopped()
        self.budget.reserve_evaluations()
        evaluation = self._evaluate(program)
        self._keep(Evaluated(key, program, evaluation))
        return evaluation

    def _complete(self, key: AttemptKey, request: Request) -> Call:
        model = self._models[request.role]
        try:
            reply = self.budget.complete(model, request, self._deadline_seconds)
        except ReplyError as error:
            return Call(key, request, error.reply or Reply("", model.name), error.reason)
        return Call(key, request, reply)

    def _check_stopped(self) -> None:
        if self._stopped_because:
            raise BudgetExhaustedError(self._stopped_because)


class SlotJournal:
    """One slot's way to models and evaluators; numbers what it asks for.

    Args:
        journal: The run's journal.
        generation: Number of the generation.
        slot: Place in the generation.
    """

    def __init__(self, journal: Journal, generation: int, slot: int) -> None:
        self._journal = journal
        self._place = (generation, slot)
        self._calls = 0
        self._evaluations = 0

    def ask(self, request: Request) -> Reply:
        """Answers a request; raises as `Journal.ask`."""
        key = AttemptKey(*self._place, self._calls)
        self._calls += 1
        return self._journal.ask(key, request)

    def evaluate(self, program: Program) -> tuple[Evaluation, int]:
        """Gives the verdict and its number in the slot; raises as `Journal.evaluate`."""
        key = AttemptKey(*self._place, self._evaluations)
        self._evaluations += 1
        return self._journal.evaluate(key, program), key.number

    def evaluate_all(self, programs: Sequence[Program]) -> Iterator[tuple[Evaluation, int]]:
        """Gives verdicts and their numbers in order; several are worked on at a time.

        Raises as `Journal.evaluate`, after those verdicts that come before the failure.
        """
        keys = [AttemptKey(*self._place, self._evaluations + i) for i in range(len(programs))]
        self._evaluations += len(programs)
        if len(programs) < 2:
            for key, program in zip(keys, programs, strict=True):
                yield self._journal.evaluate(key, program), key.number
            return
        with ThreadPoolExecutor(min(len(programs), _AT_A_TIME)) as threads:
            waiting = [
                threads.submit(self._journal.evaluate, key, program)
                for key, program in zip(keys, programs, strict=True)
            ]
            for key, future in zip(keys, waiting, strict=True):
                yield future.result(), key.number


def _answer(call: Call) -> Reply:
    if call.error:
        raise ReplyError(call.error, call.reply)
    return call.reply
