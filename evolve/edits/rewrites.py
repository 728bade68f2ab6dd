"""Puts a rewritten program into the evolvable blocks of its parent."""

from __future__ import annotations

import ast
import re
import textwrap
from typing import TYPE_CHECKING

from evolve.edits.matching import indent_of
from evolve.edits.syntax import (
    first_line,
    loaded_names,
    needed_names,
    slice_statements,
)
from evolve.records import Rejected
from evolve.source import EvolveBlock, find_blocks, parse_python
from evolve.source.parsing import bound_names, list_statements

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKER = re.compile(r"EVOLVE-BLOCK-(START|END)\b")


def rewrite_text(parent: str, code: str, *, is_python: bool) -> str | Rejected:
    """Returns the parent's file with its evolvable blocks taken from a rewrite.

    What stands outside the blocks is the parent's, byte for byte. In Python, definitions that the
    rewrite left out but needs are kept from the parent.

    Args:
        parent: Text of the parent's file.
        code: A whole program, its evolvable part, or some of the definitions in it.
        is_python: Whether the file is Python.
    """
    blocks = find_blocks(parent)
    parts = _split_at_markers(code)
    if len(blocks) > 1 or len(parts) > 1:
        return _rewrite_several(parent, blocks, parts)
    block = blocks[0]
    old, before, after = _cut_parent(parent, block)
    if not (before + after).strip():
        inside = code
    elif parts:
        inside = parts[0]
    else:
        inside = code
        if not is_python or _is_fragment(old, before, after):
            inside = _cut_surroundings(code, before, after)
    if is_python:
        if _is_fragment(old, before, after):
            inside = textwrap.indent(textwrap.dedent(inside), _base_indent(old))
        else:
            inside = _complete(old, before + after, inside, code)
    return _put(parent, [(block, inside)])


def _rewrite_several(
    parent: str, blocks: tuple[EvolveBlock, ...], parts: list[str]
) -> str | Rejected:
    if len(parts) != len(blocks):
        return Rejected(
            f"the rewrite marks {len(parts)} evolvable blocks, the program has {len(blocks)}; keep"
            " the lines with EVOLVE-BLOCK-START and EVOLVE-BLOCK-END as they are, or use edits"
        )
    return _put(parent, list(zip(blocks, parts, strict=True)))


def _cut_parent(parent: str, block: EvolveBlock) -> tuple[str, str, str]:
    """Returns the block's text and the texts before and after it, line ends made plain."""
    texts = parent[block.start : block.end], parent[: block.start], parent[block.end :]
    old, before, after = (text.replace("\r\n", "\n") for text in texts)
    return old, before, after


def _is_fragment(old: str, before: str, after: str) -> bool:
    """Returns whether a block lies inside a statement, so that it is no program part of its own."""
    return parse_python(old) is None or parse_python(before + after) is None


def _base_indent(text: str) -> str:
    return next((indent_of(line) for line in text.split("\n") if line.strip()), "")


def _put(parent: str, parts: Sequence[tuple[EvolveBlock, str]]) -> str:
    """Replaces blocks, in the line ends and with the blank lines at their ends that they had."""
    newline = "\r\n" if "\r\n" in parent else "\n"
    text = parent
    for block, raw in reversed(parts):
        old = parent[block.start : block.end]
        lead = old[: len(old) - len(old.lstrip("\r\n"))] if old.strip() else ""
        trail = old[len(old.rstrip()) :] if old.strip() else newline
        if not trail and block.end < len(parent):
            trail = newline
        inside = _strip_blank_ends(_drop_markers(raw))
        new = lead + inside.replace("\n", newline) + trail
        text = text[: block.start] + new + text[block.end :]
    return text


def _split_at_markers(code: str) -> list[str]:
    """Returns what stands between markers; a last block that is not ended runs to the end."""
    parts: list[str] = []
    inside: list[str] | None = None
    for line in code.split("\n"):
        marker = _MARKER.search(line)
        if marker is None:
            if inside is not None:
                inside.append(line)
        elif marker[1] == "START":
            inside = []
        elif inside is not None:
            parts.append("\n".join(inside))
            inside = None
    if inside is not None:
        parts.append("\n".join(inside))
    return parts


def _drop_markers(code: str) -> str:
    return "\n".join(line for line in code.split("\n") if not _MARKER.search(line))


def _cut_surroundings(code: str, before: str, after: str) -> str:
    """Takes the frozen lines off both ends of a rewrite that repeats them."""
    head, tail = _telling_lines(before), _telling_lines(after)
    lines = code.split("\n")
    stripped = [line.strip() for line in lines]
    first, last = 0, len(lines)
    if head and head[-1] in stripped:
        first = stripped.index(head[-1]) + 1
    if tail and tail[0] in stripped[first:]:
        last = len(stripped) - 1 - stripped[::-1].index(tail[0])
    return "\n".join(lines[first:last])


def _telling_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line and not _MARKER.search(line)]


def _complete(old: str, frozen: str, inside: str, code: str) -> str:
    """Drops from a rewrite what is frozen, and adds what it needs and lacks."""
    tree = parse_python(inside)
    if tree is None:
        return inside
    frozen_statements = list_statements(frozen)
    taken = bound_names(frozen_statements)
    dumps = {ast.dump(node) for node in frozen_statements}
    kept = [node for node in tree.body if not frozen.strip() or not _is_frozen(node, taken, dumps)]
    new = _cut(inside.split("\n"), tree.body, kept)
    pool = [*slice_statements(code), *slice_statements(old)]
    needed = needed_names(old, frozen) | loaded_names(kept)
    added = _find_missing(pool, needed, taken | bound_names(kept))
    imports = [text for node, text in added if isinstance(node, ast.Import | ast.ImportFrom)]
    others = [text for node, text in added if not isinstance(node, ast.Import | ast.ImportFrom)]
    parts = ["\n".join(imports), *others, _strip_blank_ends(new)]
    return "\n\n\n".join(part for part in parts if part)


def _find_missing(
    pool: list[tuple[ast.stmt, str]], needed: set[str], have: set[str]
) -> list[tuple[ast.stmt, str]]:
    """Takes the statements that define what is needed, and what these need in turn."""
    added: set[int] = set()
    while True:
        fresh = [
            index
            for index, (node, _) in enumerate(pool)
            if index not in added and bound_names([node]) & (needed - have)
        ]
        if not fresh:
            return [pool[index] for index in sorted(added)]
        names: set[str] = set()
        for index in fresh:
            own = bound_names([pool[index][0]])
            if own & names:
                continue
            added.add(index)
            names |= own
            needed = needed | loaded_names([pool[index][0]])
        have = have | names


def _is_frozen(node: ast.stmt, taken: set[str], dumps: set[str]) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return True  # it would be an error anywhere but at the top
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    names = bound_names([node])
    return names <= taken if names else ast.dump(node) in dumps


def _cut(lines: list[str], body: list[ast.stmt], kept: list[ast.stmt]) -> str:
    """Takes statements out of the lines, comments between the others left in place."""
    gone: set[int] = set()
    for node in body:
        if node not in kept:
            gone.update(range(first_line(node) - 1, node.end_lineno or node.lineno))
    return "\n".join(line for index, line in enumerate(lines) if index not in gone)


def _strip_blank_ends(code: str) -> str:
    lines = code.split("\n")
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    return "\n".join(lines)
