"""Thinking that a model writes into its reply, separated from the answer.

Only what stands at the head of a reply is thinking: a program may hold such tags as text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMES = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reflection|reason)"
_OPEN = re.compile(
    rf"\s*(?:<{_NAMES}>|\[{_NAMES}\]|\u25c1{_NAMES}\u25b7|<\|begin_of_thought\|>"
    r"|<\|channel\|>(?:analysis|commentary)\b[^<]*<\|message\|>)",
    re.IGNORECASE,
)
_TAG = re.compile(
    rf"(?P<open><{_NAMES}>|\[{_NAMES}\]|\u25c1{_NAMES}\u25b7|<\|begin_of_thought\|>)"
    rf"|(?P<close></{_NAMES}>|\[/{_NAMES}\]|\u25c1/{_NAMES}\u25b7|<\|end_of_thought\|>"
    r"|<\|channel\|>final\b[^<]*<\|message\|>)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,}|<{5,9}|>{5,9})", re.MULTILINE)
_QUOTES = "\"'`"
_LONGEST_TAG = 40


class Split(NamedTuple):
    """A reply, taken apart.

    Attributes:
        answer: What follows the thinking; the reply as it is when it holds none.
        has_thinking: Whether it holds any.
        is_unopened: Whether thinking ends in it that was not opened in it.
    """

    answer: str
    has_thinking: bool = False
    is_unopened: bool = False


def split_thinking(text: str) -> Split:
    """Returns the answer in a reply, without the thinking before it.

    Thinking begins with a tag such as `<think>` at the head of the reply, or at the very start
    where a server keeps the opening tag to itself; then only its closing tag is there. A tag in
    quotes is text, and so is one within a line of a fenced program.
    """
    answer, is_unopened = text, False
    while True:
        opening = _OPEN.match(answer)
        start = 0 if opening is None else opening.end()
        close = _find_close(answer, start, depth=int(opening is not None))
        if close is not None:
            is_unopened = is_unopened or opening is None
            answer = answer[close:].lstrip()
        elif opening is not None:
            return Split("", has_thinking=True, is_unopened=is_unopened)
        else:
            return Split(answer, answer is not text, is_unopened)


def begins_thinking(text: str) -> bool:
    """Returns whether a reply that was cut off holds no more than the start of an opening tag."""
    head = text.strip().lower()
    return 0 < len(head) < _LONGEST_TAG and any(
        tag.startswith(head)
        for tag in ("<think>", "<thinking>", "<thought>", "<reasoning>", "<reflection>")
    )


def _find_close(text: str, start: int, *, depth: int) -> int | None:
    """Returns where the tag that ends the thinking ends, or None when there is none.

    Args:
        text: The reply.
        start: Where to begin to look.
        depth: 1 after an opening tag, which the first closing one ends; 0 where none was, so
            that a pair of tags in the text ends nothing.
    """
    fences = [found.start() for found in _FENCE.finditer(text)]
    passed = 0
    opened = 0
    for tag in _TAG.finditer(text, start):
        while passed < len(fences) and fences[passed] < tag.start():
            passed += 1
        is_code = passed % 2 == 1 and passed < len(fences)
        if _is_text(text, tag, is_code=is_code):
            continue
        if tag["open"]:
            opened += 1
        elif depth or not opened:
            return tag.end()
        else:
            opened -= 1
    return None


def _is_text(text: str, tag: re.Match[str], *, is_code: bool) -> bool:
    """Returns whether a tag is part of what a program or sentence says, not a mark."""
    before, after = text[tag.start() - 1 : tag.start()], text[tag.end() : tag.end() + 1]
    if (before and before in _QUOTES) or (after and after in _QUOTES):
        return True
    if not is_code:
        return False
    line_start = text.rfind("\n", 0, tag.start()) + 1
    line_end = text.find("\n", tag.end())
    line = text[line_start : line_end if line_end >= 0 else len(text)]
    return line.strip() != tag.group()
