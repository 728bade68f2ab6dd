"""The frozen records of programs, their evaluations, and the attempts that made them."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

# Pictures among artifacts are kept as `data:` addresses.
_ADDRESS = re.compile(r"data:image/(png|jpeg|gif|webp);base64,([A-Za-z0-9+/]+={0,2})")
_SIGNS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}
MOST_BYTES = 1_000_000


class PictureData(NamedTuple):
    """A picture that an evaluator made.

    Attributes:
        kind: `png`, `jpeg`, `gif` or `webp`.
        data: The image.
    """

    kind: str
    data: bytes


def find_kind(data: bytes) -> str:
    """Returns what kind of image bytes are; empty for none that is known."""
    return next((kind for sign, kind in _SIGNS.items() if data.startswith(sign)), "")


def as_address(kind: str, data: bytes) -> str:
    """Returns the address that holds an image."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def read_picture(text: str) -> PictureData | None:
    """Returns the picture in an artifact; None where it is a text."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return None
    try:
        data = base64.b64decode(found[2], validate=True)
    except ValueError:
        return None
    return PictureData(found[1], data) if find_kind(data) == found[1] else None


def as_text(text: str) -> str:
    """Returns a text that nobody takes for a picture, whatever a program has put into it."""
    return f"text: {text}" if text.startswith("data:image/") else text


class Direction(StrEnum):
    """Whether a larger or a smaller objective is better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"

    @property
    def sign(self) -> float:
        """Returns +1 to maximize and -1 to minimize: `sign * objective` always rises."""
        return 1.0 if self is Direction.MAXIMIZE else -1.0

    def is_better(self, new: float, old: float) -> bool:
        """Returns whether `new` is strictly better than `old`."""
        return self.sign * new > self.sign * old

    def gain(self, new: float, old: float) -> float:
        """Returns by how much `new` is better than `old`; negative where it is worse."""
        return self.sign * (new - old)


class Status(StrEnum):
    """What became of an attempt; only `OK` carries an objective.

    `STOPPED` is the verdict on a program that counts, and was too weak in an early stage to go on.
    """

    OK = "ok"
    STOPPED = "stopped"
    INFEASIBLE = "infeasible"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"
    REJECTED = "rejected"
    EVALUATOR_FAILED = "evaluator_failed"


class SourceFile(NamedTuple):
    """One file of a program: its path inside the workspace and its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Program:
    """The source under search, identified by its content.

    Attributes:
        files: In the problem's order; the first is the entry point.
        id: The first 16 hexadecimal digits of the SHA-256 of all paths and texts.
    """

    files: tuple[SourceFile, ...]
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256()
        for part in (part for file in self.files for part in file):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
        object.__setattr__(self, "id", digest.hexdigest()[:16])

    @property
    def entry(self) -> SourceFile:
        """Returns the file that is started or imported."""
        return self.files[0]


VALIDATION = "validation "
"""How the names of validation instances begin."""

BROKEN_EVALUATOR = "the evaluator broke on what the program gave it, or by itself"


class StageResult(NamedTuple):
    """What a program reached in an early stage of its evaluation.

    Attributes:
        name: Of the stage.
        objective: Comparable with others of this stage only; None where there is none.
        seconds: Wall time, the evaluator's own work included.
    """

    name: str
    objective: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The verdict on a program.

    Attributes:
        status: `OK` exactly when there is an objective.
        objective: The optimised number in the problem's own units, finite.
        metrics: Other numbers, shown and never selected on.
        measures: Coordinates in measure space.
        artifacts: Texts and pictures for the next prompt; programs have a part in them: they are
            never instructions.
        instances: Objectives of the instances that the objective is the mean of, by name, and of
            validation instances that it leaves out.
        repeats: Objectives of the evaluations that the objective is the mean of; none for one.
        stages: The early stages that the program went through, in order.
        seconds: Time inside the sandbox, measured outside it.
        reason: One line that says why there is no objective; empty when there is one.
        machine: Which machine it was made on: the node of a cluster, and its kind where time was
            measured; empty for this machine and no such measurement.
        lost: Nodes that were lost while they evaluated the program.
    """

    status: Status
    objective: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    instances: Mapping[str, float] = field(default_factory=dict)
    repeats: tuple[float, ...] = ()
    stages: tuple[StageResult, ...] = ()
    seconds: float = 0.0
    reason: str = ""
    # A verdict is the same wherever it was made.
    machine: str = field(default="", compare=False)
    lost: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if (self.status is Status.OK) != (self.objective is not None):
            raise ValueError(f"evaluation: status {self.status!r} with objective {self.objective}")
        if self.objective is not None and not math.isfinite(self.objective):
            raise ValueError(f"evaluation: expected a finite objective, got {self.objective}")

    @property
    def shown_instances(self) -> dict[str, float]:
        """Returns the instances without those of validation, which models never see."""
        found = self.instances.items()
        return {name: value for name, value in found if not name.startswith(VALIDATION)}

    @property
    def texts(self) -> dict[str, str]:
        """Returns the artifacts that are texts."""
        return {name: text for name, text in self.artifacts.items() if not read_picture(text)}

    @property
    def pictures(self) -> dict[str, str]:
        """Returns the artifacts that are pictures, as `data:` addresses."""
        return {name: text for name, text in self.artifacts.items() if read_picture(text)}

    @property
    def noise(self) -> float:
        """Returns how far the evaluations that it is the mean of lie apart; 0 for rounding."""
        apart = max(self.repeats, default=0.0) - min(self.repeats, default=0.0)
        # Which depends on the order in which threads add.
        return apart if apart > 1e-9 * max(map(abs, self.repeats), default=0.0) else 0.0

    def for_models(self) -> Evaluation:
        """Returns what models may see of it.

        What an evaluator says when it breaks holds its own lines and perhaps its data.
        """
        if self.status is not Status.EVALUATOR_FAILED:
            return self
        return replace(self, artifacts={}, reason=BROKEN_EVALUATOR)


def average(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Returns the verdict that several on one program come to: the first failure, else the mean.

    Each number is the mean over the evaluations that have it.
    """
    first = evaluations[0]
    failed = next((one for one in evaluations if one.objective is None), None)
    if failed is not None or len(evaluations) == 1:
        return failed or first
    objectives = tuple(one.objective for one in evaluations if one.objective is not None)

    def mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
        numbers: dict[str, list[float]] = {}
        for one in found:
            for name, number in one.items():
                numbers.setdefault(name, []).append(number)
        return {name: math.fsum(every) / len(every) for name, every in numbers.items()}

    return replace(
        first,
        objective=math.fsum(objectives) / len(objectives),
        metrics=mean([one.metrics for one in evaluations]),
        measures=mean([one.measures for one in evaluations]),
        instances=mean([one.instances for one in evaluations]),
        repeats=objectives,
    )


class AttemptKey(NamedTuple):
    """The place of an attempt in the run."""

    generation: int
    slot: int
    number: int

    def __str__(self) -> str:
        return f"{self.generation}.{self.slot}.{self.number}"


INITIAL = AttemptKey(0, 0, 0)


class EvaluationPlace(NamedTuple):
    """Where an evaluation belongs, and where it was recorded.

    Attributes:
        own: Generation, slot, and its number among the evaluations of that slot.
        recorded: The same, or the place of a slot that needed the same evaluation and began first.
    """

    own: AttemptKey
    recorded: AttemptKey


TUNE = "tune_constants"
"""What a plan names as its operator where an attempt is a sample of tuning."""

RESCORE = "rescore"
"""What it names where a program is evaluated again, with another evaluator than before."""

INJECT = "inject"
"""What it names where a program is one that somebody put into the run."""

OPERATOR_JOIN = "+"
"""Stands between the names of operators that were applied one after the other, in a leap."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a slot sets out to do.

    Attributes:
        change: The change, in words; for operators their name and details.
        hypothesis: Why it should help.
        tags: Short words that group approaches.
        operator: Name of the model-free operator, empty for a model's plan.
        lessons: Ids of the lessons that it follows.
        base: Key of the attempt whose program is changed, as text; empty where the slot decides.
    """

    change: str
    hypothesis: str = ""
    tags: tuple[str, ...] = ()
    operator: str = ""
    lessons: tuple[str, ...] = ()
    base: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A reply that was not turned into a program worth an evaluation, and why."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at executing a plan; every attempt is kept.

    Attributes:
        key: Its place in the run.
        island: Island of its parent, or of the initial program.
        parent: Key of the attempt whose program was changed; `None` for the initial program.
        depth: Length of the chain of parents.
        plan: What was tried.
        program: The new source, if the reply gave one.
        evaluation: The verdict; status `REJECTED` when the program was not evaluated.
        evaluated: The place of its evaluation; `None` when the program was not evaluated.
    """

    key: AttemptKey
    island: int
    parent: AttemptKey | None
    depth: int
    plan: Plan | None
    program: Program | None
    evaluation: Evaluation
    evaluated: EvaluationPlace | None = field(default=None, compare=False)

    @property
    def objective(self) -> float | None:
        """Returns the objective, if the program has one."""
        return self.evaluation.objective

    @property
    def program_or_fail(self) -> Program:
        """Returns the program; raises `ValueError` where there is none."""
        if self.program is None:
            raise ValueError(f"attempt {self.key}: expected a program, got none")
        return self.program


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a generation taught, as its summary puts it.

    Attributes:
        claim: What is to be remembered.
        evidence: The numbers that show it.
        scope: Where it holds.
        works: Whether the claim says that something works; else that it does not.
        tags: Short words that group lessons.
    """

    claim: str
    evidence: str = ""
    scope: str = ""
    works: bool = True
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What the attempts of a generation taught, compared with one another.

    Attributes:
        verdict: One line on what decided between the best and the others.
        lessons: The durable content; empty when nothing was learnt.
        outdated: Ids of earlier lessons that its numbers contradict.
    """

    verdict: str
    lessons: tuple[Lesson, ...] = ()
    outdated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """The attempt whose program is changed, and those whose programs are shown or mixed in."""

    parent: Attempt
    inspirations: tuple[Attempt, ...] = ()
