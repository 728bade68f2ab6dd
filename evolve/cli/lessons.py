"""`evolve lessons`: what a run has learnt."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from evolve.cli.options import RUNS, AsJson, Run
from evolve.display import one_line, say, say_json

if TYPE_CHECKING:
    from evolve.steps.lessons import Lesson


def lessons(run: Run, *, as_json: AsJson = False) -> None:
    """List the lessons of a run, merged where they say the same."""
    from evolve.run_folder import find_run
    from evolve.search.digests import read_lessons
    from evolve.store import Store

    with closing(Store.open_to_read(find_run(run, RUNS))) as store:
        found = read_lessons(store)
    if as_json:
        say_json([_describe(lesson) for lesson in found])
        return
    for lesson in found:
        say(_format(lesson))
    if not found:
        say("no lessons: the summaries of a model teach them, and this run has none so far")


def _describe(lesson: Lesson) -> dict[str, Any]:
    return {**lesson.as_dict(), "keeps_failing": lesson.keeps_failing}


def _format(lesson: Lesson) -> str:
    counts = f"taught {lesson.taught}, gained {lesson.gained}"
    if lesson.followed:
        counts += f", followed {lesson.followed}, paid {lesson.paid}"
    mark = "  keeps failing" if lesson.keeps_failing else ""
    origin = f"  from {lesson.origin}" if lesson.origin else ""
    lines = [f"[{lesson.id}] {lesson.text}", f"{lesson.cause}; {counts}{origin}{mark}"]
    if lesson.tags:
        lines.append(f"tags: {', '.join(lesson.tags)}")
    if lesson.next_step:
        lines.append(f"next: {lesson.next_step}")
    return "\n    ".join(map(one_line, lines))
