"""A live view of a run: as much as the terminal has room for, what matters most first."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evolve.display import one_line as clean_line
from evolve.display import shorten, show_number
from evolve.report.figures import EMPTY, draw_braille, show_place, shrink
from evolve.report.overview import describe_gain
from evolve.report.phrases import (
    compare_reference,
    describe_budget,
    describe_nearest,
    describe_outcomes,
    describe_payoffs,
    describe_stop,
    describe_time,
    describe_traffic,
    is_reached,
)
from evolve.report.progress import Dashboard

_WIDE, _TALL = 110, 24
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_SECOND = 2
# Places of a heat map by level.
_SHADE_STYLES = ("dim", "", "", "cyan", "bold green")
# Of the evaluations so far: what came before is below the curve's lower edge, not in its scale.
_EARLY = 0.1


_LABEL = 10
# Most texts are the same in many pictures, and cleaning is what takes longest.
one_line = lru_cache(maxsize=1024)(clean_line)
_WIDEST_SIDE = 64
# With so few lines the champion has one alone.
_LOW = 12


class Panel(NamedTuple):
    """A part of the screen.

    Attributes:
        draw: Returns its contents for a width and a number of lines.
        least: Lines without which it is left out.
        ideal: Lines that it can use.
    """

    draw: Callable[[int, int], RenderableType]
    least: int
    ideal: int


class Sized:
    """Draws a panel for the room that it gets."""

    def __init__(self, draw: Callable[[int, int], RenderableType]) -> None:
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        drawn = self._draw(options.max_width, options.height or console.height)
        # What is yielded as it is would be drawn without a height.
        yield from console.render(drawn, options)


def allot(wanted: Sequence[tuple[int, int]], lines: int) -> list[int]:
    """Returns how many lines each panel gets; 0 where there is no room for it.

    Args:
        wanted: The least and the ideal lines of each, the most important first.
        lines: How many there are.
    """
    sizes = []
    for least, _ in wanted:
        sizes.append(least if least <= lines else 0)
        lines -= sizes[-1]
    for place, (_, ideal) in enumerate(wanted):
        more = min(ideal - sizes[place], lines) if sizes[place] else 0
        sizes[place] += more
        lines -= more
    return sizes


def arrange(shown: Dashboard, width: int, height: int) -> Layout:
    """Returns the view for a terminal of this size."""
    whole = Layout()
    lines = 1 if height < _LOW else 2
    whole.split_column(
        Layout(_draw_title(shown), size=1),
        Layout(_draw_bar(shown), size=1),
        Layout(_draw_champion(shown, lines), size=lines),
        _arrange_below(shown, width, max(height - lines - 2, 1)),
    )
    return whole


def _arrange_below(shown: Dashboard, width: int, height: int) -> Layout:
    is_wide = width >= _WIDE and height >= _TALL
    side = min(2 * width // 5, _WIDEST_SIDE) if is_wide else width
    facts = [
        Panel(partial(_draw_fact, *fact), 1, len(_wrap(fact[1], side)))
        for fact in _list_facts(shown)
    ]
    draw_chart = _draw_curve if is_wide else _draw_chart
    chart = Panel(partial(draw_chart, shown), 4, height // 2 if is_wide else height // 3)
    most = 1 + len(shown.improvements)
    improvements = Panel(partial(_draw_improvements, shown), 2, most if is_wide else height // 4)
    notes = Panel(partial(_draw_notes, shown), 1, 8 if is_wide else 4)
    if not is_wide:
        return _stack([chart, improvements, *facts, notes], height, stretch=0)
    rows = max((len(island.levels) for island in shown.islands), default=0)
    maps = Panel(partial(_draw_maps, shown), 6, min(rows + 2, height // 2))
    columns = Layout()
    columns.split_row(
        Layout(_stack([chart, improvements, notes], height, stretch=0)),
        Layout(" ", size=2),
        Layout(_stack([maps, *facts], height), size=side),
    )
    return columns


def _stack(panels: Sequence[Panel], height: int, *, stretch: int | None = None) -> Layout:
    """Returns panels below each other; what is left over goes to one of them, or stays empty."""
    sizes = allot([(panel.least, panel.ideal) for panel in panels], height)
    left = height - sum(sizes)
    if stretch is not None and sizes[stretch]:
        sizes[stretch] += left
        left = 0
    parts = [
        Layout(Sized(panel.draw), size=size)
        for panel, size in zip(panels, sizes, strict=True)
        if size
    ]
    stacked = Layout()
    stacked.split_column(*parts, *([Layout(" ", size=left)] if left else []))
    return stacked


def _draw_title(shown: Dashboard) -> RenderableType:
    frame = _SPINNER[int(shown.now * _FRAMES_PER_SECOND) % len(_SPINNER)]
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    line.add_column(no_wrap=True, justify="right")
    line.add_row(
        Text.assemble((f"{frame} ", "cyan"), (one_line(shown.run), "bold")),
        describe_time(shown.seconds),
    )
    return line


def _draw_bar(shown: Dashboard) -> RenderableType:
    if shown.stopping:
        return _uncut([Text(one_line(describe_stop(shown)), style="bold magenta")])
    if not shown.caps:
        return Text(f"generation {shown.generation}")
    nearest = shown.caps[0]
    line = Table.grid(expand=True, padding=(0, 2, 0, 0))
    line.add_column(ratio=1)
    line.add_column(no_wrap=True, overflow="ellipsis")
    bar = ProgressBar(
        total=1.0, completed=nearest.share, complete_style="cyan", finished_style="cyan"
    )
    line.add_row(bar, f"{nearest.share:.0%}, {describe_nearest(nearest)}")
    return line


def _draw_champion(shown: Dashboard, height: int) -> RenderableType:
    direction, objective, initial = shown.direction, shown.champion, shown.initial
    if objective is None:
        return Text.assemble(("champion  ", "dim"), describe_gain(None, initial, shown.noise))
    is_better = initial is not None and direction.is_better(objective, initial)
    first = Text.assemble(
        ("champion  ", "dim"),
        (show_number(objective), "bold green" if is_better else "bold"),
        f"  {describe_gain(objective, initial, shown.noise)}",
    )
    known = Text()
    for name, reference in reversed(list(shown.references.items())):
        style = "green" if is_reached(objective, reference, direction) else ""
        known.append(", " if known else "")
        known.append(compare_reference(objective, name, reference), style=style)
    if height == 1:
        return _uncut([first.append("  ").append(known)])
    return _uncut([first, Text(" " * _LABEL).append(known)])


def _list_facts(shown: Dashboard) -> list[tuple[str, str]]:
    """Returns what is said in a line or two, the most important first: labels and texts."""
    facts = [("attempts", describe_outcomes(shown))]
    if shown.traffic is not None and shown.traffic.waits:
        facts.append(("waiting", describe_traffic(shown.traffic, shown.now)))
    facts.append(("budget", describe_budget(shown)))
    if shown.payoffs:
        facts.append(("pay-off", describe_payoffs(shown.payoffs)))
    if shown.stall:
        facts.append(("stall", shown.stall))
    if shown.lesson:
        facts.append(("lesson", shown.lesson))
    return facts


def _draw_fact(label: str, text: str, width: int, height: int) -> RenderableType:
    lines = _wrap(text, width, height)
    drawn = [
        Text.assemble((f"{'' if place else label:<{_LABEL}}", "dim"), line)
        for place, line in enumerate(lines)
    ]
    return _uncut(drawn)


def _wrap(text: str, width: int, most: int = 3) -> list[str]:
    """Returns the lines of a text beside its label, with a sign where some are left out."""
    room = max(width - _LABEL, 8)
    return textwrap.wrap(one_line(text), room, max_lines=most, placeholder=" ...")


def _uncut(lines: Sequence[Text]) -> RenderableType:
    """Returns lines that show where they are cut, should wide characters make them too long."""
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def _draw_improvements(shown: Dashboard, width: int, height: int) -> RenderableType:
    if not shown.improvements:
        return Text("no improvement on the starting program yet", style="dim")
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("improved to", no_wrap=True)
    table.add_column("gain", no_wrap=True, style="green")
    table.add_column("by", no_wrap=True, overflow="ellipsis", max_width=max(width // 4, 8))
    table.add_column("plan", no_wrap=True, overflow="ellipsis", ratio=1)
    for one in shown.improvements[: height - 1]:
        table.add_row(
            show_number(one.objective),
            f"{one.gain:+.3g}",
            Text(one_line(one.source) or "..."),
            Text(one_line(one.plan)),
        )
    return table


def _draw_notes(shown: Dashboard, width: int, height: int) -> RenderableType:
    newest = shown.notes[-height:]
    lines = [line for note in newest for line in textwrap.wrap(one_line(note), max(width, 8))]
    return _uncut([Text(line, style="dim") for line in lines[-height:]])


def _draw_chart(shown: Dashboard, width: int, height: int) -> RenderableType:
    """Returns the curve, and the heat maps next to it where there is room for them."""
    drawn = [island for island in shown.islands if island.levels]
    needed = sum(len(island.levels[0]) + 2 for island in drawn)
    if not drawn or height < 5 or width - needed < 40:
        return _draw_curve(shown, width, height)
    columns = Layout()
    columns.split_row(
        Layout(Sized(partial(_draw_curve, shown))),
        Layout(Sized(partial(_draw_maps, shown)), size=needed + 2),
    )
    return columns


def _draw_curve(shown: Dashboard, width: int, height: int) -> RenderableType:
    if not shown.curve:
        return Text()
    end = max(float(shown.evaluations), 1.0)
    low, high, level = _find_bounds(shown, end)
    names = [shorten(show_number(value), 12) for value in (high, low)]
    gutter = max(map(len, names)) + 1
    plot = draw_braille(
        shown.curve, width=max(width - gutter, 1), height=max(height - 1, 1), bounds=(low, high),
        end=end, level=level,
    )  # fmt: skip
    labels = [names[0], *[""] * (len(plot) - 2), names[1]] if len(plot) > 1 else [names[0]]
    lines = [
        Text.assemble((f"{label:>{gutter - 1}} ", "dim"), (line, "cyan"))
        for label, line in zip(labels, plot, strict=True)
    ]
    dotted = "" if level is None else "; dots: best known"
    caption = f"best of {shown.evaluations} evaluations{dotted}"
    return _uncut([*lines, Text(caption, style="dim")])


def _find_bounds(shown: Dashboard, end: float) -> tuple[float, float, float | None]:
    """Returns the values at the curve's lower and upper edge, and the dotted one between them."""
    early = [value for at, value in shown.curve if at <= _EARLY * end]
    # A curve that is drawn has points.
    values = [(early or [value for _, value in shown.curve])[-1], shown.curve[-1][1]]
    low, high = min(values), max(values)
    known = shown.references.get("best known")
    if known is None or not (low - (high - low) <= known.value <= high + (high - low)):
        return low, high, None
    return min(low, known.value), max(high, known.value), known.value


def _draw_maps(shown: Dashboard, width: int, height: int) -> RenderableType:
    """Returns the islands' heat maps beside each other."""
    drawn = [island for island in shown.islands if island.levels]
    if not drawn:
        return Text("")
    room = max(width // len(drawn) - 2, 8)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(*(draw_map(island.levels, room, height - 2) for island in drawn))
    names = (f"{n}: {one.elites} ({one.coverage:.0%})" for n, one in enumerate(drawn))
    grid.add_row(*(Text(name, style="dim") for name in names))
    axes = " across, ".join(map(one_line, shown.measures))
    caption = f"{axes} {'up' if len(shown.measures) > 1 else 'across'}"
    return Group(grid, _uncut([Text(caption, style="dim")]))


def draw_map(levels: Sequence[Sequence[int]], width: int, height: int) -> Text:
    """Returns a heat map in characters, of at most this size; the best place has a mark."""
    fitted = shrink(levels, max(height, 1), width)
    wide = 2 if 2 * len(fitted[0]) <= width else 1
    drawn = Text(no_wrap=True)
    for place, line in enumerate(fitted):
        drawn.append("\n" if place else "")
        for level in line:
            style = "dim" if level == EMPTY else _SHADE_STYLES[level]
            drawn.append(show_place(level, wide), style)
    return drawn
