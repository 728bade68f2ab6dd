"""Finds a rewritten program in a reply and puts it into the evolvable blocks of its parent."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from evolve.edits.matching import base_indent, strip_blank_ends
from evolve.edits.reply import CodePiece
from evolve.records import Rejected
from evolve.source.parsing import (
    MARKER,
    EvolveBlock,
    bound_names,
    evolvable_text,
    find_blocks,
    frozen_parts,
    is_text,
    list_names,
    list_statements,
    parse_python,
    syntax_error,
)

# What a reply without code is rejected for.
NO_CODE = "the reply holds neither edits nor a program"
_CODE_START = re.compile(r"(import |from \w|def |class |@\w|async def |#|\"\"\"|[A-Za-z_]\w* = )")
_SHELL, _PROSE = (".sh", ".bash", ".zsh", ""), (".txt", ".md", ".rst", ".prompt", ".tex", "")
# Fences in which a reply shows commands, output or data, and the files that are written so.
_ASIDES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("bash", "sh", "shell", "zsh", "console"), _SHELL),
    **dict.fromkeys(("text", "txt", "plaintext", "markdown", "md"), _PROSE),
    **dict.fromkeys(("json", "jsonc", "json5"), (".json", ".jsonc", ".json5")),
    **dict.fromkeys(("yaml", "yml"), (".yaml", ".yml")),
    "diff": (".diff", ".patch"),
}
_WORD = re.compile(r"[A-Za-z_]\w+")
_MOST_PIECES_READ = 100
_MOST_RANKED = 8
_MOST_ENDS_TRIED = 40
_MOST_NAMES_LISTED = 6
_LEAST_SHARE = 0.3


def rank_rewrites(parent: str, name: str, pieces: list[CodePiece], lines: list[str]) -> list[str]:
    """Returns the code in a reply that may stand for the new program, the best first.

    Args:
        parent: Text of the parent's file.
        name: Its path.
        pieces: The fenced pieces of the reply, in order.
        lines: The reply, where code without fences counts too.
    """
    if name.endswith(".py"):
        needed, names = needed_names(parent), expected_names(parent)
        return _rank_python(pieces, names, needed) or _find_bare_python(lines, names)
    return _rank_other(parent, name, pieces) or _find_bare_block(lines)


def explain_refusal(parent: str, pieces: list[CodePiece], *, is_python: bool) -> Rejected:
    """Returns why none of the pieces is a program."""
    if not pieces:
        return Rejected(NO_CODE)
    if not is_python:
        return Rejected("none of the reply's code resembles the program")
    longest = max(pieces, key=lambda piece: len(piece.text))
    error = syntax_error(longest.text)
    if error is not None:
        if not longest.is_closed:
            return Rejected(f"the reply is cut off inside its code; {error}")
        return Rejected(f"the reply's code does not parse: {error}")
    names = sorted(expected_names(parent))
    listed = ", ".join(f"`{name}`" for name in names[:_MOST_NAMES_LISTED])
    rest = ", ..." if len(names) > _MOST_NAMES_LISTED else ""
    return Rejected(f"the reply's code defines none of {listed or 'the program'}{rest}")


def rewrite_text(parent: str, code: str, *, is_python: bool) -> str | Rejected:
    """Returns the parent's file with its evolvable blocks taken from a rewrite.

    What stands outside the blocks is the parent's, byte for byte. In Python, definitions that the
    rewrite left out but needs are kept from the parent.

    Args:
        parent: Text of the parent's file.
        code: A whole program, its evolvable part, or some of the definitions in it.
        is_python: Whether the file is Python.
    """
    blocks, parts = find_blocks(parent), _split_at_markers(code)
    if len(blocks) > 1 or len(parts) > 1:
        if len(parts) != len(blocks):
            return Rejected(
                f"the rewrite marks {len(parts)} evolvable blocks, the program has {len(blocks)};"
                " keep the lines with EVOLVE-BLOCK-START and EVOLVE-BLOCK-END as they are, or use"
                " edits"
            )
        return _put(parent, list(zip(blocks, parts, strict=True)))
    before, after = frozen_parts(parent)
    old, frozen = evolvable_text(parent), before + after
    # A block inside a statement is not a part of a program that parses by itself.
    is_fragment = is_python and (parse_python(old) is None or parse_python(frozen) is None)
    inside = parts[0] if parts and frozen.strip() else code
    if not parts and frozen.strip() and (is_fragment or not is_python):
        inside = _cut_surroundings(code, before, after)
    if is_fragment:
        inside = textwrap.indent(textwrap.dedent(inside), base_indent(old.split("\n")))
    elif is_python:
        inside = _complete(parent, inside, code)
    return _put(parent, [(blocks[0], inside)])


def expected_names(parent: str) -> set[str]:
    """Returns the names of which a rewrite must define one.

    A block inside a function defines none at the top level: then it is those around it.
    """
    return _definitions(evolvable_text(parent)) or _definitions("".join(frozen_parts(parent)))


def needed_names(parent: str) -> set[str]:
    """Returns the names that the block of a file must define.

    Those are the ones that the frozen part uses, and the functions and classes that nothing in
    the block uses: something outside must.
    """
    statements = list_statements(evolvable_text(parent))
    frozen = list_statements("".join(frozen_parts(parent)))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    offered = {node.name for node in statements if isinstance(node, kinds)}
    used = set().union(*(_loaded_names([node]) - bound_names([node]) for node in statements))
    return (offered - used) | (_loaded_names(frozen) & bound_names(statements))


def _rank_python(pieces: list[CodePiece], defined: set[str], needed: set[str]) -> list[str]:
    """Ranks the pieces that can stand for a Python program.

    Those with everything that the block must define come first, and later before earlier ones.
    Definitions that a reply spreads over several pieces are brought together.
    """
    texts = [textwrap.dedent(piece.text) for piece in pieces[-_MOST_PIECES_READ:]]
    # A text that comes twice counts where it comes last.
    names = {text: _definitions(text) for text in dict.fromkeys(reversed(texts))}
    related = [text for text, own in names.items() if own & defined]
    related.sort(key=lambda text: needed <= names[text], reverse=True)
    return [_join_parts(text, names, defined) for text in related[:_MOST_RANKED]]


def _join_parts(base: str, names: Mapping[str, set[str]], defined: set[str]) -> str:
    """Adds pieces that define other parts of the program, or what the base lacks."""
    chosen = {base}
    have = set(names[base])
    wanted = defined | _loaded_names(list_statements(base))
    for text, own in names.items():
        if not own & have and own & wanted:
            chosen.add(text)
            have |= own
    return "\n\n\n".join(text.strip("\n") for text in reversed(list(names)) if text in chosen)


def _find_bare_python(lines: list[str], defined: set[str]) -> list[str]:
    """Finds a program that stands in a reply without fences, with words around it or not."""
    starts = [0, *(at for at, line in enumerate(lines) if _CODE_START.match(line))][:2]
    for start in starts:
        # The end of the reply, and from there backwards the ends of its paragraphs.
        blank = [at for at in range(start, len(lines)) if not lines[at].strip()]
        for stop in [len(lines), *reversed(blank[-_MOST_ENDS_TRIED:])]:
            text = "\n".join(lines[start:stop])
            if parse_python(text) is not None:
                if list_names(text) & defined:
                    return [text]
                break
    return []


def _rank_other(parent: str, name: str, pieces: list[CodePiece]) -> list[str]:
    """Ranks the pieces that can stand for a program in another language, the longest first.

    Many of the words of a piece must be the parent's, unless it has markers or is the only one,
    of the file's own kind: prose and data may be written anew.
    """
    known, suffix = set(_WORD.findall(parent)), PurePosixPath(name).suffix
    own = [piece for piece in pieces if suffix in _ASIDES.get(piece.language, (suffix,))]
    # A text that is asked for may stand in a fence of any language, but is no change of itself.
    own = own or [piece for piece in pieces if is_text(name) and piece.language != "diff"]
    alike = []
    for piece in own:
        words = set(_WORD.findall(piece.text))
        is_alike = len(known & words) > _LEAST_SHARE * len(words)
        is_meant = len(own) == 1 and (piece.language in _ASIDES or is_text(name))
        if is_alike or is_meant or MARKER.search(piece.text):
            alike.append(piece.text)
    return sorted(alike, key=len, reverse=True)


def _find_bare_block(lines: list[str]) -> list[str]:
    """Finds what a reply without fences has between the markers, markers included."""
    marks = [index for index, line in enumerate(lines) if MARKER.search(line)]
    return ["\n".join(lines[marks[0] : marks[-1] + 1])] if len(marks) >= 2 else []


def _split_at_markers(code: str) -> list[str]:
    """Returns what stands between markers; a last block that is not ended runs to the end."""
    parts: list[list[str]] = []
    is_inside = False
    for line in code.split("\n"):
        marker = MARKER.search(line)
        if marker is not None:
            is_inside = marker[1] == "START"
            if is_inside:
                parts.append([])
        elif is_inside:
            parts[-1].append(line)
    return ["\n".join(part) for part in parts]


def _cut_surroundings(code: str, before: str, after: str) -> str:
    """Returns a rewrite without the frozen lines that it repeats at either end."""
    head, tail = _lines_with_text(before), _lines_with_text(after)
    lines = code.split("\n")
    stripped = [line.strip() for line in lines]
    first, last = 0, len(lines)
    if head and head[-1] in stripped:
        first = stripped.index(head[-1]) + 1
    if tail and tail[0] in stripped[first:]:
        last = len(stripped) - 1 - stripped[::-1].index(tail[0])
    return "\n".join(lines[first:last])


def _lines_with_text(text: str) -> list[str]:
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line and not MARKER.search(line)]


def _put(parent: str, parts: Sequence[tuple[EvolveBlock, str]]) -> str:
    """Replaces blocks; their line ends and the blank lines at their own ends stay."""
    newline = "\r\n" if "\r\n" in parent else "\n"
    text = parent
    for block, raw in reversed(parts):
        old = parent[block.start : block.end]
        lead = old[: len(old) - len(old.lstrip("\r\n"))] if old.strip() else ""
        trail = old[len(old.rstrip()) :] if old.strip() else newline
        if not trail and block.end < len(parent):
            trail = newline
        lines = [line for line in raw.split("\n") if not MARKER.search(line)]
        new = lead + newline.join(strip_blank_ends(lines)) + trail
        text = text[: block.start] + new + text[block.end :]
    return text


def _complete(parent: str, inside: str, code: str) -> str:
    """Returns a rewrite without what is frozen, and with what it needs and lacks."""
    tree = parse_python(inside)
    if tree is None:
        return inside
    frozen = "".join(frozen_parts(parent))
    frozen_statements = list_statements(frozen)
    taken = bound_names(frozen_statements)
    dumps = {ast.dump(node) for node in frozen_statements}
    kept = [node for node in tree.body if not frozen.strip() or not _is_frozen(node, taken, dumps)]
    gone = {line for node in tree.body if node not in kept for line in _lines_of(node)}
    # Comments between statements stay.
    new = [line for number, line in enumerate(inside.split("\n"), 1) if number not in gone]
    pool = [*_slice_statements(code), *_slice_statements(evolvable_text(parent))]
    needed = needed_names(parent) | _loaded_names(kept)
    added = _find_missing(pool, needed, taken | bound_names(kept))
    imports = [text for node, text in added if isinstance(node, ast.Import | ast.ImportFrom)]
    others = [text for node, text in added if not isinstance(node, ast.Import | ast.ImportFrom)]
    parts = ["\n".join(imports), *others, "\n".join(strip_blank_ends(new))]
    return "\n\n\n".join(part for part in parts if part)


def _find_missing(
    pool: list[tuple[ast.stmt, str]], needed: set[str], have: set[str]
) -> list[tuple[ast.stmt, str]]:
    """Returns the statements that define what is needed, and what these need in turn."""
    added: set[int] = set()
    while True:
        missing = needed - have
        fresh = [
            index
            for index, (node, _) in enumerate(pool)
            if index not in added and bound_names([node]) & missing
        ]
        if not fresh:
            return [pool[index] for index in sorted(added)]
        names: set[str] = set()
        for index in fresh:
            own = bound_names([pool[index][0]])
            if not own & names:
                added.add(index)
                names |= own
                needed = needed | _loaded_names([pool[index][0]])
        have = have | names


def _is_frozen(node: ast.stmt, taken: set[str], dumps: set[str]) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return True  # it would be an error anywhere but at the top
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    names = bound_names([node])
    return names <= taken if names else ast.dump(node) in dumps


def _slice_statements(text: str) -> list[tuple[ast.stmt, str]]:
    """Returns the statements at the top level with their source."""
    lines = text.replace("\r\n", "\n").split("\n")
    return [
        (node, "\n".join(lines[number - 1] for number in _lines_of(node)))
        for node in list_statements("\n".join(lines))
    ]


def _lines_of(node: ast.stmt) -> range:
    """Returns the numbers of a statement's lines, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return range(first, (node.end_lineno or node.lineno) + 1)


def _definitions(text: str) -> set[str]:
    return bound_names(list_statements(text), imports=False)


def _loaded_names(statements: Iterable[ast.stmt]) -> set[str]:
    """Returns the names that statements use, at any depth."""
    return {
        child.id
        for node in statements
        for child in ast.walk(node)
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load)
    }
