"""`evolve lessons`: what a run has learnt."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from evolve.cli.options import RUNS, AsJson, Run
from evolve.display import one_line, say, say_json

if TYPE_CHECKING:
    from evolve.steps.memory import KnownLesson


def lessons(run: Run, *, as_json: AsJson = False) -> None:
    """List the lessons of a run, merged where they say the same."""
    from evolve.run.folder import find_run
    from evolve.search.digests import read_lessons
    from evolve.store import Store

    with closing(Store.open_to_read(find_run(run, RUNS))) as store:
        found = read_lessons(store)
    if as_json:
        say_json([lesson.as_dict() for lesson in found])
        return
    for lesson in found:
        say(_format(lesson))
    if not found:
        say("no lessons: a model's summaries teach them, and this run has none so far")


def _format(known: KnownLesson) -> str:
    lesson = known.lesson
    counts = f"taught {known.taught} times"
    if known.followed:
        counts += f", followed {known.followed} times, a new best {known.paid} times"
    origin = f", from {known.origin}" if known.origin else ""
    word = "works" if lesson.works else "does not work"
    lines = [f"[{known.id}] {lesson.claim}", f"{word}; {counts}{origin}"]
    lines += [
        f"{name}: {text}"
        for name, text in (
            ("evidence", lesson.evidence),
            ("scope", lesson.scope),
            ("tags", ", ".join(lesson.tags)),
        )
        if text
    ]
    return "\n    ".join(map(one_line, lines))
