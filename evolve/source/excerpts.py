"""What of a long file a reader needs who may only change its blocks."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

from evolve.source.blocks import find_blocks
from evolve.source.parsing import bound_names, parse_python

# Lines around a block; the most of one definition, and of all that is shown beyond the blocks.
_AROUND, _LONGEST, _MOST = 12, 40, 160
# In so many lines at most stands a name that is looked up in a language that is not parsed.
_RARE = 8
_NAME = re.compile(r"[^\W\d]\w{2,}")


@lru_cache(maxsize=64)
def cut_frozen(text: str) -> str:
    """Returns a file with most of its frozen text left out.

    What is left are the blocks, the lines around them, imports, and what defines names that the
    blocks use. A line in brackets says how many lines are missing.
    """
    lines = text.split("\n")
    spans = [
        (text.count("\n", 0, block.start), text.count("\n", 0, block.end))
        for block in find_blocks(text)
    ]
    # A last line that is empty is the end of the one before.
    end = {len(lines) - 1} if not lines[-1] else set()
    kept = end | {line for first, last in spans for line in range(first - 1, last + 1)}
    names = {name for line in kept if 0 <= line < len(lines) for name in _NAME.findall(lines[line])}
    around = {
        line
        for first, last in spans
        for line in (*range(first - _AROUND, first), *range(last, last + _AROUND))
    }
    for line in sorted(around) + list(_find_used(text, lines, names)):
        if len(kept) < sum(last - first + 2 for first, last in spans) + _MOST:
            kept.add(line)
    return "\n".join(_join(lines, kept))


def _find_used(text: str, lines: list[str], names: set[str]) -> Iterator[int]:
    """Yields the lines, from 0, of imports and of what defines one of some names."""
    tree = parse_python(text)
    if tree is None:
        found: defaultdict[str, list[int]] = defaultdict(list)
        for number, line in enumerate(lines):
            for name in names & {*_NAME.findall(line)} if line[:1].strip() else ():
                found[name].append(number)
        # Words of the language are everywhere.
        yield from (line for where in found.values() if len(where) <= _RARE for line in where)
        return
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) or names & bound_names([node]):
            last = node.end_lineno or node.lineno
            yield from range(node.lineno - 1, min(last, node.lineno - 1 + _LONGEST))


def _join(lines: list[str], kept: set[int]) -> Iterator[str]:
    missing = 0
    for number, line in enumerate(lines):
        if number not in kept:
            missing += 1
            continue
        if missing:
            yield f"[{missing} lines that may not change are left out]"
        missing = 0
        yield line
    if missing:
        yield f"[{missing} lines that may not change are left out]"
