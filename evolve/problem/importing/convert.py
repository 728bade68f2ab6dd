"""Another system's problem written as a folder of ours."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from evolve.errors import UsageError
from evolve.problem.importing.foreign import SKIPPED
from evolve.scoring.cooperative import THEIRS
from evolve.settings.values import write_value

if TYPE_CHECKING:
    from pathlib import Path

    from evolve.problem.importing.foreign import Foreign

_MOST_BYTES = 8 << 20
_TOML = """\
# Imported from {kind}.
name = {name}
summary = {summary}
direction = "maximize"
evaluator = "evaluator/evaluator.py"
evaluator_seconds = {evaluator_seconds:g}
# Their evaluator imports the program: its scores can be forged by the program.
cooperative = true

[program]
files = [{initial}]
{start}
[limits]
seconds = {seconds:g}
memory_mb = 2048
workspace_mb = 256
"""
_EVALUATOR = '''\
"""Lets the evaluator of {kind} in `theirs/` score programs, inside the sandbox."""

from pathlib import Path

from evolve.scoring.cooperative import THEIRS, evaluate_there
from evolve.scoring import ProgramHandle, Score


def evaluate(program: ProgramHandle) -> Score:
    """Takes their evaluator at its word."""
    return evaluate_there(
        program,
        Path(__file__).with_name(THEIRS),
        kind={kind!r},
        evaluator={evaluator!r},
        initial={initial!r},
        thresholds={thresholds!r},
    )
'''


def write_foreign(foreign: Foreign, target: Path) -> list[Path]:
    """Writes another system's problem as a problem folder.

    Returns:
        The files written.

    Raises:
        UsageError: The target holds something, or cannot be written, or theirs is too large.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(
            f"{target}: expected a new or empty folder for the import, got one with files in it; "
            "name another one behind the folder to import"
        )
    size = sum(path.stat().st_size for path in _theirs(foreign.folder))
    if size > _MOST_BYTES:
        raise UsageError(
            f"{foreign.folder}: expected at most {_MOST_BYTES} bytes besides results, got {size}; "
            "their files go into the sandbox with every evaluation"
        )
    initial = f"initial{foreign.initial.suffix}"
    texts = {
        "problem.toml": _format_toml(foreign, initial),
        "statement.md": _format_statement(foreign),
        initial: foreign.initial.read_text(encoding="utf-8"),
        "evaluator/evaluator.py": _EVALUATOR.format(
            kind=foreign.kind,
            evaluator=foreign.evaluator.name,
            initial=initial,
            thresholds=foreign.thresholds,
        ),
    }
    try:
        shutil.copytree(
            foreign.folder,
            target / "evaluator" / THEIRS,
            ignore=shutil.ignore_patterns(*SKIPPED, foreign.initial.name),
        )
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{target}: expected a folder to write to: {error}") from error
    return sorted(path for path in target.rglob("*") if path.is_file())


def _theirs(folder: Path) -> list[Path]:
    ignored = shutil.ignore_patterns(*SKIPPED)
    found: list[Path] = []
    folders = [folder]
    for place in folders:
        names = sorted(path.name for path in place.iterdir())
        kept = [place / name for name in names if name not in ignored(str(place), names)]
        folders += [path for path in kept if path.is_dir() and not path.is_symlink()]
        found += [path for path in kept if path.is_file()]
    return found


def _format_toml(foreign: Foreign, initial: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", foreign.folder.name).strip("_-") or "imported"
    return _TOML.format(
        kind=foreign.kind,
        name=write_value(name),
        summary=write_value(f"imported from {foreign.kind}: {foreign.folder.name}"),
        initial=write_value(initial),
        # Their evaluator starts the program; what is no Python needs a command of its own all the
        # same.
        start="" if initial.endswith(".py") else 'run = "false"\n',
        seconds=foreign.seconds,
        evaluator_seconds=foreign.seconds + 60.0,
    )


def _format_statement(foreign: Foreign) -> str:
    text = foreign.statement.strip() or "Improve the program below."
    # Two braces would be a parameter of ours.
    return text.replace("{{", "{ {").replace("}}", "} }") + "\n"
