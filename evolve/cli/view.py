"""Progress on the terminal the command runs in."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from evolve.display import clean, say, say_error
from evolve.report.live import LiveView, PlainView, Progress

if TYPE_CHECKING:
    from evolve.models.budget import Budget


class Output:
    """Standard output of a run, until whoever reads it has had enough, as in `evolve run | head`.

    The run is then asked to stop, as by a terminal that is closed; the rest is told on standard
    error.
    """

    def __init__(self) -> None:
        self.is_closed = False

    def isatty(self) -> bool:
        """Returns whether it is a terminal."""
        return sys.stdout.isatty()

    def write(self, text: str) -> None:
        """Writes a text; may be called from any thread."""
        try:
            sys.stdout.write(clean(text))
        except BrokenPipeError:
            self._stop_run()

    def flush(self) -> None:
        """Writes what was held back."""
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            self._stop_run()

    def tell_end(self, text: str) -> None:
        """Writes the last lines, when nothing can be stopped any more."""
        if not self.is_closed:
            try:
                say(text)
            except BrokenPipeError:
                self._leave()
        if self.is_closed:
            say_error(f"nobody reads standard output any more\n{text}")

    def _stop_run(self) -> None:
        if not self.is_closed:
            self._leave()
            signal.raise_signal(signal.SIGTERM)

    def _leave(self) -> None:
        self.is_closed = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class TerminalView:
    """Live on a terminal, plain lines elsewhere.

    Args:
        stream: Standard output.
    """

    def __init__(self, stream: Output) -> None:
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
        """Returns the view to open while the run goes on."""
        progress = Progress(title, generations, budget, initial)
        if self._stream.isatty():
            self._live = LiveView(progress)
            return self._live
        return PlainView(progress, self._stream)
