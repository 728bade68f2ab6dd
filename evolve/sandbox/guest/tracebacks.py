"""An exception of the program as text: its own frames, and never another exception."""

from __future__ import annotations

import linecache
import traceback

_GUEST = "evolve_guest."
_MAX_FRAMES = 12
_MAX_REASON = 500
_MAX_DETAIL = 8000


def describe(error: BaseException, work: str) -> tuple[str, str]:
    """Returns one line on an exception, and its traceback in the program's own files.

    Args:
        error: What the program raised; its methods may misbehave.
        work: The workspace; only frames of files in it are kept, under their relative path.
    """
    own = getattr(type(error), "__module__", "").startswith(_GUEST)
    lines = _name_safely(error)
    if own:
        return str(error)[:_MAX_REASON], ""
    detail = "\n".join([*_own_frames(error, work), *lines])
    return _reason(error, lines)[:_MAX_REASON], detail.replace(f"{work}/", "")[-_MAX_DETAIL:]


def _name_safely(error: BaseException) -> list[str]:
    try:
        lines = traceback.format_exception_only(type(error), error)
        return [line for text in lines for line in text.rstrip().split("\n")]
    except BaseException:  # noqa: BLE001 - the exception's own methods raised
        return [f"{type(error).__name__}: <its text cannot be read>"]


def _reason(error: BaseException, lines: list[str]) -> str:
    if isinstance(error, SyntaxError):
        return f"{lines[-1]} (line {error.lineno})"
    return next((line for line in lines if line.strip()), type(error).__name__)


def _own_frames(error: BaseException, work: str) -> list[str]:
    linecache.checkcache()
    try:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename.startswith(f"{work}/")
        ]
        if len(frames) > _MAX_FRAMES:
            half = _MAX_FRAMES // 2
            frames = frames[:half] + frames[-half:]
        return ["".join(traceback.format_list([frame])).rstrip() for frame in frames]
    except BaseException:  # noqa: BLE001 - a traceback is a help, its absence no failure
        return []
