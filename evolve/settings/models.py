"""The settings of language models, by role."""

from __future__ import annotations

from dataclasses import dataclass

from evolve.settings.values import setting


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

    @property
    def plans_apart(self) -> bool:
        """Whether a planner of its own plans for all slots of a generation in one call.

        Where it is the editor's model, each editor plans for itself, which costs no call.
        """
        return bool(self.planner) and self.planner != self.names_for("editor")

    @property
    def is_configured(self) -> bool:
        """Returns whether every role has a model."""
        return all(self.names_for(role) for role in ("planner", "editor", "summarizer"))


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
