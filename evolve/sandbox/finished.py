"""Commands on the wire: what is asked of the guest, and a strict look at what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evolve.errors import ProgramError
from evolve.records import Status
from evolve.sandbox.shown import printable
from evolve.scoring.commands import Finished, OutputFile

if TYPE_CHECKING:
    from evolve.sandbox.protocol import Limits
    from evolve.scoring.commands import Command

_FIELDS = {"code": int, "stdout": bytes, "stderr": bytes, "files": list, "cpu": float}


def request_of(command: Command, limits: Limits) -> dict[str, Any]:
    """Returns a command as plain data for the guest."""
    return {
        "command": list(command.words),
        "stdin": command.stdin,
        "files": [[path, data] for path, data in command.files.items()],
        "outputs": list(command.outputs),
        "collects": command.collects,
        "is_alone": command.is_alone,
        "reply_bytes": limits.reply_mb << 20,
        "output_bytes": limits.output_kb << 10,
    }


def read_finished(value: Any, command: Command, seconds: float) -> Finished:
    """Checks what a guest says came of a command.

    Args:
        value: The guest's word; a program may have written it.
        command: What was asked.
        seconds: Wall time, measured outside.

    Raises:
        ProgramError: It is malformed, or a file that was asked for is missing.
    """
    told = value if type(value) is dict else {}
    if {name: type(part) for name, part in told.items()} != _FIELDS:
        raise ProgramError(Status.ERROR, "what the program sent back is no end of a command")
    files = tuple(_read_file(part) for part in told["files"])
    stderr = printable(told["stderr"].decode(errors="replace"), len(told["stderr"]))
    if not command.collects and told["code"] == 0:
        found = {file.path for file in files}
        missing = [path for path in command.outputs if path not in found]
        if missing:
            reason = f"`{command.words[0]}` left no file `{missing[0]}` in the workspace"
            raise ProgramError(Status.ERROR, reason, stderr)
    return Finished(told["code"], told["stdout"], stderr, files, seconds, told["cpu"])


def _read_file(part: Any) -> OutputFile:
    if type(part) is not list or [type(item) for item in part] != [str, bytes, bool]:
        raise ProgramError(Status.ERROR, "what the program sent back is no list of files")
    return OutputFile(*part)
