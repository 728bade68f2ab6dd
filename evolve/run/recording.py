"""The replies of a recorded run, as answers to another one."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from evolve.errors import BudgetExhaustedError
from evolve.journal import OtherRequestError
from evolve.records.chat import describe_difference
from evolve.records.endings import RECORDING
from evolve.records.results import Call
from evolve.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from evolve.records import AttemptKey
    from evolve.records.chat import Request

_GENERATIONS_KEPT = 8
# Measured times, as prompts tell them; they differ from one execution to the next.
_MEASURED = re.compile(r"(?<!of )\b\d[\d.e+-]* s\b")


class Recording:
    """Answers requests as a recorded run was answered; safe to call from any thread.

    Args:
        folder: The recorded run.

    Raises:
        UsageError: It is no run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._generations: OrderedDict[int, dict[AttemptKey, Call]] = OrderedDict()
        with closing(Store.open_to_read(folder)) as store:
            self._last = store.last_generation() or 0

    def answer(self, key: AttemptKey, request: Request) -> Call:
        """Returns the recorded call at the same place.

        Raises:
            OtherRequestError: Another request was recorded there, or none.
            BudgetExhaustedError: The recording ends before.
        """
        known = self._load(key.generation).get(key)
        if known is None:
            if key.generation >= self._last:
                raise BudgetExhaustedError(RECORDING, f"{self._folder}: the recording ends here")
            raise OtherRequestError(
                f"call {key}: expected a recorded reply in {self._folder}, which has none at that "
                "place; the problem, its evaluator or the settings are others now"
            )
        before, now = without_times(known.request), without_times(request)
        if before.hash != now.hash:
            raise OtherRequestError(
                f"call {key} ({request.role}): expected the request recorded in {self._folder}, "
                f"got another: {describe_difference(before, now)}; a changed prompt "
                "needs a model: run it without `--replay`"
            )
        return Call(key, request, known.reply, known.error)

    def _load(self, generation: int) -> dict[AttemptKey, Call]:
        with self._lock:
            if generation not in self._generations:
                with closing(Store.open_to_read(self._folder)) as store:
                    calls, _ = store.finished_after(generation - 1, generation)
                self._generations[generation] = {call.key: call for call in calls}
                if len(self._generations) > _GENERATIONS_KEPT:
                    self._generations.popitem(last=False)
            return self._generations[generation]


def without_times(request: Request) -> Request:
    """Returns the request with each measured time as an ellipsis."""
    messages = tuple(
        replace(message, text=_MEASURED.sub("… s", message.text)) for message in request.messages
    )
    return replace(request, messages=messages)
