"""The editor as an agent: it calls tools, one in each answer, and evaluates drafts.

The tools are told and called in text, so that any model can use them and every turn is an
ordinary request, which is recorded and replayed as any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.edits import apply_reply
from evolve.models.protocol import ReplyError
from evolve.models.tokens import count_for
from evolve.records import Rejected, Status
from evolve.records.chat import Message, Request
from evolve.steps import prompt
from evolve.steps.blocks import Block, fence
from evolve.steps.execute import LONGEST_SHOWN
from evolve.steps.parse import as_text, find_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from evolve.problem import Problem
    from evolve.records import Attempt, Plan, Program, Selection
    from evolve.settings import Settings
    from evolve.steps.memory import Digest
    from evolve.steps.tools import Ask, Library

TOOLS = """{"tool": "elites"} lists good programs of the run with their objectives
{"tool": "program", "id": "..."} shows one of them
{"tool": "lessons"} lists what the run has learnt
{"tool": "search", "words": "..."} finds earlier plans, outcomes and lessons
{"tool": "statement"} shows the problem's statement
{"tool": "finish"} ends your work"""

_LONGEST_ANSWER = 6000


def agent_messages(
    problem: Problem, selection: Selection, plan: Plan, digest: Digest, *, settings: Settings
) -> tuple[Message, ...]:
    """Gives what the agent is told at first."""
    steps, parent = settings.steps, selection.parent.attempt
    blocks = [
        *prompt.parent_blocks(parent),
        prompt.inspirations_block(selection.inspirations),
        prompt.machine_block(digest),
        Block("plan", (prompt.show_plan(plan),), rank=0),
        Block("tools", (TOOLS,), rank=0),
        Block("editable", (prompt.show_editable(parent.program_or_fail),), rank=0),
        Block("turns", (str(steps.agent_turns),), rank=0),
        Block("evaluations", (str(steps.agent_evaluations),), rank=0),
    ]
    return prompt.compose(
        "agent",
        problem,
        blocks,
        most=settings.models.digest_tokens,
        counter=count_for(settings.models, "editor"),
    )


class Agent:
    """Works on one plan until it gains, gives up, or reaches a cap.

    Args:
        problem: What is solved.
        selection: The parent and its inspirations.
        plan: What to do.
        digest: What the run has learnt.
        ask: Asks the model.
        attempt: Evaluates a draft and keeps it.
        library: What the run has so far.
        settings: Caps and limits.
    """

    def __init__(
        self,
        problem: Problem,
        selection: Selection,
        plan: Plan,
        digest: Digest,
        *,
        ask: Ask,
        attempt: Callable[[Program | Rejected], Attempt],
        library: Library,
        settings: Settings,
    ) -> None:
        self._problem = problem
        self._parent = selection.parent.attempt
        self._plan = plan
        self._digest = digest
        self._ask = ask
        self._attempt = attempt
        self._library = library
        self._settings = settings
        self._messages = agent_messages(problem, selection, plan, digest, settings=settings)
        self._evaluations = 0
        self._tokens = 0

    def work(self, draw_seed: Callable[[], int], evaluations: int) -> None:
        """Takes turns until one gains, it finishes, or a cap is reached.

        Args:
            draw_seed: Gives the seed of each request.
            evaluations: Most evaluations, beside the cap of the settings.

        Raises:
            BudgetExhaustedError: A call or an evaluation might pass a cap of the run.
            ModelError: The model cannot be used, or does not answer.
        """
        steps = self._settings.steps
        most = min(evaluations, steps.agent_evaluations)
        for _ in range(steps.agent_turns):
            if self._tokens >= steps.agent_tokens or self._evaluations >= most:
                return
            if self._turn(draw_seed()):
                return

    def _turn(self, seed: int) -> bool:
        """Takes one turn; tells whether the work is done."""
        models = self._settings.models
        request = Request("editor", self._messages, models.max_tokens, models.temperature, seed)
        try:
            reply = self._ask(request)
        except ReplyError as error:
            self._attempt(Rejected(f"the agent's reply cannot be used: {error.reason}"))
            return True
        self._tokens += reply.prompt_tokens + reply.completion_tokens
        call = find_object(reply.text)
        name = as_text(call.get("tool")) if call else ""
        if call and name:
            answer = self._call(name, call)
        else:
            answer = self._evaluate(reply.text, cut_off=reply.finish_reason == "length")
        shown = reply.text[:LONGEST_SHOWN]
        self._messages += (Message("assistant", shown), Message("user", answer))
        return not answer

    def _call(self, name: str, call: dict[str, object]) -> str:
        """Gives a tool's answer, empty when the work is done."""
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
            found = "\n".join(f"[{lesson.id}] {lesson.text}" for lesson in lessons)
        elif name == "search":
            found = self._library.search(as_text(call.get("words"), 200))
        else:
            return f"There is no tool of that name. The tools are:\n\n{TOOLS}"
        return fence(found[:_LONGEST_ANSWER]) if found else "Nothing was found."

    def _evaluate(self, text: str, *, cut_off: bool) -> str:
        """Evaluates the draft in a reply; gives its verdict, empty when it gained."""
        made = apply_reply(self._parent.program_or_fail, text, cut_off=cut_off)
        attempt = self._attempt(made)
        if attempt.evaluation.status is not Status.REJECTED:
            self._evaluations += 1
        new, old = attempt.objective, self._parent.objective
        if new is not None and (old is None or self._problem.direction.is_better(new, old)):
            return ""
        left = self._settings.steps.agent_evaluations - self._evaluations
        verdict = prompt.show_evaluation(attempt, detail_characters=1500)
        return f"{verdict}\n\nThis does not gain. Evaluations left: {left}."
