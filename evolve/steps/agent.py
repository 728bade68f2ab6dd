"""The editor as an agent: it calls tools, one in each answer, and evaluates drafts.

The tools are described and called in text, so that any model can use them and every turn is an
ordinary request, which is recorded and replayed as any other.
"""

from __future__ import annotations

from collections.abc import Callable

from evolve.models.model import ReplyError
from evolve.records import Attempt, Plan, Rejected, Status
from evolve.records.chat import Message, Request
from evolve.steps import prompt
from evolve.steps.execute import UNNAMED, Draft, Editor, find_base
from evolve.steps.jobs import Library
from evolve.steps.parse import as_text, find_objects
from evolve.steps.prompt import fence

TOOLS = """{"tool": "elites"} lists good programs of the run with their objectives
{"tool": "program", "id": "..."} shows one of them
{"tool": "lessons"} lists what the run has learnt
{"tool": "search", "words": "..."} finds earlier plans, outcomes and lessons
{"tool": "statement"} shows the problem's statement
{"tool": "finish"} ends your work"""

_LONGEST_ANSWER = 6000


class Agent:
    """Works on one slot until it gains, gives up, or reaches a cap.

    Args:
        editor: Knows the problem, the plan and the model, and reads replies that hold a draft.
        attempt: Evaluates a draft and keeps it.
        library: What the run has so far.
    """

    def __init__(
        self, editor: Editor, *, attempt: Callable[[Draft], Attempt], library: Library
    ) -> None:
        self._editor = editor
        self._attempt = attempt
        self._library = library
        self._messages = editor.open(TOOLS)
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
        steps = self._editor.steps
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
            reply = self._editor.ask(request)
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
        base = find_base(self._editor.digest, self._editor.plan)
        plan = self._editor.plan or Plan(UNNAMED, base=str(base.key))
        self._attempt(Draft(self._messages, base, plan, Rejected(reason)))

    def _call(self, name: str, call: dict[str, object]) -> str:
        """Returns a tool's answer, empty when the work is done."""
        if name == "finish":
            return ""
        if name == "statement":
            return self._editor.problem.statement.strip()
        if name == "elites":
            found = self._library.elites()
        elif name == "program":
            found = self._library.program(as_text(call.get("id"), 40))
        elif name == "lessons":
            lessons = self._editor.digest.lessons
            found = "\n".join(f"[{known.id}] {known.lesson.claim}" for known in lessons)
        elif name == "search":
            found = self._library.search(as_text(call.get("words"), 200))
        else:
            return f"There is no tool of that name. The tools are:\n\n{TOOLS}"
        return fence(found[:_LONGEST_ANSWER]) if found else "Nothing was found."

    def _evaluate(self, text: str, *, cut_off: bool) -> str:
        """Evaluates the draft in a reply; returns its verdict, empty when it gained."""
        draft = self._editor.read(self._messages, text, cut_off=cut_off)
        attempt = self._attempt(draft)
        if attempt.evaluation.status is not Status.REJECTED:
            self._evaluations += 1
        new, old = attempt.objective, draft.base.objective
        if new is not None and (old is None or self._editor.problem.direction.is_better(new, old)):
            return ""
        left = self._editor.steps.agent_evaluations - self._evaluations
        verdict = prompt.show_evaluation(attempt, self._editor.problem, detail_characters=1500)
        return f"{verdict}\n\nThis does not gain. Evaluations left: {left}."
