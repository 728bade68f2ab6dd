"""Elites evaluated again in a fresh sandbox, and a certificate of what was found."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from evolve import __version__
from evolve.errors import StoreError, UsageError
from evolve.population.snapshot import load_state
from evolve.records import INITIAL, Attempt, AttemptKey, Evaluation
from evolve.records.plain import to_plain
from evolve.runs.asked_models import answering
from evolve.runs.opening import Run
from evolve.runs.run_folder import (
    EVALUATOR_FOLDER,
    PROBLEM_FOLDER,
    SETTINGS_FILE,
    expect_writable,
    write_text,
)
from evolve.runs.wiring import open_evaluators
from evolve.runs.world import checksum_folder
from evolve.sandbox.limits import Isolation
from evolve.store import Store


class Check(NamedTuple):
    """A recorded verdict and the new ones.

    Attributes:
        attempt: Whose program was evaluated again.
        again: The new verdicts, at least one.
        agrees: Whether each has the recorded status and an objective within the tolerance.
        noise: Largest distance between any two objectives, the recorded one included.
    """

    attempt: Attempt
    again: tuple[Evaluation, ...]
    agrees: bool
    noise: float


def verify_run(
    run: Run,
    *,
    repeats: int,
    tolerance: float | None,
    output: Path,
    on_check: Callable[[Check], None],
) -> dict[str, Any]:
    """Evaluates the champion, then every other elite, in processes and sandboxes made for it.

    Args:
        run: The run.
        repeats: How often each program is evaluated.
        tolerance: How far an objective may be from the recorded one; by default as far as the
            problem says that two evaluations differ.
        output: The file that the certificate is written to.
        on_check: Called with each check as it is made.

    Returns:
        The certificate: the verdict, and hashes of all that it rests on.

    Raises:
        UsageError: The tolerance is no number.
        StoreError: The run has no champion, or a file cannot be read or written.
        SandboxError: The sandbox broke.
        EvaluatorError: The evaluator broke.
    """
    # Nothing agrees within NaN, and everything within infinity.
    if tolerance is not None and not math.isfinite(tolerance):
        raise UsageError(f"--tolerance: expected a finite number, got {tolerance}")
    allowed = run.problem.noise if tolerance is None else tolerance
    expect_writable(output)
    checks = []
    with (
        closing(Store.open_to_read(run.folder)) as store,
        closing(open_evaluators(run.problem, run.settings)) as evaluators,
        answering(run.problem, run.settings, evaluators, store.asks()),
    ):
        keys = _list_elites(run, store)
        evaluators.start()
        isolation = evaluators.wait()
        for key in keys:
            attempt = store.load_attempt(key)
            program = attempt.program_or_fail
            again = [evaluators.evaluate(program) for _ in range(repeats)]
            checks.append(compare_verdicts(attempt, again, allowed))
            on_check(checks[-1])
        start = store.load_attempt(INITIAL).objective
    certificate = _certify(run.folder, checks, isolation, allowed)
    certificate |= {
        "start": start,
        "noise": max(run.problem.noise, certificate["elites"]["largest_noise"]),
        # The evaluator ran next to the program, which can forge its scores.
        "cooperative": run.problem.cooperative,
    }
    write_text(output, json.dumps(certificate, indent=2) + "\n")
    return certificate


def _list_elites(run: Run, store: Store) -> list[AttemptKey]:
    """Returns the attempts of the champion and of all elites, each once."""
    run_state = load_state(store, run.problem, run.settings.search)
    if run_state.champion is None:
        raise StoreError(f"{store.folder}: the run has no evaluated program yet")
    elites = [elite for archive in run_state.islands.archives for elite in archive.elites]
    return list(dict.fromkeys(elite.key for elite in (run_state.champion, *elites)))


def compare_verdicts(attempt: Attempt, again: Sequence[Evaluation], tolerance: float) -> Check:
    """Compares new verdicts on a program with the recorded one."""
    recorded = attempt.evaluation
    verdicts = [recorded, *again]
    objectives = [item.objective for item in verdicts if item.objective is not None]
    noise = max(objectives) - min(objectives) if objectives else 0.0
    agrees = all(
        item.status is recorded.status
        and (
            item.objective is None
            or recorded.objective is None
            or abs(item.objective - recorded.objective) <= tolerance
        )
        for item in again
    )
    return Check(attempt, tuple(again), agrees, noise)


def _certify(
    folder: Path, checks: Sequence[Check], isolation: Isolation, tolerance: float
) -> dict[str, Any]:
    """Returns the certificate; the first check is the champion's."""
    return {
        "verdict": "agrees" if all(item.agrees for item in checks) else "differs",
        "champion": _describe(checks[0]),
        "elites": {
            "checked": len(checks),
            "agree": sum(item.agrees for item in checks),
            "largest_noise": max(item.noise for item in checks),
            "differ": [_describe(item) for item in checks if not item.agrees],
        },
        "tolerance": tolerance,
        "sha256": {
            "problem": checksum_folder(folder / PROBLEM_FOLDER, _is_source),
            "evaluator": checksum_folder(folder / EVALUATOR_FOLDER, _is_source),
            "settings": _hash((folder / SETTINGS_FILE).read_bytes()),
        },
        "sandbox": {"backend": isolation.backend, "enforced": list(isolation.enforced)},
        "version": __version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _describe(check: Check) -> dict[str, Any]:
    program = check.attempt.program_or_fail
    return {
        "attempt": str(check.attempt.key),
        "program": program.id,
        "files": {path: _hash(text.encode()) for path, text in program.files},
        "recorded": to_plain(check.attempt.evaluation),
        "again": to_plain(check.again),
        "agrees": check.agrees,
        "noise": check.noise,
    }


def _is_source(path: Path) -> bool:
    return "__pycache__" not in path.parts


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
