"""The settings of a run by section, with their defaults, and what each of them is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from evolve.errors import UsageError
from evolve.toml import key

WORKSPACE = "workspace"
# Of a command in a slot, that of what it leaves included.
_WORKSPACE_EVALUATIONS = 6
ROLES = ("planner", "editor", "summarizer", "leap")
_WEIGHTED = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*\*\s*(.*)", re.DOTALL)


class Defaults(NamedTuple):
    """What holds where nothing else was asked for.

    Attributes:
        generations: Generations to run.
        slots: Slots in a generation.
        stall_after: Evaluations without progress that make a stall.
        tuning_share: Share of the evaluations that tunes constants; None where it depends on how
            long an evaluation takes.
        max_seconds: Limit of time, for people who asked for no limit at all.
    """

    generations: int
    slots: int
    stall_after: int
    tuning_share: float | None
    max_seconds: float | None = None


WITH_MODEL = Defaults(generations=30, slots=4, stall_after=16, tuning_share=None)
WITHOUT_MODEL = Defaults(
    generations=600, slots=8, stall_after=240, tuning_share=0.25, max_seconds=150.0
)
# Generations that may be in flight beside the oldest.
MOST_LAG = 16
# Evaluations with which a session of tuning hardly begins.
LEAST_TUNING = 50
# With a model a generation tunes for about so long, with at most so many evaluations; not at all
# where one takes longer than a few seconds or a cap leaves too few of them.
TUNING_SECONDS = 40.0
MOST_TUNING = 96
SLOW_SECONDS = 4.0
LEAST_WITH_MODEL = 30


@dataclass(frozen=True, slots=True)
class Strategy:
    """Where parents come from.

    Attributes:
        about: What it does, in words.
        pool: `elites` of the slot's island; the `initial` program; the `champion`; or all
            `evaluated` programs.
        rule: How one is drawn from `elites`: `boltzmann`, or `pareto`, from those that lead on some
            instance; other pools are drawn from evenly.
    """

    about: str
    pool: str = "elites"
    rule: str = ""

    @property
    def is_baseline(self) -> bool:
        """Returns whether parents come from elsewhere than cells.

        Such a strategy shows no inspirations, does not answer to stalls and needs one island.
        """
        return self.pool != "elites"


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "map-elites": Strategy("better elites more often, to a target entropy", rule="boltzmann"),
        "pareto": Strategy("a program that leads on some instance", rule="pareto"),
        "hill-climb": Strategy("the champion, alone", pool="champion"),
        "best-of-n": Strategy("the starting program, always", pool="initial"),
        "random": Strategy("any program evaluated so far", pool="evaluated"),
    }
)

PARTS = {
    "bandit": "learning which operators and models pay off",
    "confirmation": "evaluating a program that would lead again, where objectives are noisy",
    "fruitless": "stopping after three generations that evaluate next to nothing",
    "hill-climbing": "changing the champion alone in many slots, while that surely pays more",
    "lessons": "showing the lessons of the run",
    "migration": "copying elites between islands",
    "stalls": "answering to stalls",
    "summaries": "drawing lessons from each generation",
    "visits": "choosing parents with many children less often",
}
"""What `search.without` leaves out, to measure what it is worth."""


def clean_address(text: str, where: str) -> str:
    """Returns the base of an address that may name the whole path of a request; empty for none.

    Raises:
        UsageError: It has no scheme.
    """
    address = text.strip().rstrip("/")
    address = address.removesuffix("/chat/completions").removesuffix("/completions")
    if address and not re.match("https?://[^/]", address):
        # What stands before an `@` may be a password.
        shown = address.rpartition("@")[2]
        raise UsageError(
            f"{where}: expected an address that begins with http:// or https://, got {shown!r};"
            f" try http://{shown}"
        )
    return address


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
class LoopSettings:
    """How the loop is cut into generations and slots."""

    generations: int | None = key(
        None,
        f"generations to run; by default {WITH_MODEL.generations} with a model, "
        f"{WITHOUT_MODEL.generations} without",
        low=1,
    )
    slots: int = key(
        0,
        f"slots in a generation; by default {WITH_MODEL.slots} with a model, "
        f"{WITHOUT_MODEL.slots} without",
        low=0,
        high=4096,
    )
    seed: int = key(0, "seed of every random stream", low=0)
    workers: int | None = key(
        None, "model calls at a time; by default 8; changes no result", low=1, high=1024
    )
    allow_broken_start: bool = key(
        False,  # noqa: FBT003
        "begin although the starting program has no objective, for models to repair it",
    )
    lag: int = key(1, "generations that may be in flight beside the oldest", low=0, high=MOST_LAG)


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """What ends a run early; all caps are hard."""

    max_cost_usd: float | None = key(None, "US dollars for model calls", low=0)
    max_evaluations: int | None = key(None, "evaluations, the initial one included", low=1)
    max_calls: int | None = key(None, "model calls", low=1)
    max_tokens: int | None = key(None, "tokens read and written", low=1)
    max_seconds: float | None = key(
        None, f"wall-clock seconds; by default {WITHOUT_MODEL.max_seconds:g} without a model", low=0
    )
    target: float | None = key(None, "objective at which the run stops")
    patience: int | None = key(
        None, "evaluations without progress after which the run stops", low=1
    )


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Population, selection and migration."""

    strategy: str = key("map-elites", "where parents come from", choices=tuple(STRATEGIES))
    archive: str = key("grid", "how measure space is cut", choices=("grid", "single"))
    islands: int = key(2, "islands, each with an archive of its own", low=1, high=256)
    entropy: float = key(
        0.3, "normalised entropy of parent selection: 0 greedy, 1 uniform", low=0, high=1
    )
    stall_after: int | None = key(
        None,
        "evaluations without progress that make a stall; by default "
        f"{WITH_MODEL.stall_after} with a model, {WITHOUT_MODEL.stall_after} without",
        low=1,
    )
    without: tuple[str, ...] = key(
        (), "parts that are left out, to see what they are worth", choices=tuple(PARTS)
    )


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """How constants are tuned next to the slots, without a model."""

    share: float | None = key(
        None,
        "share of the evaluations that tunes constants, 0 for none; by default "
        f"{WITHOUT_MODEL.tuning_share:g} without a model, none where that is fewer than "
        f"{LEAST_TUNING} evaluations; with a model what fits into {TUNING_SECONDS:g} s a "
        f"generation, at most {MOST_TUNING} evaluations, none where one takes longer than "
        f"{SLOW_SECONDS:g} s",
        low=0,
        high=0.99,
    )


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Language models by role; none at all means that the model-free steps run.

    A name with a weight is written `2*NAME`.
    """

    model: tuple[str, ...] = key((), "models of every role that names none")
    planner: tuple[str, ...] = key(
        (), "models that plan for all slots in one call; by default each editor plans for itself"
    )
    editor: tuple[str, ...] = key((), "models that write edits")
    summarizer: tuple[str, ...] = key((), "models that draw lessons")
    program: str = key(
        "", "model that programs ask, where the problem lets them; by default that of the problem"
    )
    evaluator: str = key(
        "", "model that the evaluator asks as a judge, where it does; by default the problem's"
    )
    api_base: str = key("", "address of an OpenAI-compatible server", clean=clean_address)
    replay: str = key("", "run folder whose recorded replies answer in place of models")
    request_seconds: float = key(
        900.0,
        "one whole answer, before it is asked for again; twice that for all retries, and a model "
        "that is down is waited for as long",
        low=0.1,
    )
    max_tokens: int | None = key(
        None, "most tokens of a reply, thinking included; by default the model's own limit", low=16
    )
    pictures: int = key(
        0, "most pictures of answers that a prompt shows, for models that see", low=0, high=16
    )
    digest_tokens: int | None = key(
        None,
        "most tokens of a prompt, a high estimate; by default half the window, at most 60000",
        low=500,
    )

    def names_for(self, role: str) -> tuple[str, ...]:
        """Returns the names of a role's models, with their weights in front."""
        own: tuple[str, ...] = getattr(self, "editor" if role == "leap" else role)
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

    @property
    def asked(self) -> Mapping[str, str]:
        """Returns the models that evaluations ask, by the role that asks."""
        named = {"program": self.program, "evaluator": self.evaluator}
        return {role: name for role, name in named.items() if name}

    def describe(self) -> str:
        """Returns one line: the models of all roles, or of each role where they differ."""
        lines = {role: ", ".join(self.names_for(role)) for role in ROLES if self.names_for(role)}
        if len(set(lines.values())) == 1:
            return lines["planner"]
        return "; ".join(f"{role}: {names}" for role, names in lines.items())

    @property
    def deadline_seconds(self) -> float:
        """Returns the longest time of one call, all retries included."""
        return 2 * self.request_seconds

    @property
    def idle_seconds(self) -> float:
        """Returns the longest silence within an answer that has begun to come in."""
        return min(120.0, self.request_seconds)

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
class StepSettings:
    """How plans are executed."""

    repairs: int = key(1, "repair turns after a failed edit or program", low=0, high=8)
    form: str = key(
        "auto",
        "what the editor is asked for; `auto` is edits until a model's edits keep failing",
        choices=("auto", "edit", "rewrite"),
    )
    agent_turns: int = key(
        0,
        "most answers of an editor that calls tools, with an evaluation for every 4 of them and "
        "5000 tokens for each; 0 for one that answers once, without tools",
        low=0,
        high=200,
    )
    executor: str = key(
        "model",
        "who carries out plans: a `model` that answers, or in a `workspace` the command that is "
        "the editor",
        choices=("model", WORKSPACE),
    )
    workspace_variables: tuple[str, ...] = key(
        (), "names of environment variables that a command in a workspace gets"
    )
    workspace_shows: tuple[str, ...] = key(
        (), "files and folders that a command in a workspace may read"
    )

    @property
    def agent_evaluations(self) -> int:
        """Returns the most evaluations of an agent in a slot."""
        return max(1, self.agent_turns // 4)

    @property
    def agent_tokens(self) -> int:
        """Returns the most tokens that an agent reads and writes in a slot."""
        return 5000 * self.agent_turns

    @property
    def most_evaluations(self) -> int:
        """Returns the most evaluations that a slot with a model may use."""
        if self.executor == WORKSPACE:
            return _WORKSPACE_EVALUATIONS
        return self.agent_evaluations if self.agent_turns else 1 + self.repairs


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Where programs run."""

    backend: str = key("auto", "`auto` takes the strongest that proves itself")
    allow_weak: bool = key(False, "run although nothing isolates")  # noqa: FBT003
    fresh: bool = key(False, "a new sandbox for each program")  # noqa: FBT003
    image: str = key("", "container image for `docker`; made from this Python by default")
    devices: str = key(
        "",
        "GPUs that programs see: `all`, a number or `device=ID,ID`, in `docker` also names like "
        "`nvidia.com/gpu=0`; `native` has none",
    )
    processes: int | None = key(
        None,
        "evaluators at a time; by default one per core, on a cluster as many as there is room for",
        low=1,
        high=10_000,
    )
    evaluator_memory_mb: int = key(
        4096, "memory of one evaluator process; beyond it is replaced", low=64
    )


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where evaluations run instead of on this machine, and what each evaluator asks for there."""

    address: str = key(
        "",
        "Ray cluster on which programs are evaluated: `ray` for that of this machine or of "
        "`RAY_ADDRESS`, or `ray://HOST:10001`; empty for none",
    )
    resources: tuple[str, ...] = key(
        (),
        "what an evaluator asks for, as `NAME=AMOUNT`: `CPU` (1 by default), `memory` in MB (by "
        "default the `memory_mb` of the problem's programs), and what else Ray's nodes declare",
    )
    kind: str = key(
        "",
        "kind of machine on which a problem that measures time is evaluated, or `any`; by default "
        "that of the first node",
    )
    wait_seconds: float = key(120.0, "how long a run waits for its first evaluator", low=0)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a run, frozen when it starts."""

    loop: LoopSettings = field(default_factory=LoopSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    tuning: TuningSettings = field(default_factory=TuningSettings)
    models: ModelSettings = field(default_factory=ModelSettings)
    steps: StepSettings = field(default_factory=StepSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    temperature: Mapping[str, float] = field(default_factory=dict)
    effort: Mapping[str, str] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def find_for(self, section: str, role: str) -> Any:
        """Returns what `temperature` or `effort` says of a role; None where it says nothing."""
        table = getattr(self, section)
        return table.get(role, table.get("all"))


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs, in US dollars per million tokens."""

    prompt: float = key(None, low=0)
    completion: float = key(None, low=0)
    cached: float = key(None, low=0)


@dataclass(frozen=True, slots=True)
class EndpointEntry:
    """How a model's requests are sent, and how many of them."""

    api_base: str = key(None, clean=clean_address)
    drop: tuple[str, ...] = ()
    rename: Mapping[str, Any] = key(None)
    extra: Mapping[str, Any] = key(None)
    concurrency: float = key(None, low=0)
    requests_per_minute: float = key(None, low=0)
    tokens_per_minute: float = key(None, low=0)


def _by_role(name: str, kind: type, **bounds: Any) -> type:
    return make_dataclass(name, [(role, kind, key(None, **bounds)) for role in ("all", *ROLES)])


# What may stand by role, and in sections with names of the user's, of which None takes anything.
BY_ROLE: Mapping[str, type] = {
    "temperature": _by_role("Temperatures", float, low=0),
    "effort": _by_role("Efforts", str),
}
FREE_SECTIONS: Mapping[str, type | None] = {
    "parameters": None,
    "prices": Prices,
    "endpoints": EndpointEntry,
    **BY_ROLE,
}
