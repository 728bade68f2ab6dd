"""Improves programs by evolution.

Modules, lowest first; each imports only from those before it (a test holds this order):

    errors, toml, files, keys, display, records, settings, source, problem,
    sandbox, scoring, importing, archive, edits, operators, models, evaluation,
    steps, store, search, runs, report, view, cli, api
"""

__version__ = "0.1.0"

from evolve.api import (
    Champion,
    SavedRun,
    check,
    fork,
    open_run,
    optimize,
    resume,
    run,
)

__all__ = [
    "Champion",
    "SavedRun",
    "__version__",
    "check",
    "fork",
    "open_run",
    "optimize",
    "resume",
    "run",
]
