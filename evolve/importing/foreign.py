"""Folders of ours, written from another system's problem or from a competition of Kaggle's form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import NamedTuple

from evolve.errors import UsageError
from evolve.files import is_stray
from evolve.importing.their_files import TheirFiles, hide_in
from evolve.problem.gallery import (
    expect_empty,
    fill_templates,
    list_files,
    problem_name,
    write_files,
)
from evolve.scoring.competition import MEDALS, METRICS, read_table
from evolve.scoring.cooperative import THEIRS, Theirs
from evolve.toml import write_value

TABLE_FILE = "import.md"
# Larger files are shown to programs where they lie; the others are sent with each evaluation.
_SENT_BYTES = 256 << 10
_MOST_BYTES = 2 << 30
_NO_STATEMENT = "Improve the program below."

_SAMPLES = ("sample_submission.csv", "sampleSubmission.csv", "samplesubmission.csv")
_FILES = (
    "`description.md`, `train.csv`, `test.csv`, `sample_submission.csv`, `metric.txt` with one of "
    f"{', '.join(METRICS)}, and perhaps `medals.json`"
)
# The factor is something that a run without a model can change.
_MEAN = "factor = 1.0\n    return [factor * sum(targets) / len(targets)] * count"
_MOST = "return [max(sorted(set(targets), key=str), key=targets.count)] * count"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user says about an import.

    Attributes:
        objective: The metric that is optimised; empty for what their system takes.
        initial: Path of the starting program in the folder; empty for the usual names.
        config: Path of their configuration in the folder; empty for the usual names.
        keep: Names of files that come along although they look like solutions or keys.
        allow_broken_start: Whether a starting program that their evaluator refuses counts.
    """

    objective: str = ""
    initial: str = ""
    config: str = ""
    keep: tuple[str, ...] = ()
    allow_broken_start: bool = False


class Mapped(NamedTuple):
    """What became of a setting or file of another system."""

    name: str
    value: str
    here: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """A problem as another system states it.

    Attributes:
        kind: Its name in `systems.toml`.
        folder: Where it lies.
        files: Texts of the starting program, by path.
        path: Of the starting program, as their evaluator gets it.
        statement: What its models read; empty if nothing was found.
        seconds: Its deadline for one evaluation.
        memory_mb: Memory of one.
        asked: How its evaluator is asked.
        sources: Which of its files come along.
        table: What became of its settings and files.
    """

    kind: str
    folder: Path
    files: Mapping[str, str]
    path: str
    statement: str
    seconds: float
    memory_mb: int
    asked: Theirs
    sources: TheirFiles
    table: tuple[Mapped, ...]

    @property
    def options(self) -> str:
        """Returns the options of `evolve run` that its settings become."""
        return " ".join(row.here for row in self.table if row.here.startswith("--"))


def write_foreign(foreign: Foreign, target: Path) -> list[Path]:
    """Writes another system's problem as a problem folder.

    Returns:
        The files written.

    Raises:
        UsageError: The target is not empty or cannot be written, or their folder is too large.
    """
    expect_empty(target)
    size = sum((foreign.folder / path).stat().st_size for path in foreign.sources.taken)
    if size > _MOST_BYTES:
        raise UsageError(
            f"{foreign.folder}: expected at most {_MOST_BYTES} bytes of files that come along, got "
            f"{size}; move what no evaluation needs out of it"
        )
    texts = {
        **_fill_templates(foreign, target),
        target / "statement.md": escape_braces(foreign.statement or _NO_STATEMENT) + "\n",
        target / TABLE_FILE: _format_table(foreign),
        **{target / path: text for path, text in foreign.files.items()},
    }
    write_files(target, texts)
    beside = Path(foreign.asked.evaluator)
    try:
        for path in foreign.sources.taken:
            _bring(foreign.folder / path, path, target)
        for source in foreign.sources.borrowed:
            _bring(source, beside.with_name(source.name), target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error}") from error
    return list_files(target)


def escape_braces(text: str) -> str:
    """Returns a text of strangers in which nothing is a placeholder of ours."""
    return text.replace("{{", "{ {").replace("}}", "} }")


def _bring(source: Path, path: Path, target: Path) -> None:
    """Copies a file without its keys; large ones to the problem's data."""
    is_large = source.stat().st_size > _SENT_BYTES
    place = target / ("data" if is_large else "evaluator") / THEIRS / path
    place.parent.mkdir(parents=True, exist_ok=True)
    found = None if is_large else hide_in(source)
    if found is None:
        shutil.copyfile(source, place)
    else:
        place.write_text(found[0])


def _fill_templates(foreign: Foreign, target: Path) -> dict[Path, str]:
    files, tools = list(foreign.files), foreign.sources.tools
    return fill_templates(
        "importing/templates/theirs",
        target,
        kind=foreign.kind,
        name=write_value(problem_name(foreign.folder.name)),
        summary=write_value(f"imported from {foreign.kind}: {foreign.folder.name}"),
        files=write_value(files),
        # Their evaluator starts the program, but what is not Python needs a command here.
        start="" if files[0].endswith(".py") else 'run = "false"\n',
        tools=f"\n[sandbox]\nshow = {write_value(tools)}\n" if tools else "",
        seconds=f"{foreign.seconds:g}",
        memory_mb=foreign.memory_mb,
        evaluator_seconds=f"{foreign.seconds + 60.0:g}",
        asked=pformat(foreign.asked, width=96),
        path=repr(foreign.path),
    )


def _format_table(foreign: Foreign) -> str:
    rows = [("theirs", "value", "here"), ("---", "---", "---"), *foreign.table]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    head = f"# What became of {foreign.folder.name}, imported from {foreign.kind}\n\n"
    options = f"\n`evolve run` with {foreign.options} comes near it.\n" if foreign.options else ""
    return head + "\n".join(lines) + f"\n{options}"


def write_competition(folder: Path, target: Path) -> list[Path]:
    """Writes a competition's folder as a problem folder.

    Args:
        folder: Has `description.md`, `train.csv`, `test.csv`, a sample submission, `metric.txt`
            with the metric's name, and perhaps `medals.json` with thresholds.
        target: New or empty.

    Returns:
        The files written.

    Raises:
        UsageError: A file is missing or does not fit the others, or the target cannot be written.
    """
    expect_empty(target)
    metric = _read_metric(folder)
    identifier, column = _find_columns(folder)
    name = problem_name(folder.resolve().name)
    chosen = METRICS[metric]
    texts = fill_templates(
        "importing/templates/competition",
        target,
        name=write_value(name),
        summary=write_value(f"{_in_words(column)} by {metric}"),
        direction="maximize" if chosen.maximize else "minimize",
        description=escape_braces(_find(folder, "description.md").read_text("utf-8").strip()),
        shown=_in_words(column),
        form=" of probabilities of the class 1" if chosen.probabilities else "",
        metric=metric,
        better="larger is better" if chosen.maximize else "smaller is better",
        body=_MOST if chosen.classes and not chosen.probabilities else _MEAN,
        identifier=repr(identifier),
        target=repr(column),
        # Only the evaluator has it, so that no program can know the rows.
        seed=int.from_bytes(name.encode()[:4], "big"),
        medals=repr(_read_medals(folder)),
    )
    write_files(target, texts)
    try:
        for file in ("train.csv", "test.csv"):
            shutil.copy2(_find(folder, file), target / "evaluator" / file)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error}") from error
    return list_files(target)


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        if path.is_file() and is_stray(path, folder.resolve()):
            raise UsageError(f"{path}: expected a file of the folder, got a link that leads out")
        if path.is_file():
            return path
    raise UsageError(
        f"{folder}: expected a file `{names[0]}`, got none; a competition's folder has {_FILES}"
    )


def _in_words(column: str) -> str:
    """Returns a column's name as it can stand in a sentence of ours."""
    return escape_braces(" ".join(column.replace("`", "'").split()))


def _read_metric(folder: Path) -> str:
    path = _find(folder, "metric.txt")
    name = path.read_text("utf-8").strip().lower().replace("-", "_").replace(" ", "_")
    if name not in METRICS:
        raise UsageError(f"{path}: expected one of {', '.join(METRICS)}; got {name!r:.100}")
    return name


def _read_medals(folder: Path) -> dict[str, float]:
    if not (folder / "medals.json").is_file():
        return {}
    path = _find(folder, "medals.json")
    try:
        medals = json.loads(path.read_text("utf-8"))
        return {name: float(medals[name]) for name in MEDALS if medals.get(name) is not None}
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: expected an object with numbers for {', '.join(MEDALS)}: {error}"
        ) from error


def _find_columns(folder: Path) -> tuple[str, str]:
    """Returns the column that names rows, and the one to predict."""
    known, _ = read_table(_find(folder, "train.csv"))
    asked, _ = read_table(_find(folder, "test.csv"))
    sample = _find(folder, *_SAMPLES)
    head, _ = read_table(sample)
    names = [name for name in head if name in asked]
    targets = [name for name in head if name not in asked]
    if len(names) != 1 or len(targets) != 1 or targets[0] not in known:
        raise UsageError(
            f"{sample}: expected one column that names rows of test.csv and one of train.csv to "
            f"predict, got {head}"
        )
    return names[0], targets[0]
