"""Blocks of a prompt under a hard cap of tokens: each has a cap, and the whole has one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evolve.models.tokens import TokenCounter

CUT = "[cut]"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_MARKS = re.compile(r"^(`{3,})", re.MULTILINE)
# What a provider adds around each of two messages; what a fence and line ends take.
_AROUND_MESSAGES = 16
_AROUND_ITEM, _AROUND_BLOCK = 2, 8


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a prompt that gives way where there is no room.

    Attributes:
        name: The value of the template that it fills.
        items: Its items, the most important first; the last ones are left out first.
        heading: Stands above them where there are any.
        share: Cap, as a share of the whole.
        rank: Blocks with a higher rank give way first; those of rank 0 are cut at the very last.
        is_data: Whether the items are lines that are put in one fence together.
    """

    name: str
    items: tuple[str, ...]
    heading: str = ""
    share: float = 1.0
    rank: int = 1
    is_data: bool = False

    @property
    def text(self) -> str:
        """Returns the text that goes into the prompt, empty without items."""
        if not self.items:
            return ""
        body = fence("\n".join(self.items)) if self.is_data else "\n\n".join(self.items)
        return f"{self.heading}\n\n{body}" if self.heading else body


def fence(text: str, language: str = "") -> str:
    """Fences text as data: no line in it can close the fence, no control character is left."""
    clean = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text).rstrip()
    longest = max((len(run) for run in re.findall(r"`{3,}", clean)), default=2)
    marks = "`" * (longest + 1)
    return f"{marks}{language}\n{clean}\n{marks}"


def plain(text: str) -> str:
    """Returns text on one line without control characters."""
    return " ".join(_CONTROL.sub(" ", text).split())


def fit_blocks(
    blocks: Sequence[Block], fixed: str, most: int, counter: TokenCounter
) -> dict[str, str]:
    """Returns the text of each block by name, all of them together within a cap.

    The bound decides where it suffices; only else are tokens counted.

    Args:
        blocks: Those to fit.
        fixed: All other text of the prompt.
        most: Cap on the tokens of the whole prompt.
        counter: Counts for the model that is asked.
    """
    for measure in (counter.bound, counter.count):
        sizes = [_size(block, measure) for block in blocks]
        total = measure(fixed) + _AROUND_MESSAGES + sum(sizes)
        if total <= most and all(
            size <= block.share * most for size, block in zip(sizes, blocks, strict=True)
        ):
            return {block.name: block.text for block in blocks}
    fitted = [_shrink(block, int(block.share * most), counter.count) for block in blocks]
    room = most - counter.count(fixed) - _AROUND_MESSAGES
    order = sorted(range(len(fitted)), key=lambda index: -fitted[index].rank)
    for index in order:
        over = sum(_size(block, counter.count) for block in fitted) - room
        if over > 0:
            target = max(0, _size(fitted[index], counter.count) - over)
            fitted[index] = _shrink(fitted[index], target, counter.count)
    return {block.name: block.text for block in fitted}


def _size(block: Block, measure: Callable[[str], int]) -> int:
    if not block.items:
        return 0
    items = sum(measure(item) + _AROUND_ITEM for item in block.items)
    return items + measure(block.heading) + _AROUND_BLOCK


def _shrink(block: Block, target: int, measure: Callable[[str], int]) -> Block:
    """Leaves the last items out until the block has its size, and cuts the first one if it must."""
    while len(block.items) > 1 and _size(block, measure) > target:
        block = replace(block, items=block.items[:-1])
    while block.items and _size(block, measure) > target:
        over = _size(block, measure) - target
        item = block.items[0]
        share = 1.0 - (over + _AROUND_BLOCK) / max(1, measure(item))
        kept = item.removesuffix(CUT)[: int(0.98 * share * len(item))] if share > 0 else ""
        block = replace(block, items=(_end(kept),) if kept.strip() else ())
    return block


def _end(text: str) -> str:
    """Ends a text that was cut, and the fence that may be open in it."""
    opened = ""
    for marks in _MARKS.findall(text):
        opened = "" if marks == opened else opened or marks
    return f"{text.rstrip()}\n{CUT}" + (f"\n{opened}" if opened else "")
