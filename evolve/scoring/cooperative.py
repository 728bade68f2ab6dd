"""Scores from an evaluator that runs next to the program: taken at its word, inside the sandbox.

Evaluators of other systems import the program into their own interpreter. They run here in the
sandbox together with it: the host is safe, the score is not, since the program can change
whatever the evaluator says. Such problems are marked cooperative wherever their numbers stand.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from evolve.scoring.handle import ProgramHandle
from evolve.scoring.score import Infeasible, Score

THEIRS = "theirs"
_HARNESS, _RESULT = "their_harness.py", "their_result.json"
_MAX_ARTIFACT = 4000


def evaluate_there(
    program: ProgramHandle,
    folder: Path,
    *,
    kind: str,
    evaluator: str,
    initial: str,
    thresholds: Sequence[float] = (),
) -> Score:
    """Lets another system's evaluator score a program, both inside the sandbox.

    Args:
        program: What to score.
        folder: Their files.
        kind: `openevolve`, `shinka` or `loongflow`.
        evaluator: Name of their evaluator's file in `folder`.
        initial: Path of the program's file.
        thresholds: What each stage but the last must reach; none for one stage.

    Returns:
        What their evaluator said, by our names.

    Raises:
        Infeasible: It said that the program does not count, or returned no finite number.
        ProgramError: It crashed or did not end in time.
    """
    harness = resources.files("evolve") / "scoring" / "harness.py"
    theirs = {
        f"{THEIRS}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    done = program.run(
        _HARNESS,
        kind,
        f"{THEIRS}/{evaluator}",
        initial,
        _RESULT,
        json.dumps(list(thresholds)),
        command=(sys.executable,),
        files={**theirs, _HARNESS: harness.read_bytes()},
        outputs=(_RESULT,),
    )
    return _read_score(json.loads(done.file(_RESULT)), done.text)


def _read_score(found: dict[str, Any], output: str) -> Score:
    failed = str(found.get("failed") or "")
    objective = found.get("objective")
    if failed:
        raise Infeasible(" ".join(failed.split())[:300])
    if isinstance(objective, bool) or not isinstance(objective, int | float):
        raise Infeasible(f"their evaluator returned no number: {objective!r:.100}")
    if not math.isfinite(objective):
        raise Infeasible(f"their evaluator returned no finite number: {objective}")
    numbers, texts = {}, {}
    for name, value in {**found["metrics"], **found["artifacts"]}.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            text = value if isinstance(value, str) else json.dumps(value)
            texts[str(name)] = text[:_MAX_ARTIFACT]
        elif math.isfinite(value):
            numbers[str(name)] = float(value)
    if output.strip():
        texts["output"] = output[-_MAX_ARTIFACT:]
    return Score(float(objective), metrics=numbers, artifacts={k: v for k, v in texts.items() if v})
