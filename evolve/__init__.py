"""Improves programs by evolution.

Modules, lowest first; each imports only from those before it (a test holds this order):

    errors, awake, records, chat, results, strategies, stalls, setting_values,
    model_settings, settings, launches, naming, parsing, source, sketches, tables, measures,
    objectives, machine, commands, timing, trials, handle, scoring, cooperative, competition,
    problem_files, problem, cells, ranking, archive, fronts, selection, islands, quotas, choices,
    edits, operators, models,
    sandbox, evaluation,
    lane, journal, ledger, lessons, memory, steps, store, recording, run_folder, scaffold,
    importing, gallery, light, population, curve, comparison, snapshot, schedule, library,
    digests, jobs, search,
    fork, export, prune, replay, wiring, verify, champion, failures, interrupts, previews,
    estimate, session,
    report, cli
"""

__version__ = "0.1.0"
