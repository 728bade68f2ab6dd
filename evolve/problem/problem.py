"""What a problem is: the tables of its `problem.toml`, and what they become."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from evolve.errors import UsageError
from evolve.files import check_path, inside
from evolve.records import Direction, Program
from evolve.source.parsing import is_readable
from evolve.toml import IDENTIFIER, NAME, expect, key


class Purpose(StrEnum):
    """What a function of the evaluator is for, by the key that names it in `problem.toml`."""

    SEARCH = "function"
    HOLDOUT = "holdout"  # scores champions on data that the search never sees
    PLOT = "plot"  # scores a program and draws its answer
    SUBMIT = "submit"  # scores a program and writes its answer for somebody else's judgement
    PROBE = "probe"  # reports what programs find in the sandbox; no key of `problem.toml`


SMOKE = "smoke check"
"""Name of the stage that the key `smoke` stands for."""

NO_BARS: Mapping[str, float] = MappingProxyType({})
"""By stage, the objective that lets a program go on, where no share of the programs is chosen."""

COOPERATIVE = "cooperative evaluator: it runs next to the program, which can forge its scores"

# What a function produces besides its score, and under which name.
PRODUCTS = {Purpose.PLOT: "picture.svg", Purpose.SUBMIT: "submission.csv"}


_MODEL = (
    r"(?!\s*(cmd|manual)\s*(:|\Z))(?![\s\S]*://)[\s\S]*",
    "a name such as `provider/model` (others are named by who starts a run: --set models.program=)",
)
_OTHER = r"(?!objective\Z)[\s\S]*"
_FURTHER = (_OTHER, "a name other than `objective`, which always comes first")
_MEASURE = (
    _OTHER,
    "something other than the objective; measures say how programs differ, not how good they are",
)


def _split_command(value: Any, place: str) -> tuple[str, ...]:
    """Returns the words of a command, which may be given as a list or as one text."""
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise UsageError(
            f"{place}: expected a command's words, got {value!r:.200}: {error}"
        ) from None
    is_list = isinstance(words, list) and all(isinstance(word, str) for word in words)
    expect(is_list and value != [], "a command's words", value, place)
    return tuple(words)


def _clean_signature(text: str, place: str) -> str:
    line = " ".join(text.split()).removesuffix(":")
    try:
        found = ast.parse(f"{line}:\n    pass").body
    except SyntaxError:
        found = []
    is_one = len(found) == 1 and isinstance(found[0], ast.FunctionDef)
    expect(is_one, "a line such as `def pack(count: int) -> list`", text, place)
    return line


@dataclass(frozen=True, slots=True)
class Measure:
    """A coordinate of measure space, divided into cells.

    Attributes:
        name: Under which evaluations report it.
        low: Lower end of the range; smaller values fall into the first cell.
        high: Upper end of the range, above `low`; larger values fall into the last cell.
        cells: Into how many cells the range is divided.
        scale: `linear` or `log`.
    """

    name: str = key(form=_MEASURE)
    low: float = key()
    high: float = key()
    cells: int = key(10, low=1)
    scale: str = key("linear", choices=("linear", "log"))


@dataclass(frozen=True, slots=True)
class Objective:
    """A further objective, which evaluators report among the metrics.

    Attributes:
        name: Of the metric.
        direction: Whether a larger or a smaller value is better.
    """

    name: str = key(form=_FURTHER)
    direction: Direction = key()


@dataclass(frozen=True, slots=True)
class Reference:
    """A value of the objective to compare with, and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Recipe:
    """How a problem's programs are built and started: keys of `[program]`.

    Attributes:
        build: Shell script that is run once per program; empty for none.
        built: Files made by it that are kept; all new ones when empty.
        build_seconds: Deadline of the build.
        run: Words of the command that starts a program; empty where it is only called.
    """

    build: str = key("", clean=lambda text, _: text.strip())
    built: tuple[str, ...] = key((), clean=check_path)
    build_seconds: float = key(60.0, above=0.0)
    run: tuple[str, ...] = key((), parse=_split_command)


@dataclass(frozen=True)
class AskRules:
    """How programs, or the evaluator, may ask a language model.

    Attributes:
        model: Its name; empty for that of the run.
        calls: Questions of one evaluation at most; 0 where nothing is said of them.
        max_tokens: Of an answer at most.
    """

    model: str = key("", form=_MODEL)
    calls: int = key(0, low=1)
    max_tokens: int = key(1024, low=1)


@dataclass(frozen=True)
class EvaluatorTable(AskRules):
    """The keys of `[evaluator]`."""

    file: str = "evaluator.py"
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProgramTable(AskRules, Recipe):
    """The keys of `[program]`."""

    files: tuple[str, ...] = key((), low=1)
    signature: tuple[str, ...] = key((), clean=_clean_signature)
    may_add: tuple[str, ...] = key((), clean=inside)


@dataclass(frozen=True, slots=True)
class NoiseTable:
    """The keys of `[noise]`."""

    spread: float = key(0.0, low=0)
    repeats: int = key(0, low=1)


@dataclass(frozen=True, slots=True)
class SandboxTable:
    """The keys of `[sandbox]`."""

    show: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitTable:
    """The keys of `[limits]`; what is not named has the default of the sandbox."""

    seconds: float = key(None, above=0.0)
    memory_mb: int = key(None, low=1)
    processes: int = key(None, low=1)
    workspace_mb: int = key(None, low=1)
    reply_mb: int = key(None, low=1)
    output_kb: int = key(None, low=1)
    gpus: int = key(None, low=1)


@dataclass(frozen=True, slots=True)
class Stage:
    """A cheap evaluation that comes before the full one, and may spare it: `[[stages]]`.

    Attributes:
        name: In verdicts and reports; by default that of the function.
        function: Name of the evaluator's function that scores a program in it; by default that
            of the full evaluation.
        parameters: Of this function; what is not named is as in the problem.
        limits: What a program may use in it; what is not named is as in the problem.
        threshold: The objective that lets a program go on; None for any.
        share: The share of programs that passes, the best; None for all.
    """

    name: str = ""
    function: str = key("", form=IDENTIFIER)
    parameters: Mapping[str, Any] = key({})
    limits: Mapping[str, Any] = key({}, entries=LimitTable)
    threshold: float | None = None
    share: float | None = key(None, above=0.0)

    @property
    def rejects(self) -> bool:
        """Returns whether a program that fails in it is rejected, at no evaluation's cost."""
        return self.name == SMOKE


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFacts:
    """What `problem.toml` says at its top and means as it stands.

    Attributes:
        name: Short name, fit for a folder.
        summary: One line for people.
        direction: Whether a larger or a smaller objective is better.
        evaluator_seconds: Deadline for scoring one program, sandbox time included.
        secret: Whether what the evaluator passes to programs must not reach a model: of a program
            that fails only the kind and line of its exception are kept, and no output.
        cooperative: Whether the evaluator shares an interpreter with the program, which then can
            forge its scores.
        packages: Imported in the sandbox before any program starts.
        entry: Names that the program's first file must define at its top level.
        limits: What a program may use, by the names of `evolve.sandbox.guest.wire.ProgramLimits`;
            what is not named has its default.
        objectives: What is optimised in addition to the objective; cells then hold Pareto fronts.
        best_known: Best value known to be reached, if there is one.
        bound: A value that no program can pass, if one is known.
        baseline: Value of a plain method, if there is one.
    """

    name: str = key(form=NAME)
    summary: str = ""
    direction: Direction
    evaluator_seconds: float = key(60.0, above=0.0)
    secret: bool = False
    cooperative: bool = False
    packages: tuple[str, ...] = ("numpy",)
    entry: tuple[str, ...] = ()
    limits: Mapping[str, Any] = key({}, entries=LimitTable)
    objectives: tuple[Objective, ...] = ()
    best_known: Reference | None = None
    bound: Reference | None = None
    baseline: Reference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemTable(ProblemFacts):
    """The keys of `problem.toml`."""

    evaluator: EvaluatorTable = key(EvaluatorTable(), short="file")
    function: str = key("evaluate", form=IDENTIFIER)
    holdout: str = key("", form=IDENTIFIER)
    smoke: str = key("", form=IDENTIFIER)
    plot: str = key("", form=IDENTIFIER)
    submit: str = key("", form=IDENTIFIER)
    noise: NoiseTable = key(NoiseTable(), short="spread")
    program: ProgramTable = key(ProgramTable())
    parameters: Mapping[str, Any] = key({})
    sandbox: SandboxTable = key(SandboxTable())
    measures: tuple[Measure, ...] | None = None
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem(ProblemFacts):
    """What a run tries to improve, and how it is judged.

    Attributes:
        statement: What models read about the problem.
        initial: The starting program.
        has_start: Whether there is one; else `initial` stands for it, which always fails.
        may_add: Patterns of the names of files that a program may have beyond those of the start.
        recipe: How programs are built and started.
        evaluator: File with the trusted scoring code.
        world: Folder that holds the evaluator and all that it needs.
        environment: Names of the environment variables that it needs.
        functions: Names of the functions in it that score a program, by what they are for.
        stages: What comes before a full evaluation, the cheapest first.
        asks: Who may ask a language model, `program` or `evaluator`, and how.
        noise: How far two objectives of one program may lie apart; above 0 where they depend on
            time or chance.
        repeats: How often a program that would lead is evaluated again at most; 0 for once where
            there is noise.
        parameters: Keyword arguments of the evaluator's functions.
        measures: Axes of measure space; an archive without any has one cell.
        shown: Folders of tool chains that programs see besides those of the system.
        data: Folder that programs may read, if there is one.
        folder: The problem folder.
    """

    statement: str
    initial: Program
    has_start: bool
    may_add: tuple[str, ...]
    recipe: Recipe
    evaluator: Path
    world: Path
    environment: tuple[str, ...]
    functions: Mapping[Purpose, str]
    stages: tuple[Stage, ...]
    asks: Mapping[str, AskRules]
    noise: float
    repeats: int
    parameters: Mapping[str, Any]
    measures: tuple[Measure, ...]
    shown: tuple[Path, ...]
    data: Path | None
    folder: Path

    @property
    def is_text(self) -> bool:
        """Returns whether its programs are texts, which evaluators read and nothing runs."""
        return not self.recipe.run and is_readable(self.initial.entry.path)

    @property
    def references(self) -> dict[str, Reference]:
        """Returns the values to compare objectives with, by name."""
        named = {"baseline": self.baseline, "best known": self.best_known, "bound": self.bound}
        return {name: known for name, known in named.items() if known is not None}
