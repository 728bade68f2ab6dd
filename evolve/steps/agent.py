"""The editor as an agent: it calls tools, one in each answer, and evaluates drafts.

The tools are described and called in text, so that any model can use them and every turn is an
ordinary request, which is recorded and replayed as any other.
"""

from __future__ import annotations

from collections.abc import Callable

from evolve.models.model import ReplyError
from evolve.models.usage import count_for, prompt_cap
from evolve.problem import Problem
from evolve.records import Attempt, Plan, Rejected, Status
from evolve.records.chat import Message, Request
from evolve.settings.sections import ModelSettings, StepSettings
from evolve.steps import prompt
from evolve.steps.digest import Digest, Seat
from evolve.steps.execute import UNNAMED, Draft, answer_blocks, find_base
from evolve.steps.jobs import Ask, Library
from evolve.steps.page import page_blocks
from evolve.steps.parse import as_text, find_objects
from evolve.steps.prompt import Block, fence

TOOLS = """{"tool": "elites"} lists good programs of the run with their objectives
{"tool": "program", "id": "..."} shows one of them
{"tool": "lessons"} lists what the run has learnt
{"tool": "search", "words": "..."} finds earlier plans, outcomes and lessons
{"tool": "statement"} shows the problem's statement
{"tool": "finish"} ends your work"""

_LONGEST_ANSWER = 6000


def agent_messages(
    problem: Problem,
    digest: Digest,
    seat: Seat,
    plan: Plan | None,
    *,
    steps: StepSettings,
    models: ModelSettings,
) -> tuple[Message, ...]:
    """Returns what the agent is shown at first."""
    blocks = [
        *page_blocks(digest, problem),
        *answer_blocks(digest, seat, plan, steps),
        Block("tools", (TOOLS,), rank=0),
        Block("turns", (str(steps.agent_turns),), rank=0),
        Block("evaluations", (str(steps.agent_evaluations),), rank=0),
    ]
    return prompt.compose(
        "agent",
        problem,
        blocks,
        most=prompt_cap(models, "editor"),
        counter=count_for(models, "editor"),
    )


class Agent:
    """Works on one slot until it gains, gives up, or reaches a cap.

    Args:
        problem: What is solved.
        digest: What the run has learnt, and the programs that a change may start from.
        seat: The slot's place among those of its generation.
        plan: What to do; None where the agent plans for itself.
        ask: Asks the model.
        read: Reads a reply that holds a draft.
        attempt: Evaluates a draft and keeps it.
        library: What the run has so far.
        steps: Its caps, and the form of the edits.
        models: The cap on the prompt.
    """

    def __init__(
        self,
        problem: Problem,
        digest: Digest,
        seat: Seat,
        plan: Plan | None,
        *,
        ask: Ask,
        read: Callable[..., Draft],
        attempt: Callable[[Draft], Attempt],
        library: Library,
        steps: StepSettings,
        models: ModelSettings,
    ) -> None:
        self._problem = problem
        self._digest = digest
        self._plan = plan
        self._ask = ask
        self._read = read
        self._attempt = attempt
        self._library = library
        self._steps = steps
        self._messages = agent_messages(problem, digest, seat, plan, steps=steps, models=models)
        self._evaluations = 0
        self._tokens = 0

    def work(self, draw_seed: Callable[[], int], evaluations: int) -> None:
        """Takes turns until one gains, it finishes, or a cap is reached.

        Args:
            draw_seed: Returns the seed of each request.
            evaluations: Most evaluations, beside the cap of the settings.

        Raises:
            BudgetExhaustedError: A call or an evaluation might pass a cap of the run.
            ModelError: The model cannot be used, or does not answer.
        """
        steps = self._steps
        most = min(evaluations, steps.agent_evaluations)
        for _ in range(steps.agent_turns):
            if self._tokens >= steps.agent_tokens or self._evaluations >= most:
                return
            if self._turn(draw_seed()):
                return

    def give_up(self) -> None:
        """Keeps that no draft was made."""
        self._reject("the agent ended without a draft")

    def _turn(self, seed: int) -> bool:
        """Takes one turn; returns whether the work is done."""
        request = Request("editor", self._messages, seed=seed)
        try:
            reply = self._ask(request)
        except ReplyError as error:
            self._reject(f"the agent's reply cannot be used: {error.reason}")
            return True
        self._tokens += reply.prompt_tokens + reply.completion_tokens
        calls = find_objects(reply.text, lambda found: bool(as_text(found.get("tool"))))
        if calls:
            answer = self._call(as_text(calls[-1]["tool"]), calls[-1])
        else:
            answer = self._evaluate(reply.text, cut_off=reply.finish_reason == "length")
        self._messages += (Message("assistant", reply.text), Message("user", answer))
        return not answer

    def _reject(self, reason: str) -> None:
        base = find_base(self._digest, self._plan)
        plan = self._plan or Plan(UNNAMED, base=str(base.key))
        self._attempt(Draft(self._messages, base, plan, Rejected(reason)))

    def _call(self, name: str, call: dict[str, object]) -> str:
        """Returns a tool's answer, empty when the work is done."""
        if name == "finish":
            return ""
        if name == "statement":
            return self._problem.statement.strip()
        if name == "elites":
            found = self._library.elites()
        elif name == "program":
            found = self._library.program(as_text(call.get("id"), 40))
        elif name == "lessons":
            lessons = self._digest.lessons
            found = "\n".join(f"[{known.id}] {known.lesson.claim}" for known in lessons)
        elif name == "search":
            found = self._library.search(as_text(call.get("words"), 200))
        else:
            return f"There is no tool of that name. The tools are:\n\n{TOOLS}"
        return fence(found[:_LONGEST_ANSWER]) if found else "Nothing was found."

    def _evaluate(self, text: str, *, cut_off: bool) -> str:
        """Evaluates the draft in a reply; returns its verdict, empty when it gained."""
        draft = self._read(self._messages, text, cut_off=cut_off)
        attempt = self._attempt(draft)
        if attempt.evaluation.status is not Status.REJECTED:
            self._evaluations += 1
        new, old = attempt.objective, draft.base.objective
        if new is not None and (old is None or self._problem.direction.is_better(new, old)):
            return ""
        left = self._steps.agent_evaluations - self._evaluations
        verdict = prompt.show_evaluation(attempt, self._problem, detail_characters=1500)
        return f"{verdict}\n\nThis does not gain. Evaluations left: {left}."
