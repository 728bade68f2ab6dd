"""A competition folder of Kaggle's form, written as one of ours."""

# Paragraphs of the statement stand on one line each.
# ruff: noqa: E501

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from evolve.errors import UsageError
from evolve.files import is_stray
from evolve.importing.foreign import escape_braces
from evolve.problem.gallery import expect_empty, list_files, write_files
from evolve.scoring.competition import MEDALS, METRICS, read_table
from evolve.toml import write_value

_SAMPLES = ("sample_submission.csv", "sampleSubmission.csv", "samplesubmission.csv")
_FILES = (
    "`description.md`, `train.csv`, `test.csv`, `sample_submission.csv`, `metric.txt` with one of "
    f"{', '.join(METRICS)}, and perhaps `medals.json`"
)
_TOML = """\
name = {name}
summary = {summary}
direction = "{direction}"
evaluator = "evaluator/evaluator.py"
holdout = "evaluate_holdout"
submit = "write_submission"
entry = "predict"
# Add "sklearn" where it is installed.
packages = ["numpy"]

[limits]
seconds = 120
memory_mb = 4096
"""
_STATEMENT = """\
{description}

## What the program does

`predict(train, targets, rows)` gives one prediction of `{target}` for each row of `rows`, as a list{form}. `train` and `rows` are dictionaries of columns: lists of numbers or texts, with `None` where a cell is missing. `targets` has `{target}` for each row of `train`. The objective is {metric} on rows whose targets the program never sees ({better}). All of it has 120 seconds on one core.
"""
_EVALUATOR = '''\
"""Scores predictions by {metric}."""

from pathlib import Path

from evolve.scoring.competition import Competition, score_part
from evolve.scoring.competition import write_submission as submit
from evolve.scoring import ProgramHandle, Score

COMPETITION = Competition(
    folder=Path(__file__).parent,
    identifier={identifier!r},
    target={target!r},
    metric={metric!r},
    seed={seed},
    medals={medals!r},
)


def evaluate(program: ProgramHandle) -> Score:
    """Scores on the validation rows."""
    return score_part(program, COMPETITION, "validation")


def evaluate_holdout(program: ProgramHandle) -> Score:
    """Scores and grades on rows that nothing was selected on."""
    return score_part(program, COMPETITION, "holdout")


def write_submission(program: ProgramHandle) -> Score:
    """Predicts the rows that were handed out without targets."""
    return submit(program, COMPETITION)
'''
_PLAIN = '''\
"""Predicts the same for every row."""

# EVOLVE-BLOCK-START
def predict(train, targets, rows):
    """Returns one prediction for each row of `rows`."""
    count = len(next(iter(rows.values())))
    {body}
# EVOLVE-BLOCK-END
'''
_MEAN = "return [sum(targets) / len(targets)] * count"
_MOST = "return [max(sorted(set(targets), key=str), key=targets.count)] * count"


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
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", folder.resolve().name).strip("_-") or "competition"
    chosen = METRICS[metric]
    form = " of probabilities of the class 1" if chosen.probabilities else ""
    texts = {
        target / "problem.toml": _TOML.format(
            name=write_value(name),
            summary=write_value(f"{_in_words(column)} by {metric}"),
            direction="maximize" if chosen.maximize else "minimize",
        ),
        target / "statement.md": _STATEMENT.format(
            description=_read_description(folder),
            target=_in_words(column),
            form=form,
            metric=metric,
            better="larger is better" if chosen.maximize else "smaller is better",
        ),
        target / "initial.py": _PLAIN.format(
            body=_MOST if chosen.classes and not chosen.probabilities else _MEAN
        ),
        target / "evaluator/evaluator.py": _EVALUATOR.format(
            identifier=identifier,
            target=column,
            metric=metric,
            # Only the evaluator has it, so that no program can know the rows.
            seed=int.from_bytes(name.encode()[:4], "big"),
            medals=_read_medals(folder),
        ),
    }
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


def _read_description(folder: Path) -> str:
    return escape_braces(_find(folder, "description.md").read_text("utf-8").strip())


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
