"""Scores from an evaluator that runs next to the program: taken at its word, inside the sandbox.

Evaluators of other systems import the program into their own interpreter. They run here in the
sandbox together with it: the host is safe, the score is not, since the program can change
whatever the evaluator says. Such problems are marked cooperative wherever their numbers stand.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from evolve.scoring.handle import ProgramHandle
from evolve.scoring.score import Infeasible, Score

# Folders of their files, beside the evaluator and among the problem's data, and in the workspace.
THEIRS = "theirs"
# The artifact in which an evaluator reports what people should know about its scores.
WARNING = "warning"
_HARNESS, _RESULT = "their_harness.py", "their_result.json"
_MAX_ARTIFACT = 4000
_REASON_CHARACTERS = 300
# Names of texts in which evaluators say why a program has no score, and how machines say it.
_ERROR_NAME = re.compile(r"err|exception|traceback|fail|why|reason", re.IGNORECASE)
_PLAIN_ERROR_NAME = re.compile(r"error|exception|traceback", re.IGNORECASE)
_MACHINE_WORDS = re.compile(
    r"not found|no such file|no module named|cannot import|not installed|not available|api.?key"
    r"|\btoken\b.*(missing|invalid)|not set|must be set|refused|denied|unauthorized|unreachable"
    r"|name resolution|no space left",
    re.IGNORECASE,
)
_ERROR_WORDS = re.compile(r"error\b|exception\b|failed", re.IGNORECASE)
_NETWORK_WORDS = re.compile(
    r"urlopen|urllib|connection|operation not permitted|name resolution|max retries", re.IGNORECASE
)
# Metrics that are 0 where nothing could be scored.
_VERDICT_NAME = re.compile(r"score|success|valid|correct|pass|runs", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Theirs:
    """How another system's evaluator is asked.

    Attributes:
        form: `stages`, `status`, `script`, `results`, `function` or `candidate`; see
            `evolve.scoring.harness`.
        evaluator: Path of its file among their files.
        objective: The metric that is optimised; empty for what their system takes, `mean` for the
            mean of all numbers.
        thresholds: What each stage but the last must reach; none for one stage.
        features: Metrics that the mean leaves out.
        arguments: What else the form needs: words of a command line, or names.
        variables: Environment variables that it and the program see, where `environment` in
            `problem.toml` names them.
        allow_broken_start: Whether the starting program counts with the score that their system
            gives it, also where their evaluator fails.
    """

    form: str
    evaluator: str
    objective: str = ""
    thresholds: tuple[float, ...] = ()
    features: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    allow_broken_start: bool = False


def evaluate_there(program: ProgramHandle, folder: Path, theirs: Theirs, *, path: str) -> Score:
    """Lets another system's evaluator score a program, both inside the sandbox.

    Args:
        program: What to score.
        folder: Their files.
        theirs: How they are asked.
        path: Of the program, as their evaluator gets it.

    Returns:
        What their evaluator said, by our names.

    Raises:
        Infeasible: It said that the program does not count, failed, or returned no finite number.
        ProgramError: It crashed or did not end in time.
    """
    harness = resources.files("evolve") / "scoring" / "harness.py"
    files = {
        f"{THEIRS}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    shown = {name: os.environ[name] for name in theirs.variables if name in os.environ}
    asked = {**asdict(theirs), "folder": THEIRS, "program": path, "result": _RESULT}
    asked["variables"] = shown
    done = program.run(
        _HARNESS,
        json.dumps(asked),
        command=(sys.executable,),
        files={**files, _HARNESS: harness.read_bytes()},
        outputs=(_RESULT,),
    )
    found = json.loads(done.file(_RESULT))
    return _read_score(found, f"{done.text}\n{done.stderr}".strip(), program, theirs)


def _read_score(
    found: dict[str, Any], output: str, program: ProgramHandle, theirs: Theirs
) -> Score:
    numbers, texts = _sort_values({**found["metrics"], **found["artifacts"]})
    objective, warning = found.get("objective"), str(found.get("note") or "")
    failed = _find_failure(found, numbers, texts, output)
    is_kept = theirs.allow_broken_start or found.get("is_invalid", False)
    if failed and not (program.is_start and is_kept):
        raise Infeasible(failed)
    if failed:
        objective = objective if _is_finite(objective) else 0.0
        warning = (
            "their evaluator refuses the starting program, which is placed with the score that "
            f"their system gives it: {failed}"
        )
    elif warning:
        warning = (
            f"the objective is {warning}, as their system takes it: it rises with each of them, "
            "also with one that should fall; choose one by `evolve init ... --objective NAME`"
        )
    if output:
        texts["output"] = output[-_MAX_ARTIFACT:]
    if warning:
        texts[WARNING] = warning
    measures = {name: value for name, value in numbers.items() if name != "objective"}
    return Score(float(objective or 0.0), metrics=numbers, measures=measures, artifacts=texts)


def _sort_values(values: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the finite numbers, and all else as texts."""
    numbers, texts = {}, {}
    for name, value in values.items():
        if _is_finite(value):
            numbers[str(name)] = float(value)
        elif value not in ("", None) and not isinstance(value, bool | float):
            text = value if isinstance(value, str) else json.dumps(value)
            texts[str(name)] = text[:_MAX_ARTIFACT]
    return numbers, texts


def _is_finite(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]


def _find_failure(
    found: Mapping[str, Any], numbers: Mapping[str, float], texts: Mapping[str, str], output: str
) -> str:
    """Returns why a program has no score; empty where it has one.

    Many evaluators return 0 when they fail themselves, with the reason in some text.
    """
    objective: Any = found.get("objective")
    if found.get("failed"):
        return _cut(found["failed"])
    named = {name: text for name, text in texts.items() if _ERROR_NAME.search(name)}
    telling = [
        text
        for words in (_MACHINE_WORDS, _ERROR_WORDS)
        for text in (*texts.values(), *reversed(output.splitlines()))
        if words.search(text)
    ]
    if not _is_finite(objective):
        note = str(found.get("note") or "expected a finite number")
        got = "" if objective is None else f", got {objective}"
        return _cut("; ".join([f"their evaluator: {note}{got}", *[*named.values(), *telling][:1]]))
    verdicts = [value for name, value in numbers.items() if _VERDICT_NAME.search(name)]
    reasons = list(named.values())
    if objective == 0.0:
        reasons += telling
    elif objective < 0.0:
        reasons = [text for name, text in named.items() if _PLAIN_ERROR_NAME.match(name)]
    elif 0.0 not in verdicts:
        return ""
    if not reasons:
        return ""
    said = _cut(f"their evaluator gave {objective:g}: {reasons[0]}")
    return f"{said} (programs have no network)" if _NETWORK_WORDS.search(said) else said


def _cut(text: object) -> str:
    return " ".join(str(text).split())[:_REASON_CHARACTERS]
