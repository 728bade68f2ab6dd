"""An editor's reply: which program it starts from, what it changes and why, and the new program."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from evolve.edits import apply_reply
from evolve.records import Plan, Program, Rejected
from evolve.source.signatures import share_in_common, sign_source
from evolve.steps.parse import as_names, as_number, as_tags, as_text, find_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evolve.records import Attempt, Direction
    from evolve.steps.digest import Digest

_FIELDS = {
    "base": "base",
    "start": "base",
    "change": "change",
    "plan": "change",
    "idea": "change",
    "why": "why",
    "hypothesis": "why",
    "tags": "tags",
    "tag": "tags",
    "expect": "expect",
    "expected": "expect",
    "expected objective": "expect",
    "lessons": "lessons",
    "lesson": "lessons",
}
_FIELD = re.compile(
    rf"^[\s#>*_-]*({'|'.join(sorted(_FIELDS, key=len, reverse=True))})[\s*_]*[:=][\s*_]*(.*)$",
    re.IGNORECASE,
)
_CODE = re.compile(r"^\s*(`{3,}|~{3,}|<{5,}|diff --git |--- \S|@@ )")
_KEY = re.compile(r"\d+\.\d+\.\d+")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
# Of a reply of any length; no plan of sense is longer.
_LONGEST_CHANGE = 20_000
UNNAMED = "a change that the editor did not describe"


def read_reply(
    digest: Digest, direction: Direction, text: str, *, cut_off: bool
) -> tuple[Attempt, Plan, Program | Rejected]:
    """Reads a reply that plans a change and carries it out.

    Args:
        digest: Shows the programs that the reply may start from.
        direction: Whether a larger or a smaller objective is better.
        text: The reply.
        cut_off: Whether the model was stopped by its limit of tokens.

    Returns:
        The attempt that it starts from, its plan, and the program or why there is none.
    """
    fields = read_fields(text)
    base, made = _apply(digest, fields.get("base", ""), text, cut_off=cut_off)
    return base, make_plan(fields, base, direction), made


def read_fields(text: str) -> Mapping[str, str]:
    """Returns the fields above the code of a reply, by `base`, `change`, `why` and so on.

    A field goes on over several lines, until the next one or the code begins. Where no field is
    named, the words above the code are the change.
    """
    fields: dict[str, str] = {}
    words: list[str] = []
    name = ""
    for line in text.splitlines():
        if _CODE.match(line):
            break
        found = _FIELD.match(line)
        if found is not None:
            name = _FIELDS[found[1].lower()]
            fields[name] = "\n".join(filter(None, (fields.get(name, ""), found[2].strip())))
        elif name:
            fields[name] = f"{fields[name]}\n{line.rstrip()}"
        else:
            words.append(line)
    named = _read_object(text) if "change" not in fields else {}
    fields = {**named, **{key: value.strip(" *_\n") for key, value in fields.items()}}
    if not fields.get("change"):
        fields["change"] = as_text(" ".join(words), 300)
    return fields


def make_plan(fields: Mapping[str, str], base: Attempt, direction: Direction) -> Plan:
    """Returns the plan that the fields of a reply describe."""
    expected = _NUMBER.search(fields.get("expect", ""))
    objective = as_number(expected[0]) if expected else None
    gain = None
    if objective is not None and base.objective is not None:
        gain = direction.sign * (objective - base.objective)
    lessons = re.findall(r"\d+\.\d+", fields.get("lessons", ""))
    return Plan(
        change=fields.get("change", "")[:_LONGEST_CHANGE] or UNNAMED,
        hypothesis=fields.get("why", "")[:_LONGEST_CHANGE],
        predicted_gain=gain,
        tags=as_tags(fields.get("tags", "").strip("[]")),
        lessons=as_names(lessons),
        base=str(base.key),
    )


def _read_object(text: str) -> dict[str, str]:
    """Returns the fields of a JSON object, for models that answer with one."""
    found = find_object(text) or {}
    return {
        _FIELDS[key.lower()]: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in found.items()
        if key.lower() in _FIELDS and value is not None
    }


def _apply(
    digest: Digest, named: str, text: str, *, cut_off: bool
) -> tuple[Attempt, Program | Rejected]:
    """Applies a reply to the program that it names, else to the one that it fits.

    Edits fit the first program that they apply to, the champion before the others; a whole
    program fits the one that it resembles most.
    """
    key = _KEY.search(named)
    base = digest.find(key[0]) if key else None
    if base is not None:
        return base, apply_reply(base.program_or_fail, text, cut_off=cut_off)
    outcomes = [
        (one, apply_reply(one.program_or_fail, text, cut_off=cut_off)) for one in digest.programs
    ]
    made = [(one, new) for one, new in outcomes if isinstance(new, Program)]
    if not made:
        return outcomes[0]
    if "<<<<<" in text:
        return made[0]
    # Of equals the first: the champion.
    return max(made, key=lambda pair: _share(pair[0].program_or_fail, pair[1]))


def _share(one: Program, other: Program) -> float:
    return share_in_common(sign_source(one), sign_source(other))
