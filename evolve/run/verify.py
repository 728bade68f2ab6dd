"""Elites evaluated again in a fresh sandbox, and a certificate of what was found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evolve import __version__
from evolve.errors import StoreError
from evolve.records.plain import to_plain
from evolve.run.folder import EVALUATOR_FOLDER, PROBLEM_FOLDER, SETTINGS_FILE, write_text
from evolve.run.wiring import open_evaluators

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from evolve.population import Standing
    from evolve.problem import Problem
    from evolve.records import Attempt, Evaluation
    from evolve.sandbox.protocol import Isolation
    from evolve.settings import Settings
    from evolve.store import Store


@dataclass(frozen=True, slots=True)
class Check:
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

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data for the certificate."""
        program = self.attempt.program_or_fail
        return {
            "attempt": str(self.attempt.key),
            "program": program.id,
            "files": {path: _hash(text.encode()) for path, text in program.files},
            "recorded": to_plain(self.attempt.evaluation),
            "again": to_plain(self.again),
            "agrees": self.agrees,
            "noise": self.noise,
        }


def verify_run(
    store: Store,
    standing: Standing,
    problem: Problem,
    settings: Settings,
    *,
    repeats: int,
    tolerance: float,
    tell: Callable[[Check], None],
) -> tuple[list[Check], Isolation]:
    """Evaluates the champion, then every other elite, in processes and sandboxes made for it.

    Args:
        store: The run.
        standing: What it has reached.
        problem: Its problem.
        settings: Its settings.
        repeats: How often each program is evaluated.
        tolerance: How far an objective may be from the recorded one.
        tell: Called with each check as it is made.

    Raises:
        StoreError: The run has no champion, or cannot be read.
        SandboxError: The sandbox broke.
        EvaluatorError: The evaluator broke.
    """
    if standing.champion is None:
        raise StoreError(f"{store.folder}: the run has no evaluated program yet")
    elites = [standing.champion]
    elites += [elite for archive in standing.islands.archives for elite in archive.elites]
    keys = list(dict.fromkeys(elite.key for elite in elites))
    evaluators = open_evaluators(problem, settings)
    checks = []
    try:
        evaluators.start()
        isolation = evaluators.wait()
        for key in keys:
            attempt = store.load_attempt(key)
            again = [evaluators.evaluate(attempt.program_or_fail) for _ in range(repeats)]
            checks.append(check(attempt, again, tolerance))
            tell(checks[-1])
    finally:
        evaluators.close()
    return checks, isolation


def check(attempt: Attempt, again: Sequence[Evaluation], tolerance: float) -> Check:
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


def certify(
    folder: Path,
    checks: Sequence[Check],
    isolation: Isolation,
    *,
    tolerance: float,
) -> dict[str, Any]:
    """Returns the certificate: hashes of all that the verdict rests on, and the verdict.

    The first check is the champion's.
    """
    return {
        "verdict": "agrees" if all(item.agrees for item in checks) else "differs",
        "champion": checks[0].as_dict(),
        "elites": {
            "checked": len(checks),
            "agree": sum(item.agrees for item in checks),
            "largest_noise": max(item.noise for item in checks),
            "differ": [item.as_dict() for item in checks if not item.agrees],
        },
        "tolerance": tolerance,
        "sha256": {
            "problem": _hash_folder(folder / PROBLEM_FOLDER),
            "evaluator": _hash_folder(folder / EVALUATOR_FOLDER),
            "settings": _hash((folder / SETTINGS_FILE).read_bytes()),
        },
        "sandbox": {"backend": isolation.backend, "enforced": list(isolation.enforced)},
        "version": __version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_certificate(path: Path, certificate: dict[str, Any]) -> None:
    """Writes a certificate as JSON.

    Raises:
        StoreError: It cannot be written.
    """
    write_text(path, json.dumps(certificate, indent=2) + "\n")


def _hash_folder(folder: Path) -> str:
    """Hashes the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            line = f"{_hash(path.read_bytes())}  {path.relative_to(folder).as_posix()}\n"
            digest.update(line.encode())
    return digest.hexdigest()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
