"""What is recorded of an attempt and of a call, as plain data: the same keys in every command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from evolve.edits.diffs import unified_diff
from evolve.errors import UsageError
from evolve.records import INJECT, TUNE, Attempt, AttemptKey, Direction, Plan, Program
from evolve.records.plain import to_plain
from evolve.records.results import Call, gain_on_parent
from evolve.search.generation import WHOLE
from evolve.search.population import Population
from evolve.store import Store

_KEY = re.compile(r"(\d+)\.(-?\d+)\.(\d+)")
_SHOWN = re.compile(r"^## Program (\d+)\.(\d+)\.(\d+)$", re.MULTILINE)


def attempt_as_data(store: Store, attempt: Attempt, direction: Direction) -> dict[str, Any]:
    """Returns what every list of attempts has of one; the same for any run with the same seed."""
    evaluation, plan = attempt.evaluation, attempt.plan
    return {
        "id": None if attempt.program is None else attempt.program.id,
        "attempt": str(attempt.key),
        "generation": attempt.key.generation,
        "island": attempt.island,
        "parent": None if attempt.parent is None else str(attempt.parent),
        "depth": attempt.depth,
        "status": str(evaluation.status),
        "objective": evaluation.objective,
        "gain": gain_on_parent(attempt, store.objective_of, direction),
        "reason": evaluation.reason,
        "metrics": dict(evaluation.metrics),
        "measures": dict(evaluation.measures),
        "operator": plan.operator if plan else "",
        "model": find_model(store, attempt),
        "plan": plan.change if plan else None,
    }


def call_as_data(call: Call) -> dict[str, Any]:
    """Returns what every list of calls has of one."""
    request, reply = call.request, call.reply
    return {
        "call": str(call.key),
        "generation": call.key.generation,
        "role": request.role,
        "model": reply.model,
        "prompt_tokens": reply.prompt_tokens,
        "cached_tokens": reply.cached_tokens,
        "completion_tokens": reply.completion_tokens,
        "thinking_tokens": reply.thinking_tokens,
        "tokens": reply.prompt_tokens + reply.completion_tokens,
        "cost_usd": reply.cost_usd,
        "seconds": reply.seconds,
        "error": call.error,
        "time": call.time,
    }


def whole_as_data(store: Store, attempt: Attempt, direction: Direction) -> dict[str, Any]:
    """Returns everything that is recorded of an attempt.

    Raises:
        StoreError: The database cannot be read.
    """
    plan, program, key = attempt.plan, attempt.program, attempt.key
    parent = None if attempt.parent is None else store.load_attempt(attempt.parent)
    generation = store.load_generation(key.generation)
    return {
        **attempt_as_data(store, attempt, direction),
        "seconds": attempt.evaluation.seconds,
        "time": generation.time,
        "hypothesis": plan.hypothesis if plan else "",
        "tags": list(plan.tags) if plan else [],
        "lessons_followed": list(plan.lessons) if plan else [],
        "inspirations": [str(one) for one in find_inspirations(store, attempt)],
        "files": {} if program is None else dict(program.files),
        "diff": diff_files(None if parent is None else parent.program, program),
        "instances": dict(attempt.evaluation.instances),
        "stages": [stage._asdict() for stage in attempt.evaluation.stages],
        "artifacts": dict(attempt.evaluation.artifacts),
        "calls": [
            {**call_as_data(call), "messages": to_plain(call.request.messages),
             "reply": call.reply.text}
            for call in (*store.calls_of(key.generation, WHOLE), *store.calls_of(*key[:2]))
        ],
        "summary": to_plain(generation.summary),
    }  # fmt: skip


def pair_files(old: Program | None, new: Program | None) -> Iterator[tuple[str, str, str]]:
    """Yields each file of a program: its path, its text in another program, and its text."""
    before = {} if old is None else dict(old.files)
    for path, text in () if new is None else new.files:
        yield path, before.get(path, ""), text


def diff_files(old: Program | None, new: Program | None) -> dict[str, str]:
    """Returns what differs in each file of a program from another program, by path."""
    return {path: unified_diff(before, text, path) for path, before, text in pair_files(old, new)}


def lineage_as_data(store: Store, attempt: Attempt, direction: Direction) -> list[dict[str, Any]]:
    """Returns a program's ancestors from the starting program on, and itself.

    Raises:
        StoreError: The database cannot be read.
    """
    found = []
    for one in trace_line(store, attempt):
        summary = store.load_generation(one.key.generation).summary
        found.append(
            {
                **attempt_as_data(store, one, direction),
                "lessons": [lesson.claim for lesson in summary.lessons] if summary else [],
                "inspirations": [str(key) for key in find_inspirations(store, one)],
            }
        )
    return found


def trace_line(store: Store, attempt: Attempt) -> list[Attempt]:
    """Returns a program's ancestors from the starting program on, and itself."""
    line = [attempt]
    while line[-1].parent is not None:
        line.append(store.load_attempt(line[-1].parent))
    return line[::-1]


def uses_model(plan: Plan | None) -> bool:
    """Returns whether an attempt with this plan was a model's."""
    return plan is not None and not plan.operator


def find_model(store: Store, attempt: Attempt) -> str:
    """Returns the model that wrote the last edit of an attempt's slot, empty where none did."""
    uses = store.uses_of(*attempt.key[:2]) if uses_model(attempt.plan) else ()
    return uses[-1].model if uses else ""


def describe_source(operator: str, model: str) -> str:
    """Returns who made an attempt, for people."""
    return {TUNE: "tuning", INJECT: "the user"}.get(operator, operator or model or "start")


def find_inspirations(store: Store, attempt: Attempt) -> list[AttemptKey]:
    """Returns the attempts that a model was shown beside the parent, in order."""
    generation, slot, _ = attempt.key
    if not uses_model(attempt.plan):
        return []
    calls = [*store.calls_of(generation, slot)[:1], *store.calls_of(generation, WHOLE)[:1]]
    prompts = [message.text for call in calls for message in call.request.messages]
    shown = (AttemptKey(*map(int, found)) for text in prompts for found in _SHOWN.findall(text))
    earlier = dict.fromkeys(one for one in shown if one.generation < generation)
    return [one for one in earlier if one != attempt.parent]


def find_attempt(store: Store, state: Population, name: str | None) -> Attempt:
    """Finds an attempt.

    Args:
        store: The run's database.
        state: What the run has reached.
        name: Its key such as `3.1.0`, or the start of its program's id; None for the champion.

    Raises:
        UsageError: There is none.
    """
    if name is None:
        if state.champion is None:
            raise UsageError("the run has no evaluated program yet")
        return store.load_attempt(state.champion.key)
    found = _KEY.fullmatch(name)
    if found is not None:
        key = AttemptKey(*map(int, found.groups()))
        if key.slot < 0:
            raise UsageError(
                f"program {name!r}: expected an attempt, got a call of the whole generation; "
                f"`evolve show RUN --prompt {name}` and `--reply {name}` print it"
            )
        keys = [one for one in store.keys_of(key.generation) if one == key]
    else:
        keys = store.attempts_of(name)
    if not keys:
        raise UsageError(
            f"program {name!r}: none of that id; `evolve archive RUN` and `evolve log RUN` list "
            "programs and attempts"
        )
    return store.load_attempt(keys[0])


def find_with_program(store: Store, state: Population, name: str | None) -> Attempt:
    """Finds an attempt that made a program; see `find_attempt`.

    Raises:
        UsageError: There is none, or it has no program.
    """
    found = find_attempt(store, state, name)
    if found.program is None:
        raise UsageError(
            f"program {name!r}: expected an attempt with a program, got one without: "
            f"{found.evaluation.reason}"
        )
    return found


def find_call(store: Store, state: Population, name: str) -> Call:
    """Finds a call by its key, or the one that wrote a program by the start of the program's id.

    Raises:
        UsageError: There is none.
    """
    found = _KEY.fullmatch(name)
    key = AttemptKey(*map(int, found.groups())) if found else find_attempt(store, state, name).key
    calls = {call.key: call for call in store.calls_of(*key[:2])}
    if found is None and calls:
        return list(calls.values())[min(key.number, len(calls) - 1)]
    if key in calls:
        return calls[key]
    known = ", ".join(map(str, calls))
    there = f"the calls {known}" if known else "no calls; `evolve log RUN --role ROLE` lists them"
    raise UsageError(
        f"call {name!r}: none of that id; slot {key.generation}.{key.slot} has {there}"
    )
