"""A person as a model: prompts are written to files, and replies are waited for."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from evolve.errors import ModelError, ModelUnavailableError
from evolve.files import open_plain, write_inside
from evolve.models.command_model import format_prompt
from evolve.models.incoming import Incoming
from evolve.models.protocol import Price
from evolve.records.chat import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "manual"


class ManualModel:
    """Writes `NAME.prompt.md` and waits for `NAME.reply.md` beside it, as long as it takes.

    The name follows from what is asked, so that a run that is resumed waits for the same file,
    and takes a reply that was written meanwhile.

    Args:
        folder: Where the files are; made when the first prompt is written.
        tell: Is told which file is waited for, from any thread.
        poll_seconds: How often to look; a reply counts when it stayed the same for so long.
    """

    is_patient = True
    address = remedy = ""

    def __init__(
        self, folder: Path, *, tell: Callable[[str], None], poll_seconds: float = 0.5
    ) -> None:
        self.name = NAME
        self.incoming = Incoming()
        self._folder = folder
        self._tell = tell
        self._poll_seconds = poll_seconds
        self._closed = threading.Event()

    def complete(self, request: Request, timeout_seconds: float) -> Reply:  # noqa: ARG002
        """Waits for the reply to a request.

        Raises:
            ModelError: The files cannot be written or read.
            ModelUnavailableError: The model was closed.
        """
        start = time.monotonic()
        name = f"{request.role}-{request.hash[:12]}"
        answer = self._folder / f"{name}.reply.md"
        try:
            self._write_prompt(self._folder / f"{name}.prompt.md", request)
            text = self._wait_for(answer)
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"model {NAME!r}: {answer}: {error}") from error
        return Reply(text, NAME, seconds=time.monotonic() - start, cost_usd=0.0)

    def prepare(self) -> None:
        """Has nothing to check."""

    def find_most_tokens(self) -> None:
        """Has no limit."""

    def find_price(self) -> Price | None:
        """Costs nothing."""
        return Price(0.0, 0.0)

    def close(self) -> None:
        """Ends all waiting."""
        self._closed.set()

    def _write_prompt(self, path: Path, request: Request) -> None:
        if path.exists():
            return
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        name = f"{path.parent.name}/{path.name}"
        write_inside(path.parent.parent, name, format_prompt(request.messages))

    def _wait_for(self, path: Path) -> str:
        """Returns the text of a file, once there is one that does not change any more."""
        before, is_told = "", False
        while True:
            text = _read(path) if path.exists() else ""
            if text.strip() and text == before:
                return text
            if not text and not is_told:
                self._tell(f"reply wanted: {path}, to the prompt beside it")
                is_told = True
            before = text
            if self._closed.wait(self._poll_seconds):
                raise ModelUnavailableError(f"model {NAME!r}: closed")


def _read(path: Path) -> str:
    # In a run folder of somebody else's a link could bring any file into a prompt.
    with os.fdopen(open_plain(path, os.O_RDONLY), encoding="utf-8") as stream:
        return stream.read()
