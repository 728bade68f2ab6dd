"""A digest as the blocks of a prompt: the page that all slots of a generation are shown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from evolve.archive.credit import paired_gain
from evolve.models.budget import PICTURE_TOKENS, prompt_cap
from evolve.problem import Problem
from evolve.records import TUNE, Attempt, Direction, Plan, Status
from evolve.records.chat import Message
from evolve.source.parsing import holds_values
from evolve.steps import prompt
from evolve.steps.jobs import Digest, RunStatus
from evolve.steps.memory import KnownLesson, TriedChange, TunedProgram
from evolve.steps.prompt import Block, fence, plain

_LONGEST_CHANGE, _LONGEST_REASON = 240, 200
_CODE = re.compile(r"(```|~~~).*", re.DOTALL)
_DETAIL_CHARACTERS = 700
# Of a prompt, what programs may take.
PROGRAMS_SHARE = 0.75
# Attempts that the table lists at most: the best, the latest, and the latest that failed.
_BEST, _LATEST, _FAILED = 24, 12, 8
# Instances that are named of the difference of two programs.
_EXTREMES = 4
# Shares of the way from the start to what is known to be possible.
_FAR, _NEAR = 0.9, 0.99
# Of that way, so little is none.
_SAME = 1e-6
_DUPLICATES = ("the same program", "the change alters nothing")


def compose(name: str, role: str, digest: Digest, blocks: Sequence[Block]) -> tuple[Message, ...]:
    """Returns the messages of a template, all of them together within a cap of tokens.

    Args:
        name: One of `evolve.problem.folder.PROMPTS`.
        role: Who is asked.
        digest: Has the problem, whose statement is cut at the very last, and the cap.
        blocks: Values of the template that give way where there is no room.

    Raises:
        ProblemError: The problem's own template names a value that does not exist.
    """
    problem = digest.problem
    values = prompt.common_values(problem)
    pictures = [] if role == "summarizer" else list_pictures(digest)
    statement = Block("statement", (problem.statement.strip(),), rank=0)
    fixed = prompt.load_template(name, problem.folder)[0] + " ".join(values.values())
    most = prompt_cap(digest.models, role)
    room = max(most - PICTURE_TOKENS * len(pictures), most // 2)
    texts = prompt.fit_blocks([*blocks, statement], fixed, room)
    *others, last = prompt.fill_template(name, problem.folder, values | texts)
    if pictures:
        listed = "".join(f"\n{n}. {what}" for n, (what, _) in enumerate(pictures, start=1))
        shown = tuple(address for _, address in pictures)
        last = Message(last.role, f"{last.text}\n\n# Pictures, in this order\n{listed}", shown)
    return (*others, last)


def page_blocks(digest: Digest) -> list[Block]:
    """Returns all that editors and planners are shown beside their task."""
    return [
        Block("machine", (f" {digest.machine}",) if digest.machine else (), rank=1),
        Block("status", (show_status(digest), *show_wishes(digest)), rank=1),
        programs_block(digest),
        tried_block(digest),
        *lessons_blocks(digest.lessons),
        pending_block(digest.pending),
        Block("tuning", (show_tuning(digest),) if digest.tuning else (), rank=2),
    ]


def list_pictures(digest: Digest) -> list[tuple[str, str]]:
    """Returns pictures of the programs that are shown, the champion's first.

    Returns:
        What each shows, and its `data:` address.
    """
    found = [
        (f"`{plain(name)}` of program {attempt.key}", address)
        for attempt in digest.programs
        for name, address in attempt.evaluation.pictures.items()
    ]
    return found[: digest.models.pictures]


def show_status(digest: Digest) -> str:
    """Returns where the run stands, and what kind of change that asks for."""
    status, direction = digest.status, digest.problem.direction
    numbers = ["start none" if status.start is None else f"start {status.start:.10g}"]
    numbers += [
        f"{name} {known.value:.10g}" + (f" ({plain(known.source)})" if known.source else "")
        for name, known in status.references
    ]
    lines = [
        (
            f"Generation {status.generation} of {status.generations}; "
            f"{_count(status.evaluations, 'evaluation')} used{_show_left(status)}."
        ),
        f"Objectives: {_show_champion(status)}, {'; '.join(numbers)}.",
    ]
    if len(status.islands) > 1:
        best = ", ".join(f"{value:.10g}" for value in status.islands)
        sign = direction.sign
        why = ""
        objective = status.islands[0] if status.objective is None else status.objective
        if max(sign * value for value in status.islands) > sign * objective:
            why = " The champion is chosen by more than the objective, validation included."
        lines.append(f"Best of each island: {best}.{why}")
    waited = status.generation - 1 - status.champion.generation
    if waited > 0 and status.objective is not None:
        lines.append(f"The last {_count(waited, 'generation')} brought no new champion.")
    lines.append(_advise(status, direction))
    return "\n".join(line for line in lines if line)


def _show_champion(status: RunStatus) -> str:
    if status.objective is None:
        return "no program has one yet, so the first that works is the champion"
    return f"champion {status.objective:.10g} (program {status.champion})"


def show_wishes(digest: Digest) -> list[str]:
    """Returns what the user of the run asks for: unlike what is fenced, it is to be followed."""
    wishes = [plain(hint) for hint in digest.hints]
    wishes += [f"Program {key} is pinned: work on it, too." for key in digest.pins]
    listed = "\n".join(f"- {wish}" for wish in wishes)
    return [f"The user of this run says:\n\n{listed}"] if wishes else []


def _show_left(status: RunStatus) -> str:
    left = []
    if status.evaluations_left is not None:
        left.append(f"{status.evaluations_left} evaluations left")
    if status.cost_usd_left is not None:
        left.append(f"${status.cost_usd_left:.2f} left for models")
    return "".join(f", {item}" for item in left)


def _advise(status: RunStatus, direction: Direction) -> str:
    references = dict(status.references)
    possible = references.get("best known")
    if status.start is None or status.objective is None:
        return "Make a program that works before one that is good."
    if possible is None:
        is_bounded = "bound" in references
        return "How near to the bound a program can come is not known." if is_bounded else ""
    way = direction.sign * (possible.value - status.start)
    share = direction.sign * (status.objective - status.start) / way if way > 0 else math.inf
    if share < _FAR:
        return (
            f"The champion has come {abs(max(share, 0.0)):.0%} of the way from the start to the "
            "best known value: another approach can gain more than a small change."
        )
    if share > 1.0 - _SAME:
        relation = "has reached" if share < 1.0 + _SAME else "is beyond"
        return f"The champion {relation} the best known value."
    if share >= _NEAR:
        return "The champion is near the best known value: change one thing at a time."
    return ""


def programs_block(digest: Digest) -> Block:
    """Returns the programs that a change may start from, in full, with their evaluations."""
    items, shorter = (
        tuple(show_attempt(attempt, digest, is_short=is_short) for attempt in digest.programs)
        for is_short in (False, True)
    )
    return Block("programs", items, share=PROGRAMS_SHARE, rank=3, shorter=shorter)


def show_attempt(attempt: Attempt, digest: Digest, *, is_short: bool = False) -> str:
    """Returns a program under its key, with its plan and evaluation.

    Args:
        attempt: Has the program.
        digest: Shows it.
        is_short: Whether most of what may not change is left out.
    """
    champion, problem = digest.programs[0], digest.problem
    made_by = "The starting program."
    if attempt.plan is not None:
        made_by = f"Made by this change:\n\n{fence(_name_change(attempt, digest.tried))}"
    compared = "" if attempt is champion else compare_instances(attempt, champion, problem)
    return "\n\n".join(
        [
            f"## Program {attempt.key}",
            made_by,
            prompt.show_program(attempt.program_or_fail, is_short=is_short),
            prompt.show_evaluation(attempt, problem, detail_characters=_DETAIL_CHARACTERS),
            *([compared] if compared else []),
        ]
    )


def _name_change(attempt: Attempt, tried: Sequence[TriedChange]) -> str:
    """Returns what made a program; of a sample of tuning, what made the program it is of."""
    plan = attempt.plan
    if plan is None or plan.operator != TUNE:
        return "" if plan is None else shorten(plan.change)
    origin = next((one.note for one in tried if one.note.key == attempt.parent), None)
    change = "" if origin is None else f" ({shorten(origin.plan.change)})"
    return f"tuned constants of {attempt.parent}{change}"


def compare_instances(
    attempt: Attempt, other: Attempt, problem: Problem, *, name: str = "champion"
) -> str:
    """Returns by how much a program differs from another one, and how much of that is noise."""
    ours, theirs = attempt.evaluation.shown_instances, other.evaluation.shown_instances
    if len(ours) < 2 or ours.keys() != theirs.keys():
        return ""
    names = sorted(ours)
    gain, error = paired_gain(
        problem.direction.sign, [ours[name] for name in names], [theirs[name] for name in names]
    )
    return (
        f"Gain on the {name}, instance by instance: {gain:+.3g}, with a standard error of "
        f"{error:.2g} over {len(names)} instances."
    ) + _name_extremes(problem.direction, ours, theirs)


def _name_extremes(
    direction: Direction, ours: Mapping[str, float], theirs: Mapping[str, float]
) -> str:
    """Returns the instances on which two programs differ most."""
    gains = {
        name: direction.gain(ours[name], theirs[name])
        for name in sorted(ours)
        if ours[name] != theirs[name]
    }
    ranked = sorted(gains, key=lambda name: -abs(gains[name]))[:_EXTREMES]
    listed = ", ".join(f"{plain(name)} {gains[name]:+.3g}" for name in ranked)
    return f" It differs most on {listed}." if listed else ""


def shorten(change: str) -> str:
    """Returns a change in one line, without its code, cut between words where it is long."""
    text = plain(_CODE.sub("", change)) or plain(change)
    if len(text) <= _LONGEST_CHANGE:
        return text
    return f"{text[:_LONGEST_CHANGE].rpartition(' ')[0]} ..."


def tried_block(digest: Digest) -> Block:
    """Returns all attempts so far in a table, the best objective first."""
    sign = digest.problem.direction.sign
    known = [one for one in digest.tried if not _is_duplicate(one)]
    ranked = sorted(
        (one for one in known if one.note.objective is not None),
        key=lambda one: (-sign * (one.note.objective or 0.0), one.note.key),
    )
    failed = [one for one in known if one.note.objective is None]
    chosen = {one.note.key for one in (*ranked[:_BEST], *known[-_LATEST:], *failed[-_FAILED:])}
    shown = [one for one in (*ranked, *failed[::-1]) if one.note.key in chosen]
    items = [_show_tried(one) for one in shown]
    if left := len(known) - len(shown):
        items.append(f"- and {_count(left, 'attempt')} between the best and the latest")
    if repeated := len(digest.tried) - len(known):
        items.append(f"- {_count(repeated, 'attempt')} repeated a program that was known already")
    items += [_show_tuned(record) for record in digest.tuned]
    heading = (
        "# All attempts so far, the best objective first\n\n"
        "Program, objective, gain on its base, seconds, change."
    )
    return Block("tried", tuple(items), heading, share=0.3, rank=5, is_data=True)


def _is_duplicate(one: TriedChange) -> bool:
    return one.note.status is Status.REJECTED and one.note.reason.startswith(_DUPLICATES)


def _show_tried(one: TriedChange) -> str:
    note, plan = one.note, one.note.plan
    change = shorten(plan.change) + (f" [{', '.join(plan.tags)}]" if plan.tags else "")
    if note.objective is None:
        what = "stopped early" if note.status is Status.STOPPED else f"failed ({note.status})"
        return f"- {note.key}: {what}: {change}; {plain(note.reason[:_LONGEST_REASON])}"
    gain = "" if one.gain is None else f", {_round(one.gain):+.4g} on {note.parent}"
    lead = ", new best" if one.leads else ""
    return f"- {note.key}: {note.objective:.8g}{gain}{lead}, {note.seconds:.2g} s: {change}"


def _show_tuned(record: TunedProgram) -> str:
    best = "none with an objective"
    if record.best is not None:
        best = f"best {record.best:.8g} (program {record.best_key})"
    return (
        f"- constants of {record.key} ({record.before:.8g}) tuned: "
        f"{_count(record.samples, 'evaluation')}, {best}"
    )


def lessons_blocks(lessons: Sequence[KnownLesson]) -> list[Block]:
    """Returns what is known to work and what is known not to, as two lists."""
    return [
        _lessons_block("works", (one for one in lessons if one.lesson.works), "# Known to work"),
        _lessons_block(
            "fails", (one for one in lessons if not one.lesson.works), "# Known not to work"
        ),
    ]


def _lessons_block(name: str, lessons: Iterable[KnownLesson], heading: str) -> Block:
    items = tuple(map(_show_lesson, lessons))
    return Block(name, items, heading, share=0.1, rank=6, is_data=True)


def _show_lesson(known: KnownLesson) -> str:
    lesson = known.lesson
    parts = [f"[{known.id}] {plain(lesson.claim)}"]
    if lesson.evidence:
        parts.append(f"Evidence: {plain(lesson.evidence)}")
    if lesson.scope:
        parts.append(f"Scope: {plain(lesson.scope)}")
    if known.followed and lesson.works:
        parts.append(f"(followed {known.followed} times, a new best {known.new_bests} times)")
    return " ".join(parts)


def pending_block(plans: Sequence[Plan]) -> Block:
    """Returns the plans whose outcomes are not known yet."""
    items = tuple(f"- on {plan.base or 'a program'}: {shorten(plan.change)}" for plan in plans)
    heading = "# Plans under way, whose outcomes are not known yet"
    return Block("pending", items, heading, share=0.15, rank=4, is_data=True)


def show_tuning(digest: Digest) -> str:
    """Returns what editors need to know of the tuning of constants."""
    values = all(holds_values(path) for path, _ in digest.programs[0].program_or_fail.files)
    what = "numbers" if values else "floating-point literals"
    tuned = (
        f"Constants are tuned for you: beside each generation {digest.tuning} evaluations tune the "
        f"{what} of the best programs (CMA-ES). Do not spend a change on picking numbers."
    )
    if values:
        return tuned
    return (
        f"{tuned} Write every number that matters as a literal of its own, and give it a range "
        "where you know one, in a comment on its line: `weight = 0.3  # tune: 0.01 .. 10 log`. "
        "Where no line has such a comment, all floating-point literals are tuned; whole numbers "
        "are tuned only where they are marked."
    )


def show_outcomes(base: Attempt | None, attempts: Sequence[Attempt], problem: Problem) -> str:
    """Returns what came of the attempts at one plan, with their differences from the base."""
    parts = []
    for attempt in attempts:
        lines = [f"Attempt {attempt.key}:"]
        if base is not None and attempt.program is not None:
            difference = prompt.show_difference(base.program_or_fail, attempt.program)
            lines.append(fence(difference, "diff"))
        lines.append(prompt.show_evaluation(attempt, problem, detail_characters=800))
        if attempt.objective is not None and base is not None and base.objective is not None:
            gain = problem.direction.gain(attempt.objective, base.objective)
            lines.append(f"Gain on the base: {_round(gain):+.6g}.")
            if compared := compare_instances(attempt, base, problem, name="base"):
                lines.append(compared)
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


def _round(gain: float) -> float:
    """Returns a gain without the last digits of its sums, which are rounding errors."""
    return round(gain, 12)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
