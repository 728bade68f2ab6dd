"""What is asked of commands, and what programs say: checked, and made fit to be shown."""

from __future__ import annotations

import builtins
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from traceback import FrameSummary, StackSummary
from typing import Any, NamedTuple

from evolve.errors import ProgramError
from evolve.records import Program, Status

_FRAME = re.compile(r'^  File "([^"]+)", line (\d{1,6})\b', re.MULTILINE)
_UNUSUAL = re.compile(r"[^\n\t -~]")
_STACK_FRAME = re.compile(r'^  File "([^"\n]+)", line (\d{1,6}) in (.*)$', re.MULTILINE)
_LOADED = re.compile(r"^loaded (\d{1,6}\.\d{6})$", re.MULTILINE)
_MOST_FRAMES = 12
_FIELDS = {"code": int, "stdout": bytes, "stderr": bytes, "files": list, "cpu": float}
_SYNTAX = re.compile(r"\(line (\d{1,6})\)$")


class OutputFile(NamedTuple):
    """A file that a command left in the workspace."""

    path: str
    data: bytes
    is_executable: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A command to start in the workspace.

    Attributes:
        words: The command and its arguments; no shell reads them.
        stdin: Its standard input.
        files: Files put into the workspace before, by path.
        outputs: Paths of the files that are brought back.
        collects: Whether all files that are new in the workspace are brought back instead.
        is_alone: Whether it may start no other process.
    """

    words: tuple[str, ...]
    stdin: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    collects: bool = False
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left; all but the times is the program's own word.

    Attributes:
        code: Exit code; the negative number of the signal that ended it.
        stdout: What it wrote on standard output, whole.
        stderr: Beginning and end of what it wrote on standard error, without control characters.
        files: Files that were asked for.
        seconds: Wall time, measured outside the sandbox.
        cpu_seconds: Processor time of it and of the processes that it waited for.
    """

    code: int
    stdout: bytes
    stderr: str = ""
    files: tuple[OutputFile, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def file(self, path: str) -> bytes:
        """Returns the content of a file that was asked for."""
        return next(data for name, data, _ in self.files if name == path)

    @property
    def text(self) -> str:
        """Returns standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode(errors="replace")


class Whereabouts(NamedTuple):
    """Where a program was when its time was over; it may have lied.

    Attributes:
        load_seconds: How long its imports took; None where they did not end.
        place: The innermost of its own lines, in words; empty where it is not known.
        stack: Its own innermost frames, as in a traceback.
    """

    load_seconds: float | None
    place: str
    stack: str


def read_notes(notes: str, program: Program) -> Whereabouts:
    """Returns what a program's notes say: when its imports ended, and its last stack.

    Args:
        notes: As `faulthandler` writes a stack, the innermost frame first; anything may be in it.
        program: Its files; only their lines are shown.
    """
    lines = {path: text.splitlines() for path, text in program.files}
    frames = []
    for place, line, name in _STACK_FRAME.findall(notes):
        path = max((path for path in lines if place.endswith(f"/work/{path}")), key=len, default="")
        if 0 < int(line) <= len(lines.get(path, ())):
            text = lines[path][int(line) - 1]
            frames.append(FrameSummary(path, int(line), printable(name, 100), line=text))
    # Repetitions are folded.
    stack = "".join(StackSummary.from_list(frames[::-1]).format()[-_MOST_FRAMES:])
    place = f"line {frames[0].lineno} of {frames[0].filename}" if frames else ""
    loaded = _LOADED.search(notes)
    return Whereabouts(float(loaded[1]) if loaded else None, place, stack)


def printable(text: str, most: int) -> str:
    """Returns the beginning and the end of a text, without control characters.

    Args:
        text: What a program wrote.
        most: Characters that are kept.
    """
    if len(text) > most:
        text = f"{text[: most // 2]}\n[...]\n{text[-most // 2 :]}"
    return _UNUSUAL.sub(
        lambda found: (
            "\N{REPLACEMENT CHARACTER}" if unicodedata.category(found[0])[0] == "C" else found[0]
        ),
        text,
    )


def printable_end(data: bytes, most: int) -> str:
    """Returns the end of what a program printed, without control characters."""
    text = data.decode(errors="replace")
    return printable(f"[...]\n{text[-most:]}" if len(text) > most else text, most + 10)


def name_kind_and_line(reason: str, detail: str, program: Program) -> str:
    """Returns the kind of an exception and its line, in no word of the program's.

    Args:
        reason: What the program says it raised.
        detail: What it says is the traceback.
        program: Its files.
    """
    name = reason.partition(":")[0]
    kind = getattr(builtins, name, None)
    is_known = isinstance(kind, type) and issubclass(kind, BaseException)
    found = name if is_known else "an exception"
    lengths = {path: text.count("\n") + 1 for path, text in program.files}
    frames = [(path, int(line)) for path, line in _FRAME.findall(detail) if path in lengths]
    if not frames and (line := _SYNTAX.search(reason)):
        frames = [(program.entry.path, int(line[1]))]
    if frames and 0 < frames[-1][1] <= lengths[frames[-1][0]]:
        found += f" in line {frames[-1][1]} of {frames[-1][0]}"
    return found


def read_finished(value: Any, command: Command, seconds: float) -> Finished:
    """Checks what a guest says came of a command.

    Args:
        value: The guest's word; a program may have written it.
        command: What was asked.
        seconds: Wall time, measured outside.

    Raises:
        ProgramError: It is malformed, or a file that was asked for is missing.
    """
    fields = value if type(value) is dict else {}
    if {name: type(part) for name, part in fields.items()} != _FIELDS:
        raise ProgramError(Status.ERROR, "cannot decode the result of a command")
    files = tuple(_read_file(part) for part in fields["files"])
    stderr = printable(fields["stderr"].decode(errors="replace"), len(fields["stderr"]))
    if not command.collects and fields["code"] == 0:
        found = {file.path for file in files}
        missing = [path for path in command.outputs if path not in found]
        if missing:
            reason = f"`{command.words[0]}` left no file `{missing[0]}` in the workspace"
            raise ProgramError(Status.ERROR, reason, stderr)
    return Finished(fields["code"], fields["stdout"], stderr, files, seconds, fields["cpu"])


def _read_file(part: Any) -> OutputFile:
    if type(part) is not list or [type(item) for item in part] != [str, bytes, bool]:
        raise ProgramError(Status.ERROR, "cannot decode the files of a command")
    return OutputFile(*part)
