"""The models that evaluations ask: which they are, and who answers in a run or a single command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evolve.errors import BudgetExhaustedError, UsageError
from evolve.evaluation.pool import Evaluators
from evolve.problem import Problem
from evolve.records.results import Call, Expense
from evolve.settings import Settings, change_settings
from evolve.settings.sections import parse_candidate
from evolve.store import Store

if TYPE_CHECKING:
    from evolve.models.budget import Budget
    from evolve.models.endpoint import Endpoint
    from evolve.steps.asker import Asker


def settle_asked(problem: Problem, settings: Settings) -> Settings:
    """Fills in the models that evaluations ask: those of the problem, else the first of the run.

    Raises:
        UsageError: The problem's programs or its evaluator ask one, and there is none.
    """
    changes = {}
    for role, rules in problem.asks.items():
        first = next(iter(settings.models.model), "")
        named = settings.models.asked.get(role) or rules.model
        name = named or (parse_candidate(first).name if first else "")
        if not name:
            who = "programs ask" if role == "program" else "the evaluator asks"
            raise UsageError(
                f"{problem.name}: {who} a language model, and none is named: `--model NAME` names "
                f"one for all, `--set models.{role}=NAME` for this alone"
            )
        changes[f"models.{role}"] = name
    return change_settings(settings, changes, where="defaults") if changes else settings


def make_asker(
    settings: Settings,
    endpoints: Mapping[str, Endpoint],
    *,
    budget: Budget,
    keep: Callable[[Call | Expense], None] = lambda _: None,
    known: Iterable[Call] = (),
    next_generation: Callable[[], int] = lambda: 0,
) -> Asker:
    """Returns who answers what evaluations ask."""
    from evolve.steps.asker import Asker

    return Asker(
        endpoints=endpoints,
        models=settings.models.asked,
        budget=budget,
        keep=keep,
        deadline_seconds=settings.models.deadline_seconds,
        known=known,
        next_generation=next_generation,
        replays=bool(settings.models.replay),
    )


class RunAsks:
    """What the evaluations of a run ask, in its search and outside of it.

    Args:
        store: The run's database.
        problem: What is evaluated.
        settings: Of the run.
        evaluators: Ask.
    """

    def __init__(
        self, store: Store, problem: Problem, settings: Settings, evaluators: Evaluators
    ) -> None:
        self._store = store
        self._problem = problem
        self._settings = settings
        self._evaluators = evaluators
        self._asker: Asker | None = None
        self._waiting: list[Call | Expense] = []
        self._generation = 0

    def open(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Lets evaluations ask these models, where the problem does; or another run's record."""
        from evolve.runs.wiring import restore_budget

        if not self._problem.asks:
            return
        known, replay = self._store.asks(), self._settings.models.replay
        if replay:
            with closing(Store.open_to_read(Path(replay))) as recorded:
                known = recorded.asks()
        self._asker = make_asker(
            self._settings,
            endpoints,
            budget=restore_budget(self._store, self._settings),
            keep=self._waiting.append,
            known=known,
            next_generation=lambda: self._generation,
        )
        self._evaluators.asker = self._asker.answer

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records what evaluations outside of the search ask, for the generation that follows.

        Raises:
            UsageError: It would pass a cap.
        """
        last = self._store.last_generation()
        self._generation = 0 if last is None else last + 1
        try:
            yield
        except BudgetExhaustedError as error:
            raise UsageError(f"what an evaluation asks would pass a cap: {error}") from error
        finally:
            if self._waiting:
                self._store.keep(self._waiting)
                self._waiting.clear()

    def enter_search(self, budget: Budget, keep: Callable[[Call | Expense], None]) -> None:
        """From here on the search counts and records."""
        if self._asker is not None:
            self._asker.budget, self._asker.keep = budget, keep

    def leave_search(self) -> None:
        """From here on `recording` records again."""
        if self._asker is not None:
            self._asker.keep = self._waiting.append


@contextmanager
def answering(
    problem: Problem, settings: Settings, evaluators: Evaluators, known: Iterable[Call] | None
) -> Iterator[None]:
    """Lets a problem's evaluations ask models while the context is open, outside of any run.

    Args:
        problem: What is evaluated.
        settings: Complete.
        evaluators: Ask.
        known: Calls of a run that alone answer; None where models do.

    Raises:
        UsageError: No model is named.
    """
    if not problem.asks:
        yield
        return
    from evolve.display import say_error
    from evolve.models.budget import Budget
    from evolve.models.roster import open_endpoints

    settings = settle_asked(problem, settings)
    caps = settings.budget
    budget = Budget(
        max_cost_usd=caps.max_cost_usd, max_calls=caps.max_calls, max_tokens=caps.max_tokens
    )
    with ExitStack() as stack:
        endpoints = {} if known is not None else open_endpoints(settings, Path(), say_error)
        for endpoint in endpoints.values():
            stack.callback(endpoint.close)
        asker = make_asker(settings, endpoints, budget=budget, known=known or ())
        evaluators.asker = asker.answer
        try:
            yield
        except BudgetExhaustedError as error:
            raise UsageError(f"what evaluations ask would pass a cap: {error}") from error
        finally:
            evaluators.asker = None
