"""Models that ask no provider: people, and a script.

People find prompts as files, and their replies are waited for. A script's reply is a pure function
of the request, for tests and dry runs: it gives texts or a function for a role, and the text is
chosen by a hash of the whole request, its seed included, so that any number of workers gets the
same replies. A role without a script gets a built-in one: a plan or a summary as JSON, or an edit
that multiplies a number of the program shown in the first fenced block of the first user message,
or, where that has none, adds an instruction to it. Asked by a program or an evaluator, it does
sums: the more the prompt helps, the longer ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evolve.errors import ModelError, ModelUnavailableError, UsageError
from evolve.files import open_plain, write_inside
from evolve.models.budget import FREE, PICTURE_TOKENS, Price
from evolve.models.model import Model, ReplyError, format_prompt
from evolve.records.attempts import read_picture
from evolve.records.chat import Reply, Request
from evolve.settings.sections import ROLES
from evolve.source.parsing import find_blocks

MANUAL = "manual"
Script = Mapping[str, Callable[[Request], str] | Sequence[str]]

_ROLES = (*ROLES, "program", "evaluator")
_SECONDS = re.compile(r"\b\d+(?:\.\d+)?(?:e-?\d+)? s\b")

_FACTORS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.2, 1.4, 2.0)
FENCE = re.compile(r"^(`{3,})[^\n`]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_PROGRAM = "\n## Program "
_NAMED_FENCE = re.compile(r"^(`{3,})\w+\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
# Of an entry in JSON.
_KEY = re.compile(r"\s*\"[^\"]*\"\s*:")
_SUM = re.compile(r"-?\d+(?: [-+] \d+)+")
_CODE = re.compile(r"^\s*(?:def|class|import|from|return)\b|[{};]\s*$")
_HINTS = ("step by step", "check the result", "left to right")
"""Parts of prompts that let the built-in answers be right for longer sums."""
# Share of right answers to a sum with one operation too many; its logarithm grows as their square.
_RIGHT = 0.97
_BARE = "number alone"
"""The part of a prompt that lets them be a number and nothing else."""
_INSTRUCTIONS = (
    "Think step by step.",
    "Check the result before you answer.",
    "Work from left to right.",
    "Answer with the number alone.",
    "You are an expert.",
    "Be brief.",
)
_NUMBER = re.compile(r"(?<![\w.])(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?(?![\w.])")


class ManualModel(Model):
    """Writes `NAME.prompt.md` and waits for `NAME.reply.md` beside it, as long as it takes.

    The name follows from what is asked, so that a run that is resumed waits for the same file,
    and takes a reply that was written meanwhile.

    Args:
        folder: Where the files are; made when the first prompt is written.
        tell: Called with the file that is waited for, from any thread.
        poll_seconds: How often to look; a reply counts when it stayed the same for so long.
    """

    is_patient = True

    def __init__(
        self, folder: Path, *, tell: Callable[[str], None], poll_seconds: float = 0.5
    ) -> None:
        super().__init__(MANUAL)
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
        name = f"{request.role}-{request.hash[:12]}"
        answer = self._folder / f"{name}.reply.md"
        try:
            self._write_prompt(self._folder / f"{name}.prompt.md", request)
            text = self._wait_for(answer)
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"model {MANUAL!r}: {answer}: {error}") from error
        return Reply(text, MANUAL)

    def find_price(self) -> Price | None:
        """Costs nothing."""
        return FREE

    def close(self) -> None:
        """Ends all waiting."""
        self._closed.set()

    def _write_prompt(self, path: Path, request: Request) -> None:
        if path.exists():
            return
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        name = f"{path.parent.name}/{path.name}"
        pictures = [one for message in request.messages for one in message.pictures]
        for number, picture in enumerate(map(read_picture, pictures), start=1):
            if picture is not None:
                file = f"{path.parent.name}/{path.stem}-picture-{number}.{picture.kind}"
                write_inside(path.parent.parent, file, picture.data)
        write_inside(path.parent.parent, name, format_prompt(request.messages))

    def _wait_for(self, path: Path) -> str:
        """Returns the text of a file, once there is one that does not change any more."""
        before, has_said = "", False
        while True:
            text = _read_file(path) if path.exists() else ""
            if text.strip() and text == before:
                return text
            if not text and not has_said:
                self._tell(f"reply wanted: {path}, to the prompt beside it")
                has_said = True
            before = text
            if self._closed.wait(self._poll_seconds):
                raise ModelUnavailableError(f"model {MANUAL!r}: closed")


def _read_file(path: Path) -> str:
    # In a run folder of somebody else's a link could bring any file into a prompt.
    with os.fdopen(open_plain(path, os.O_RDONLY), encoding="utf-8") as stream:
        return stream.read()


class ScriptedModel(Model):
    """A deterministic model.

    Args:
        script: Texts, or a function of the request, by role.
        name: Name in ledgers and reports.
        latency_seconds: How long every call takes.
    """

    def __init__(
        self, script: Script | None = None, *, name: str = "scripted", latency_seconds: float = 0.0
    ) -> None:
        super().__init__(name)
        self.latency_seconds = latency_seconds
        self._script = dict(script or {})

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        """Answers from the script.

        Raises:
            ReplyError: The built-in editor found no number to change.
        """
        if self.latency_seconds:
            time.sleep(min(self.latency_seconds, timeout_seconds))
        text = self._choose_text(request)
        return Reply(
            text=text,
            model=self.name,
            prompt_tokens=sum(len(message.text) for message in request.messages) // 4
            + sum(PICTURE_TOKENS * len(message.pictures) for message in request.messages),
            completion_tokens=len(text) // 4,
        )

    def find_price(self) -> Price | None:
        """Costs nothing."""
        return FREE

    def _choose_text(self, request: Request) -> str:
        replies = self._script.get(request.role) or _DEFAULTS.get(request.role, make_plan_text)
        if callable(replies):
            return replies(request)
        return replies[hash_request(request) % len(replies)]


def load_script(path: Path) -> ScriptedModel:
    """Reads a script from JSON: lists of texts by role, and optionally `latency_seconds`.

    Raises:
        UsageError: The file cannot be read, or is not such an object.
    """
    try:
        script = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"model script {str(path)!r}: {error}; give a JSON file") from error
    if not isinstance(script, dict):
        raise UsageError(f"model script {str(path)!r}: expected an object of lists by role")
    latency_seconds = script.pop("latency_seconds", 0.0)
    for role, texts in script.items():
        if role not in _ROLES:
            raise UsageError(
                f"model script {str(path)!r}: unknown role {role!r}; use {', '.join(_ROLES)}"
            )
        if not (texts and isinstance(texts, list) and all(isinstance(one, str) for one in texts)):
            raise UsageError(
                f"model script {str(path)!r}: expected a list of texts for {role!r},"
                f" got {str(texts)[:200]!r}"
            )
    return ScriptedModel(script, name=f"scripted:{path.name}", latency_seconds=latency_seconds)


def hash_request(request: Request) -> int:
    """Returns a 64-bit number that depends on everything in the request but measured seconds.

    Prompts show how long programs took, and no two runs measure the same.
    """
    parts = [
        request.role,
        [[message.role, _SECONDS.sub("", message.text)] for message in request.messages],
        request.max_tokens,
        request.temperature,
        request.seed,
    ]
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def make_plan_text(request: Request) -> str:
    """Returns a plan as JSON."""
    digest = hash_request(request)
    return json.dumps(
        {
            "hypothesis": "one of the program's numbers is not at its best value",
            "change": f"scale one number (choice {digest % 1000})",
            "risk": "the number may already be at its best value",
            "tags": ["constants"],
        }
    )


def make_summary_text(request: Request) -> str:
    """Returns a summary as JSON."""
    return json.dumps(
        {
            "verdict": "a number was scaled",
            "cause": "idea",
            "lesson": f"scaling numbers moves the objective (case {hash_request(request) % 97})",
            "tags": ["constants"],
        }
    )


def make_edit_text(request: Request) -> str:
    """Returns an edit that multiplies one number of the program in the prompt.

    Raises:
        ReplyError: The prompt shows no program, or the program has no number.
    """
    digest = hash_request(request)
    lines, start, stop = _find_program(request)
    places = [
        (index, found.span())
        for index in range(start, stop)
        for found in _NUMBER.finditer(_code_of(lines[index]))
    ]
    if not places:
        return _add_instruction(lines, start, stop, digest)
    index, (left, right) = places[digest % len(places)]
    factor = _FACTORS[digest // len(places) % len(_FACTORS)]
    line = lines[index]
    changed = line[:left] + _scale(line[left:right], factor) + line[right:]
    first, last = _widen_until_unique(lines, index, start, stop)
    replacement = [*lines[first:index], changed, *lines[index + 1 : last]]
    return _write_edit(f"Scale a number by {factor}.", lines[first:last], replacement)


def _add_instruction(lines: list[str], start: int, stop: int, digest: int) -> str:
    """Returns an edit that adds a line to a text without numbers.

    Raises:
        ReplyError: The text is code, or empty.
    """
    last = next((i for i in reversed(range(start, stop)) if lines[i].strip()), None)
    if last is None or any(_CODE.search(line) for line in lines[start:stop]):
        raise ReplyError("scripted model: the program in the prompt has no number to change")
    missing = [one for one in _INSTRUCTIONS if one not in lines] or _INSTRUCTIONS
    first, end = _widen_until_unique(lines, last, start, stop)
    added = [*lines[first : last + 1], missing[digest % len(missing)], *lines[last + 1 : end]]
    return _write_edit("Add an instruction.", lines[first:end], added)


def _write_edit(what: str, search: Sequence[str], replacement: Sequence[str]) -> str:
    edit = ["<<<<<<< SEARCH", *search, "=======", *replacement, ">>>>>>> REPLACE", ""]
    return "\n".join([what, "", *edit])


def make_answer_text(request: Request) -> str:
    """Returns the result of the last sum in the prompt, the more likely wrong the longer it is.

    One operation is always right, and two more with each instruction of `_HINTS` in the prompt.
    """
    text = "\n".join(message.text for message in request.messages)
    sums = list(_SUM.finditer(text))
    if not sums:
        return "I cannot tell."
    terms = sums[-1][0].replace(" ", "").replace("-", "+-").split("+")
    value = sum(int(term) for term in terms if term)
    words = text.lower()
    excess = len(terms) - 2 - 2 * sum(hint in words for hint in _HINTS)
    # Of the sum alone, so that a better prompt is better for each sum.
    digest = int.from_bytes(hashlib.sha256(sums[-1][0].encode()).digest()[:8], "big")
    if digest % 1000 >= 1000 * _RIGHT ** (max(excess, 0) ** 2):
        value += 1 + digest % 9
    return str(value) if _BARE in words else f"The answer is {value}, I think."


_DEFAULTS: Mapping[str, Callable[[Request], str]] = {
    "planner": make_plan_text,
    "leap": make_plan_text,
    "editor": make_edit_text,
    "summarizer": make_summary_text,
    "program": make_answer_text,
    "evaluator": make_answer_text,
}


def _find_program(request: Request) -> tuple[list[str], int, int]:
    """Returns the lines of the program in the prompt and the range of its first block."""
    user = next((message.text for message in request.messages if message.role == "user"), "")
    # Of the programs that a prompt shows the first; what made it stands above, in a fence too.
    start = max(user.find(_PROGRAM), 0)
    fence = _NAMED_FENCE.search(user, start) or FENCE.search(user, start)
    if fence is None:
        raise ReplyError("scripted model: the first user message has no fenced program")
    text = fence.group(2)
    block = find_blocks(text)[0]
    start = text.count("\n", 0, block.start)
    return text.splitlines(), start, start + len(text[block.start : block.end].splitlines())


def _code_of(line: str) -> str:
    """Cuts what is a comment or may be text off a line, so that only code is changed."""
    key = _KEY.match(line)
    start = key.end() if key else 0
    return " " * start + re.split(r"[\"'#]|//", line[start:], maxsplit=1)[0]


def _scale(number: str, factor: float) -> str:
    if number.isdigit():
        scaled = round(int(number) * factor)
        return str(scaled if scaled != int(number) else max(0, scaled + (1 if factor > 1 else -1)))
    return repr(float(f"{float(number) * factor:.6g}"))


def _widen_until_unique(lines: list[str], index: int, start: int, stop: int) -> tuple[int, int]:
    first, last = index, index + 1
    while first > start or last < stop:
        part, size = lines[first:last], last - first
        if sum(lines[at : at + size] == part for at in range(len(lines) - size + 1)) == 1:
            break
        first, last = max(start, first - 1), min(stop, last + 1)
    return first, last
