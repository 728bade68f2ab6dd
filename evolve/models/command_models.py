"""Commands as models: one that answers a prompt, and one that works in a folder until it ends.

The first reads the prompt on standard input and prints a reply, so that command-line assistants
can be used with whatever account they are signed in to. The second is a coding agent as the
editor: what it finds in its folder is what the request says, file by file; what the files are at
its end is its draft. A local socket lets it have drafts scored meanwhile. It runs with the network,
and sees the system, its own installation and what the user names: no evaluator, no run, no other
program.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, Self, cast

from evolve.errors import ModelError, ModelUnavailableError, UsageError
from evolve.files import open_plain, write_inside
from evolve.keys import cut_keys
from evolve.models.model import Model, ReplyError, RetryableError, format_prompt
from evolve.problem.folder import MAX_FILE_BYTES
from evolve.records.chat import Message, Reply, Request
from evolve.settings import Settings

PREFIX = "cmd:"
_MOST_PRINTED, _SHOWN_CHARACTERS = 32_000_000, 300
Score = Callable[[Mapping[str, str]], tuple[str, bool]]

_EVALUATE, _SOCKET, _USAGE = "evaluate", ".evaluate.sock", "usage.json"
_MOST_OUTPUT = 20_000
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt")
_SCRIPT = """#!{python} -IS
import socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({path!r})
answer = b"".join(iter(lambda: link.recv(65536), b"")).decode()
print(answer)
sys.exit(0 if answer.startswith("ok") else 1)
"""
# Paths and locales say nothing about whoever runs it.
_PASSED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM")
_EVOLVE = Path(__file__).parents[1]
# What its usage is called here, and by commands.
_SPELLINGS = {
    "cost_usd": ("cost_usd", "total_cost_usd"),
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "completion_tokens": ("completion_tokens", "output_tokens"),
}


def is_address(name: str) -> bool:
    """Returns whether a model's name has an address in it, as some providers take them."""
    return "://" in name and not name.startswith((PREFIX, "scripted"))


class CommandModel(Model):
    """A command that is started anew for every request, in an empty folder of its own.

    No shell reads it. Its usage is not known, so that tokens are estimated from the texts.

    Args:
        command: Program and arguments, quoted as for a shell.

    Raises:
        UsageError: The command is empty, its quotes do not match, or there is no such program.
    """

    def __init__(self, command: str) -> None:
        super().__init__(PREFIX + command)
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"model {self.name!r}: {error}") from error
        if not self._arguments:
            raise UsageError(f"model {self.name!r}: expected a command such as `cmd:tool --flag`")
        if shutil.which(self._arguments[0]) is None:
            raise UsageError(
                f"model {self.name!r}: expected a command on the PATH, found no "
                f"{self._arguments[0]!r}; install it, or give its full path"
            )
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        """Runs the command once.

        Raises:
            RetryableError: It failed, or took too long.
            ModelError: It cannot be started.
            ReplyError: It printed more than a reply can be.
        """
        prompt = format_prompt(request.messages)
        with (
            tempfile.TemporaryDirectory(prefix="evolve-cmd-") as folder,
            tempfile.TemporaryFile() as errors,
        ):
            code, printed = self._run(folder, timeout_seconds, prompt, stderr=errors)
            errors.seek(0)
            message = " ".join(cut_keys(errors.read().decode("utf-8", "replace")).split())
        if code is None:
            raise RetryableError(f"no reply within {timeout_seconds:g} s", may_be_charged=True)
        if code:
            message = message[-_SHOWN_CHARACTERS:] or "no message"
            raise RetryableError(f"ended with code {code}: {message}")
        return Reply(printed.strip(), self.name)

    def close(self) -> None:
        """Ends the commands that run."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for process in running:
            _kill_group(process)

    def _run(
        self,
        folder: str,
        seconds: float,
        prompt: str = "",
        *,
        words: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stderr: int | IO[bytes],
    ) -> tuple[int | None, str]:
        """Returns the exit code, None where time was up, and what was printed.

        Raises:
            ModelError: The command cannot be started.
            ReplyError: It printed too much.
        """
        with tempfile.TemporaryFile() as stdin:
            stdin.write(prompt.encode("utf-8", "replace"))
            stdin.seek(0)
            with self._lock:
                if self._is_closed:
                    raise ModelUnavailableError(f"model {self.name!r}: closed")
                try:
                    process = subprocess.Popen(
                        [*words, *self._arguments], cwd=folder, env=env, stdin=stdin,
                        stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
                    )  # fmt: skip
                except OSError as error:
                    raise ModelError(f"model {self.name!r}: cannot be started: {error}") from error
                self._running.add(process)
        end = time.monotonic() + seconds
        timer = threading.Timer(seconds, _kill_group, (process,))
        timer.start()
        with process:
            try:
                printed = cast("IO[bytes]", process.stdout).read(_MOST_PRINTED + 1)
                if len(printed) > _MOST_PRINTED:
                    raise ReplyError(f"the command printed more than {_MOST_PRINTED} bytes")
                code = process.wait()
            finally:
                timer.cancel()
                _kill_group(process)
                with self._lock:
                    self._running.discard(process)
        return None if time.monotonic() >= end else code, printed.decode("utf-8", "replace")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a slot offers to the command that works for it.

    Attributes:
        collected: Names, or patterns of names, of the files that are the draft.
        score: Returns a verdict on the files of a draft, and whether they were evaluated.
    """

    collected: tuple[str, ...]
    score: Score


_desk: ContextVar[Desk | None] = ContextVar("desk", default=None)


@contextmanager
def offering(desk: Desk) -> Iterator[None]:
    """Offers a desk to the command that is asked in this thread meanwhile."""
    token = _desk.set(desk)
    try:
        yield
    finally:
        _desk.reset(token)


def as_messages(files: Mapping[str, str]) -> tuple[Message, ...]:
    """Returns the files of a workspace as a request has them: the path in the first line."""
    return tuple(Message("user", f"{path}\n{text}") for path, text in files.items())


class WorkspaceModel(CommandModel):
    """A command that is started for a slot; without a desk it answers as any command.

    Args:
        command: Program and arguments, quoted as for a shell.
        settings: Say what it gets and may read, how long it works, and whether it may run where
            nothing confines it.
        folder: The run's, which it must not read.

    Raises:
        UsageError: The command cannot be found, its quotes do not match, or a variable that it
            gets is not set.
    """

    is_patient = True

    def __init__(self, command: str, settings: Settings, folder: Path) -> None:
        super().__init__(command)
        steps = settings.steps
        lacking = [one for one in steps.workspace_variables if one not in os.environ]
        if lacking:
            raise UsageError(
                f"steps.workspace_variables: expected {lacking[0]} to be set, got nothing; "
                f"`export {lacking[0]}=...`"
            )
        # The command is started elsewhere than where it was named.
        self._arguments[0] = str(Path(shutil.which(self._arguments[0]) or "").absolute())
        self._passed = (*_PASSED, *steps.workspace_variables)
        self._shown = [Path(path).expanduser().absolute() for path in steps.workspace_shows]
        self._hidden = (_EVOLVE, folder.resolve())
        self._seconds = settings.models.request_seconds
        self._allow_weak = settings.sandbox.allow_weak
        self._is_confined = True

    def prepare(self) -> Request | None:
        """Proves that the command can be confined.

        Raises:
            ModelError: It cannot, or what is to be shown is not there, or holds too much.
        """
        for path in self._shown:
            if not path.exists():
                raise ModelError(f"steps.workspace_shows: expected a file or folder, got {path}")
            real = path.resolve()
            if Path.home().resolve().is_relative_to(real) or any(
                (one / "problem.toml").exists() for one in (real, *real.parents)
            ):
                raise ModelError(
                    "steps.workspace_shows: expected what a command needs to run, got "
                    f"{path}, which holds more: a home, or a problem with its evaluator"
                )
        refusal = self._find_refusal()
        if refusal and not self._allow_weak:
            raise ModelError(
                f"model {self.name!r}: bubblewrap cannot confine it here: {refusal}; "
                "--allow-weak-sandbox runs it with your rights, so that it can read your files "
                "and the evaluator"
            )
        self._is_confined = not refusal
        return None

    def _find_refusal(self) -> str:
        """Returns why commands cannot be confined here; empty where they can."""
        with tempfile.TemporaryDirectory(prefix="evolve-") as folder:
            words = [*self._confine(Path(folder)), "true"]
            try:
                done = subprocess.run(words, capture_output=True, text=True, check=False)
            except FileNotFoundError:
                return "there is no `bwrap`; install the package `bubblewrap`"
        return done.stderr.strip()[-200:] or "it fails" if done.returncode else ""

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        """Lets the command work until it ends, or its time is over.

        Raises:
            ModelError: It cannot be started.
            EvolveError: A draft could not be scored, for no fault of its own.
        """
        desk = _desk.get()
        if desk is None:
            return super().complete(request, timeout_seconds)
        # A socket's path must be short.
        with tempfile.TemporaryDirectory(prefix="evolve-ws-", dir="/tmp") as name:
            folder = Path(name, "work")
            folder.mkdir()
            for message in request.messages:
                path, _, text = message.text.partition("\n")
                write_inside(folder, path, text)
            with _Desktop(folder, desk) as desktop:
                code, output = self._work(folder)
            if desktop.failure is not None:
                raise desktop.failure
            declared = _read_declared(folder, output)
            work = {
                "drafts": desktop.drafts + desktop.take_last(),
                "change": _read_text(folder / "CHANGE.md") or "",
                "ended": "time" if code is None else code,
                "output": cut_keys(output)[-_MOST_OUTPUT:],
            }
        return Reply(json.dumps(work), self.name, **declared)

    def _work(self, folder: Path) -> tuple[int | None, str]:
        """Returns the exit code, None where time was up, and what was printed."""
        home = folder.parent / "home"
        home.mkdir()
        environment = {name: os.environ[name] for name in self._passed if name in os.environ}
        environment |= {"HOME": str(home), "TMPDIR": "/tmp"}  # noqa: S108
        words = self._confine(folder) if self._is_confined else []
        return self._run(
            str(folder), self._seconds, words=words, env=environment, stderr=subprocess.STDOUT
        )

    def _confine(self, folder: Path) -> list[str]:
        """Returns the words that run a command with its workspace and little else in sight."""
        program = Path(self._arguments[0])
        trees = [Path(path) for path in _SYSTEM]
        trees += [Path(sys.base_prefix), *_find_installation(program), *self._shown]
        words = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
        words += ["--new-session", "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
        words += ["--unshare-user"] if os.getuid() else []
        words += ["--tmpfs", "/tmp"]  # noqa: S108
        for tree in dict.fromkeys(trees):
            if tree.is_symlink() and str(tree) in _SYSTEM:
                words += ["--symlink", str(tree.readlink()), str(tree)]
            elif tree.exists():
                words += ["--ro-bind", str(tree), str(tree)]
        for path in self._hidden:
            if path.exists() and any(path.is_relative_to(tree) for tree in trees):
                words += ["--tmpfs", str(path)]
        for own in (folder, folder.parent / "home"):
            if own.exists():
                words += ["--bind", str(own), str(own)]
        return [*words, "--chdir", str(folder), "--"]


def _find_installation(program: Path) -> list[Path]:
    """Returns what a command needs: itself, and all of the virtual environment that it is of."""
    found = [program, program.resolve()]
    prefix = program.parent.parent
    config = prefix / "pyvenv.cfg"
    if config.is_file():
        home = re.search(r"^home\s*=\s*(.+)$", config.read_text(), re.MULTILINE)
        found += [prefix, *([Path(home[1].strip()).parent] if home else [])]
    return found


class _Desktop:
    """A workspace while a command works in it: answers its requests to score what is there.

    Args:
        folder: The workspace.
        desk: What the slot offers.

    Attributes:
        drafts: The files of each draft that was scored.
        failure: Why no draft can be scored any more; None while they can.
    """

    def __init__(self, folder: Path, desk: Desk) -> None:
        self.failure: Exception | None = None
        self._folder, self._desk = folder, desk
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.drafts: list[dict[str, str]] = []
        self._verdicts: list[str] = []

    def __enter__(self) -> Self:
        path = self._folder / _SOCKET
        self._listener.bind(str(path))
        self._listener.listen()
        script = self._folder / _EVALUATE
        python = Path(sys.base_prefix, "bin", "python3")
        script.write_text(_SCRIPT.format(python=python, path=str(path)))
        script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread that waits for the next request.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def take_last(self) -> list[dict[str, str]]:
        """Returns what the files are now, unless that was scored already."""
        now = self._read()
        return [] if now in self.drafts else [now]

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link, contextlib.suppress(OSError):
                link.sendall(self._answer().encode())

    def _answer(self) -> str:
        if self.failure is None:
            try:
                return self._score(self._read())
            # Anything: the thread of the slot raises it.
            except Exception as error:  # noqa: BLE001
                self.failure = error
        return "failed: nothing can be evaluated any more; end here"

    def _score(self, draft: dict[str, str]) -> str:
        if draft in self.drafts:
            return self._verdicts[self.drafts.index(draft)]
        text, is_scored = self._desk.score(draft)
        if is_scored:
            self.drafts.append(draft)
            self._verdicts.append(text)
        return text

    def _read(self) -> dict[str, str]:
        """Returns the texts of the files that are the draft; links are not followed."""
        found = {}
        for where, folders, names in os.walk(self._folder):
            folders[:] = [name for name in sorted(folders) if not name.startswith(".")]
            for path in (Path(where, name) for name in sorted(names)):
                relative = path.relative_to(self._folder).as_posix()
                is_collected = any(fnmatchcase(relative, one) for one in self._desk.collected)
                if is_collected and (text := _read_text(path)) is not None:
                    found[relative] = text
        return found


def _read_text(path: Path) -> str | None:
    """Returns the text of a regular file, of a large one just more than is allowed; else None."""
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
            return data.decode(errors="strict" if len(data) <= MAX_FILE_BYTES else "replace")
    except (OSError, UnicodeDecodeError):
        return None


def _read_declared(folder: Path, output: str) -> dict[str, Any]:
    """Returns the usage that a command declares: in `usage.json`, or in JSON that it prints."""
    texts = [_read_text(folder / _USAGE) or "", *reversed(output.splitlines()[-50:])]
    for text in texts:
        with contextlib.suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict) and (usage := _read_usage(found)):
                return usage
    return {}


def _read_usage(found: Mapping[str, Any]) -> dict[str, Any]:
    tokens = found.get("usage")
    found = {**(tokens if isinstance(tokens, dict) else {}), **found}
    usage: dict[str, Any] = {}
    for name, spellings in _SPELLINGS.items():
        values: Iterator[Any] = (found.get(spelling) for spelling in spellings)
        for value in values:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and 0 <= value < 1e9:
                usage.setdefault(name, value if name == "cost_usd" else int(value))
    return usage if "cost_usd" in usage or "completion_tokens" in usage else {}
