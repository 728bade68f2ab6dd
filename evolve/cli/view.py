"""Progress on the terminal the command runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from evolve.report.live import LiveView, PlainView, Progress

if TYPE_CHECKING:
    from evolve.models.budget import Budget


class TerminalView:
    """Live on a terminal, plain lines elsewhere.

    Args:
        stream: Standard output.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: LiveView | None = None

    def tell(self, line: str) -> None:
        """Prints one line; may be called from any thread."""
        if self._live is not None and self._live.is_open:
            self._live.tell(line)
            return
        self._stream.write(line + "\n")
        self._stream.flush()

    def watch(
        self, *, title: str, generations: int, budget: Budget, initial: float
    ) -> LiveView | PlainView:
        """Gives the view to open while the run goes on."""
        progress = Progress(title, generations, budget, initial)
        if self._stream.isatty():
            self._live = LiveView(progress)
            return self._live
        return PlainView(progress, self._stream)
