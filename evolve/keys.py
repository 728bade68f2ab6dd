"""Keys and passwords in the environment, which no text that is kept or shown may hold."""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

PASSWORD = "EVOLVE_API_PASSWORD"  # noqa: S105 (its name)
"""Variable of the environment with the password for addresses that have a user's name alone."""
_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|_PAT$|_AUTH$", re.IGNORECASE)
# That of `http://USER:PASSWORD@HOST`; a port is none.
_PASSWORD = re.compile(r"//[^\s/@:'\"]*:(?!\d{1,5}/)([^\s@'\"]+)(?=@[\w.\[])")
# What is shorter, or a word, occurs in any text: `true`, `none`, `evaluation`.
_SHORTEST, _SHORTEST_WORD = 8, 16
# Settings of ours, such as the number of tokens of a plan.
_SETTINGS = "EVOLVE_SET_"


def cut_keys(text: str) -> str:
    """Returns a text in which the name of its variable stands for each key of the environment.

    A variable has a key when its name has KEY, TOKEN, SECRET, PASSWORD or the like, unless the
    value is short, a word, or an absolute path.
    """
    # Pages call this for every cell: reading the variables as texts would be most of its time.
    names, pattern = _spell_keys(tuple(os.environ._data.items()))  # type: ignore[attr-defined]  # noqa: SLF001
    return pattern.sub(lambda found: f"[{names[found[0]]}]", text) if names else text


@lru_cache(maxsize=4)
def _spell_keys(
    variables: tuple[tuple[bytes, bytes], ...],
) -> tuple[dict[str, str], re.Pattern[str]]:
    """Returns the variable of each spelling of a key, and a pattern of all of them."""
    names: dict[str, str] = {}
    for name, value in ((os.fsdecode(one), os.fsdecode(text).strip()) for one, text in variables):
        # A private key has several lines, each of which is worth hiding.
        lines = [line.strip() for line in value.splitlines()]
        parts = [value, *(line for line in lines if len(line) >= _SHORTEST_WORD)]
        for part in parts if _is_key(name, value) else ():
            for spelt in (part, quote(part, safe=""), quote_plus(part), json.dumps(part)[1:-1]):
                names.setdefault(spelt, name)
    longest_first = sorted(names, key=len, reverse=True)
    return names, re.compile("|".join(map(re.escape, longest_first)))


def split_password(text: str) -> tuple[str, str]:
    """Returns a text without the password of the address in it, and that password."""
    found = _PASSWORD.search(text)
    if found is None:
        return text, ""
    return text[: found.start(1) - 1] + text[found.end(1) :], unquote(found[1])


def _is_key(name: str, value: str) -> bool:
    if not _NAME.search(name) or name.startswith(_SETTINGS) or value.startswith("/"):
        return False
    return len(value) >= (_SHORTEST_WORD if value.isalpha() else _SHORTEST)
