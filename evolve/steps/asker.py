"""What programs and evaluators ask language models: each question once, recorded and counted."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import InitVar, dataclass

from evolve.errors import ModelError
from evolve.evaluation.evaluator import Answered
from evolve.models.budget import Budget, usage_of
from evolve.models.endpoint import Endpoint
from evolve.records import AttemptKey
from evolve.records.chat import Request
from evolve.records.results import ASKS, Call, Expense
from evolve.settings.sections import ModelSettings
from evolve.steps.journal import Once, call_endpoint

# Questions of one evaluation that are asked at a time.
_AT_A_TIME = 8


@dataclass(eq=False, kw_only=True)
class Asker:
    """Answers what evaluations ask; every method may be called from any thread.

    A question is identified by what is asked, of which model. It is asked once in a run: who asks
    the same again, now or after a kill, has the recorded answer.

    Args:
        endpoints: The models of the run, by name.
        models: Which model each role asks, for how long, and whether another run's record answers,
            in which all has to be known.
        budget: Hard caps and totals; those of the search while it runs.
        keep: Called with each finished call and lost request; that of the search while it runs.
        known: Calls recorded before.
        next_generation: Returns the first generation that is not committed.
    """

    endpoints: Mapping[str, Endpoint]
    models: ModelSettings
    budget: Budget
    keep: Callable[[Call | Expense], None]
    known: InitVar[Iterable[Call]] = ()
    next_generation: Callable[[], int] = lambda: 0

    def __post_init__(self, known: Iterable[Call]) -> None:
        self._lock = threading.Lock()
        self._numbers: defaultdict[int, int] = defaultdict(int)
        self._answers: Once[tuple[str, str], Call] = Once()
        # Of another run's record: its calls are this run's only once they are asked for.
        self._foreign: dict[tuple[str, str], Call] = {}
        for call in known:
            mark = (call.reply.model, call.request.hash)
            if self.models.replay:
                self._foreign[mark] = call
                continue
            self._answers.put(mark, call)
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
        number = generation if generation >= 0 else self.next_generation()
        if len(requests) == 1:
            calls = [self._find(number, requests[0])]
        else:
            with ThreadPoolExecutor(_AT_A_TIME) as threads:
                calls = list(threads.map(lambda one: self._find(number, one), requests))
        return [Answered(call.reply.text, call.error) for call in calls]

    def _find(self, generation: int, request: Request) -> Call:
        model = self.models.asked.get(request.role, "")
        return self._answers.find(
            (model, request.hash), lambda: self._ask(generation, request, model)
        )

    def _ask(self, generation: int, request: Request, model: str) -> Call:
        key = self._take_key(generation)
        known = self._foreign.get((model, request.hash))
        if known is not None:
            self.budget.restore(request.role, model, usage_of(known.reply))
            call = Call(key, request, known.reply, known.error)
        elif model in self.endpoints:
            call = call_endpoint(
                self.endpoints[model], key, request,
                budget=self.budget, keep=self.keep, deadline_seconds=self.models.deadline_seconds,
            )  # fmt: skip
        else:
            raise ModelError(
                f"{request.role} asks {model or 'a model'!r}: "
                + (
                    "the record that answers has no such question; a changed program needs a "
                    "model: run it without `--replay`"
                    if self.models.replay
                    else "its answer is not recorded, and no model is connected here"
                )
            )
        self.keep(call)
        return call

    def _take_key(self, generation: int) -> AttemptKey:
        with self._lock:
            number = self._numbers[generation]
            self._numbers[generation] += 1
        return AttemptKey(generation, ASKS, number)
