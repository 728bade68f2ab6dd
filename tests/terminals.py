"""A terminal for tests: tmux, as people use it."""

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

has_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Terminal:
    """A window of a tmux server of its own.

    Args:
        width: Columns.
        height: Lines.
        cwd: Where commands run.
    """

    def __init__(self, width: int, height: int, cwd: Path) -> None:
        self._server = f"evolve-{uuid.uuid4().hex[:12]}"
        self._cwd = cwd
        self._size = ("-x", str(width), "-y", str(height))

    def start(self, *words: object, **environment: str) -> None:
        """Starts `evolve`; what it prints stays on the screen after its end."""
        command = shlex.join([sys.executable, "-m", "evolve", *map(str, words)])
        self.start_script(command, **{"DOCKER_HOST": "unix:///nowhere/docker.sock", **environment})

    def start_script(self, script: str, **environment: str) -> None:
        """Starts a line of shell; what it prints stays on the screen after its end."""
        given = " ".join(
            f"export {name}={shlex.quote(text)};" for name, text in environment.items()
        )
        # Pytest sets them for its own terminal.
        line = f"unset COLUMNS LINES; {given} {script}; echo EXIT $?; sleep 600"
        self._tmux("-f", os.devnull, "new-session", "-d", "-c", self._cwd, *self._size, line)

    def lines(self, *options: str) -> list[str]:
        """Returns what is on the screen."""
        return self._tmux("capture-pane", "-p", *options).splitlines()

    def text(self, *options: str) -> str:
        return "\n".join(self.lines(*options))

    def press(self, key: str) -> None:
        self._tmux("send-keys", key)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def wait_for(self, condition: Callable[[str], bool] | str, seconds: float = 60.0) -> str:
        """Returns the screen once it fulfils a condition, or holds a text."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.text()
            if condition in text if isinstance(condition, str) else condition(text):
                return text
            assert time.monotonic() < deadline, f"waited in vain for {condition}:\n{text}"
            time.sleep(0.1)

    def close(self) -> None:
        self._tmux("kill-server", check=False)

    def _tmux(self, *words: object, check: bool = True) -> str:
        command = ["tmux", "-u", "-L", self._server, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=check)
        return done.stdout
