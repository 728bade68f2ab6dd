"""The second step: a plan to a new program. A language model's form and a model-free one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.chat import Message, Request
from evolve.edits import apply_reply
from evolve.models.protocol import ReplyError
from evolve.operators import OPERATOR_JOIN, apply_operator
from evolve.records import Rejected
from evolve.steps import prompt

if TYPE_CHECKING:
    import numpy as np

    from evolve.model_settings import ModelSettings
    from evolve.problem import Problem
    from evolve.records import Attempt, Plan, Program, Selection
    from evolve.steps.tools import Ask


class Conversation:
    """The editor's turns on one plan: the first asks for the change, the others for repairs.

    Args:
        problem: What is solved.
        selection: The parent and its inspirations.
        plan: What to do.
        ask: Asks the editor.
        settings: Limits and temperature.
        form: `edit` or `rewrite`.
        seed: Seed of the requests.
    """

    def __init__(
        self,
        problem: Problem,
        selection: Selection,
        plan: Plan,
        *,
        ask: Ask,
        settings: ModelSettings,
        form: str,
        seed: int,
    ) -> None:
        self._problem = problem
        self._parent = selection.parent.attempt.program_or_fail
        self._ask = ask
        self._settings = settings
        self._seed = seed
        values = prompt.common_values(problem) | {
            "parent_source": prompt.show_program(self._parent),
            "parent_evaluation": prompt.show_evaluation(selection.parent.attempt),
            "inspirations": prompt.cut(
                prompt.show_inspirations(selection.inspirations), settings.digest_tokens // 2
            ),
            "plan": prompt.show_plan(plan),
            "editable": prompt.show_editable(self._parent),
        }
        self._messages = prompt.fill_template(form, problem.folder, values)

    def execute(self, failed: Attempt | None) -> Program | Rejected:
        """Gives the next program, told why the last one failed.

        Raises:
            BudgetExhaustedError: The call might pass a cap.
            ModelError: The model cannot be used, or does not answer.
        """
        if failed is not None:
            self._messages += self._repair(failed)
        request = Request(
            "editor",
            self._messages,
            self._settings.edit_tokens,
            self._settings.temperature,
            self._seed,
        )
        try:
            reply = self._ask(request)
        except ReplyError as error:
            self._messages += (Message("assistant", "(no reply)"),)
            return Rejected(f"the editor's reply cannot be used: {error.reason}")
        shown = reply.text[: 3 * self._settings.edit_tokens]
        self._messages += (Message("assistant", shown),)
        return apply_reply(self._parent, reply.text, cut_off=reply.finish_reason == "length")

    def _repair(self, failed: Attempt) -> tuple[Message, ...]:
        evaluation = failed.evaluation
        detail = "\n".join(evaluation.artifacts.values())[-3000:]
        values = {
            "failure": f"That did not work ({evaluation.status}):\n\n"
            + prompt.fence(evaluation.reason[:1000]),
            "detail": prompt.fence(detail) if detail else "",
        }
        return prompt.fill_template("repair", self._problem.folder, values)


def execute_operator(
    selection: Selection, plan: Plan, rng: np.random.Generator
) -> Program | Rejected:
    """Applies the plan's operators to the parent in turn; the inspirations are their mates.

    Of several, those that find no place are passed over.
    """
    mates = [elite.attempt.program_or_fail for elite in selection.inspirations]
    program = selection.parent.attempt.program_or_fail
    made: Program | Rejected = Rejected("no operator was chosen")
    changed = False
    for name in plan.operator.split(OPERATOR_JOIN):
        made = apply_operator(name, program, mates, rng)
        if not isinstance(made, Rejected):
            program, changed = made, True
    return program if changed else made
