"""The settings of language models, by role."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from evolve.errors import UsageError
from evolve.settings.values import setting

ROLES = ("planner", "editor", "summarizer", "leap")
_WEIGHTED = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*\*\s*(.*)", re.DOTALL)


class Candidate(NamedTuple):
    """A model that may play a role, with its share among the role's models, above 0."""

    name: str
    weight: float = 1.0


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


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Language models by role; none at all means that the model-free steps run.

    A name with a weight is written `2*NAME`.
    """

    model: tuple[str, ...] = setting((), "models of every role that names none")
    planner: tuple[str, ...] = setting(
        (), "models that plan for all slots in one call; by default each editor plans for itself"
    )
    editor: tuple[str, ...] = setting((), "models that write edits")
    summarizer: tuple[str, ...] = setting((), "models that draw lessons")
    leap: tuple[str, ...] = setting((), "models that leap on a stall; by default the editor's")
    fallbacks: tuple[str, ...] = setting((), "models that are asked when another one is down")
    choice: str = setting(
        "bandit", "how one of several models is chosen", choices=("bandit", "weights")
    )
    thrift: float = setting(
        0.5, "how much cost counts when models are chosen: 0 not at all", low=0, high=1
    )
    api_base: str = setting("", "address of an OpenAI-compatible server")
    replay: str = setting("", "run folder whose recorded replies answer in place of models")
    temperature: float | None = setting(None, "sent only when set", low=0, high=2)
    effort: str = setting("", "reasoning effort, sent only when set")
    deadline_seconds: float = setting(1800.0, "one call, all retries included", low=1)
    request_seconds: float = setting(900.0, "one request, before it is made again", low=0.1)
    idle_seconds: float = setting(
        120.0, "longest silence within an answer that has begun to come in", low=0.1
    )
    outage_seconds: float = setting(
        900.0, "a model that is down is waited for so long, then the run stops", low=0
    )
    fruitless: int = setting(
        3,
        "generations in a row that evaluate next to nothing after which the run stops; 0 never",
        low=0,
    )
    max_tokens: int | None = setting(
        None, "most tokens of a reply, thinking included; by default the model's own limit", low=16
    )
    digest_tokens: int | None = setting(
        None,
        "most tokens of a prompt; by default a third of the model's window, at most 40000",
        low=500,
    )

    def names_for(self, role: str) -> tuple[str, ...]:
        """Returns the names of a role's models, with their weights in front."""
        own: tuple[str, ...] = getattr(self, role)
        if not own and role == "leap":
            own = self.editor
        return own or self.model

    def candidates_for(self, role: str) -> tuple[Candidate, ...]:
        """Returns the models that may play a role.

        Raises:
            UsageError: A name cannot be read, or stands there twice.
        """
        candidates = tuple(parse_candidate(text) for text in self.names_for(role))
        names = [candidate.name for candidate in candidates]
        if len(set(names)) < len(names):
            raise UsageError(f"models: {role}: expected different models, got {', '.join(names)}")
        return candidates

    def roster(self) -> Mapping[str, tuple[Candidate, ...]]:
        """Returns the candidates of each role; no role when there is no model at all.

        Raises:
            UsageError: Some roles have a model and others none, or a name cannot be read.
        """
        roster = {role: self.candidates_for(role) for role in ROLES}
        missing = [role for role, candidates in roster.items() if not candidates]
        if len(missing) == len(ROLES):
            return {}
        if missing:
            raise UsageError(
                f"models: expected a model for each role or for none, got none for: "
                f"{', '.join(missing)}; `--model NAME` sets all roles"
            )
        return roster

    def describe(self) -> str:
        """Returns one line: the models of all roles, or of each role where they differ."""
        lines = {role: ", ".join(self.names_for(role)) for role in ROLES if self.names_for(role)}
        if len(set(lines.values())) == 1:
            return lines["planner"]
        return "; ".join(f"{role}: {names}" for role, names in lines.items())

    @property
    def plans_apart(self) -> bool:
        """Whether a planner of its own plans for all slots of a generation in one call.

        Where it is the editor's model, each editor plans for itself, which costs no call.
        """
        return bool(self.planner) and self.planner != self.names_for("editor")

    @property
    def is_configured(self) -> bool:
        """Returns whether there is a model for every role."""
        return bool(self.roster())


@dataclass(frozen=True, slots=True)
class TemperatureSettings:
    """Temperatures by role, where they differ from `models.temperature`."""

    planner: float | None = setting(None, "of plans", low=0, high=2)
    editor: float | None = setting(None, "of edits", low=0, high=2)
    summarizer: float | None = setting(None, "of summaries", low=0, high=2)
    leap: float | None = setting(None, "of leaps", low=0, high=2)


@dataclass(frozen=True, slots=True)
class EffortSettings:
    """Reasoning efforts by role, where they differ from `models.effort`."""

    planner: str = setting("", "of plans")
    editor: str = setting("", "of edits")
    summarizer: str = setting("", "of summaries")
    leap: str = setting("", "of leaps")
