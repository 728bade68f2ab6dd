"""Which models play which role, and how often."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evolve.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evolve.records.chat import Request
    from evolve.settings.models import ModelSettings

ROLES = ("planner", "editor", "summarizer", "leap")
_WEIGHTED = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*\*\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may play a role.

    Attributes:
        name: As `open_model` takes it.
        weight: Its share beside the role's other models, above 0.
    """

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """Who plays a role in a slot, and how.

    Attributes:
        model: Name of the model.
        temperature: Sent instead of what a step asks for, when it is set.
        effort: Reasoning effort, sent when it is set.
        max_tokens: Most tokens of a reply, sent when it is set.
    """

    model: str
    temperature: float | None = None
    effort: str = ""
    max_tokens: int | None = None

    def tune(self, request: Request) -> Request:
        """Returns the request as this part asks it."""
        temperature = request.temperature if self.temperature is None else self.temperature
        return replace(
            request, temperature=temperature, effort=self.effort, max_tokens=self.max_tokens
        )


def parse_candidate(text: str) -> Candidate:
    """Splits `2*NAME` into weight and name; the weight of a bare name is 1.

    Raises:
        UsageError: There is no name, or the weight is 0.
    """
    found = _WEIGHTED.fullmatch(text.strip())
    weight, name = (float(found[1]), found[2].strip()) if found else (1.0, text.strip())
    if not name or not weight:
        raise UsageError(
            f"models: expected a name such as `openai/gpt-4o-mini` or, with a weight above 0,"
            f" `2*openai/gpt-4o-mini`, got {text!r}"
        )
    return Candidate(name, weight)


def make_roster(settings: ModelSettings) -> Mapping[str, tuple[Candidate, ...]]:
    """Returns the candidates of each role; no role when there is no model at all.

    Raises:
        UsageError: Some roles have a model and others none, or a name cannot be read.
    """
    roster = {
        role: tuple(parse_candidate(text) for text in settings.names_for(role)) for role in ROLES
    }
    for role, candidates in roster.items():
        names = [candidate.name for candidate in candidates]
        if len(set(names)) < len(names):
            raise UsageError(f"models: {role}: expected different models, got {', '.join(names)}")
    missing = [role for role in ROLES[:3] if not roster[role]]
    if len(missing) == 3 and not roster["leap"]:
        return {}
    if missing:
        raise UsageError(
            f"models: expected a model for each role or for none, got none for: "
            f"{', '.join(missing)}; `--model NAME` sets all roles"
        )
    return roster


def describe_roster(settings: ModelSettings) -> str:
    """Returns one line: the models of all roles, or of each role where they differ."""
    roster = {
        role: ", ".join(settings.names_for(role)) for role in ROLES if settings.names_for(role)
    }
    if len(set(roster.values())) == 1:
        return roster["planner"]
    return "; ".join(f"{role}: {names}" for role, names in roster.items())
