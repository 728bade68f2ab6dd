"""Improves programs by evolution.

Modules, lowest first; each imports only from those before it (a test holds this order):

    errors, files, keys, display, records, settings, source, scoring,
    problem, importing, archive, edits, operators, models, sandbox, evaluation,
    steps, store, population, search, run, report, view, cli, api
"""

__version__ = "0.1.0"
