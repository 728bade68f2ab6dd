"""What programs and evaluators ask language models: each question once, recorded and counted."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from evolve.errors import ModelError
from evolve.evaluation.evaluator import Answered
from evolve.models.budget import Budget, Reservation, usage_of
from evolve.models.endpoint import Endpoint
from evolve.models.model import ReplyError
from evolve.records import AttemptKey
from evolve.records.chat import Reply, Request
from evolve.records.results import ASKS, Call, Expense

# Questions of one evaluation that are asked at a time.
_AT_A_TIME = 8


class Asker:
    """Answers what evaluations ask; every method may be called from any thread.

    A question is identified by what is asked, of which model. It is asked once in a run: who asks
    the same again, now or after a kill, has the recorded answer.

    Args:
        endpoints: The models of the run, by name.
        models: The name of the model that each role asks.
        budget: Hard caps and totals.
        keep: Called with each finished call and lost request.
        deadline_seconds: For one call, retries included.
        known: Calls recorded before.
        next_generation: Returns the first generation that is not committed.
        replays: Whether another run's record answers, in which all has to be known.

    Attributes:
        budget: As given; that of the search while it runs.
        keep: As given; that of the search while it runs.
    """

    def __init__(
        self,
        *,
        endpoints: Mapping[str, Endpoint],
        models: Mapping[str, str],
        budget: Budget,
        keep: Callable[[Call | Expense], None],
        deadline_seconds: float,
        known: Iterable[Call] = (),
        next_generation: Callable[[], int] = lambda: 0,
        replays: bool = False,
    ) -> None:
        self.budget = budget
        self.keep = keep
        self._endpoints = endpoints
        self._models = models
        self._deadline_seconds = deadline_seconds
        self._next_generation = next_generation
        self._replays = replays
        self._lock = threading.Lock()
        self._numbers: defaultdict[int, int] = defaultdict(int)
        self._answers: dict[tuple[str, str], Future[Call]] = {}
        # Of another run's record: its calls are this run's only once they are asked for.
        self._foreign: dict[tuple[str, str], Call] = {}
        for call in known:
            mark = (call.reply.model, call.request.hash)
            if replays:
                self._foreign[mark] = call
                continue
            future: Future[Call] = Future()
            future.set_result(call)
            self._answers.setdefault(mark, future)
            generation, _, number = call.key
            self._numbers[generation] = max(self._numbers[generation], number + 1)

    def answer(self, generation: int, requests: Sequence[Request]) -> list[Answered]:
        """Returns the answers to what an evaluation asks, in order.

        Args:
            generation: For which it is done; negative where none asked for it.
            requests: What is asked.

        Raises:
            BudgetExhaustedError: A call might pass a cap.
            ModelError: The model cannot be used, or does not answer.
        """
        number = generation if generation >= 0 else self._next_generation()
        if len(requests) == 1:
            calls = [self._find(number, requests[0])]
        else:
            with ThreadPoolExecutor(_AT_A_TIME) as threads:
                calls = list(threads.map(lambda one: self._find(number, one), requests))
        return [Answered(call.reply.text, call.error) for call in calls]

    def _find(self, generation: int, request: Request) -> Call:
        model = self._models.get(request.role, "")
        mark = (model, request.hash)
        with self._lock:
            future = self._answers.get(mark)
            is_first = future is None
            if future is None:
                future = self._answers[mark] = Future()
        if is_first:
            try:
                call = self._ask(generation, request, model)
                self.keep(call)
            except BaseException as error:
                with self._lock:
                    del self._answers[mark]
                future.set_exception(error)
                raise
            future.set_result(call)
        return future.result()

    def _ask(self, generation: int, request: Request, model: str) -> Call:
        known = self._foreign.get((model, request.hash))
        if known is not None:
            self.budget.restore(request.role, model, usage_of(known.reply))
            return Call(self._take_key(generation), request, known.reply, known.error)
        if model not in self._endpoints:
            raise ModelError(
                f"{request.role} asks {model or 'a model'!r}: "
                + (
                    "the record that answers has no such question; a changed program needs a "
                    "model: run it without `--replay`"
                    if self._replays
                    else "its answer is not recorded, and no model is connected here"
                )
            )
        error = ""
        try:
            reply = self._endpoints[model].complete(
                request,
                self._deadline_seconds,
                self.budget,
                on_lost=lambda worst, reason: self._keep_lost(generation, worst, reason),
            )
        except ReplyError as failure:
            reply, error = failure.reply or Reply("", model), failure.reason
        return Call(self._take_key(generation), request, reply, error)

    def _keep_lost(self, generation: int, worst: Reservation, reason: str) -> None:
        self.keep(
            Expense(
                generation, ASKS, worst.role, worst.model, worst.prompt_tokens, 0,
                worst.completion_tokens, worst.cost_usd, reason,
            )
        )  # fmt: skip

    def _take_key(self, generation: int) -> AttemptKey:
        with self._lock:
            number = self._numbers[generation]
            self._numbers[generation] += 1
        return AttemptKey(generation, ASKS, number)
