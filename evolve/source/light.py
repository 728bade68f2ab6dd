"""Attempts as the population needs to know them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.records.results import LightAttempt
from evolve.source import fingerprint

if TYPE_CHECKING:
    from evolve.records.results import Generation, PlacedAttempt, SlotResult


def light_attempts(generation: Generation) -> list[LightAttempt]:
    """Returns the attempts of a generation as the store will return them later."""
    return [_light(told, result) for result in generation.slots for told in result.attempts]


def _light(told: PlacedAttempt, result: SlotResult) -> LightAttempt:
    attempt = told.attempt
    program = attempt.program
    return LightAttempt(
        key=attempt.key,
        island=attempt.island,
        parent=attempt.parent,
        depth=attempt.depth,
        operator=attempt.plan.operator if attempt.plan else "",
        program_id=None if program is None else program.id,
        fingerprint=None if program is None else fingerprint(program),
        status=attempt.evaluation.status,
        objective=attempt.objective,
        measures=attempt.evaluation.measures,
        metrics=attempt.evaluation.metrics,
        instances=attempt.evaluation.instances,
        uses=result.uses,
    )
