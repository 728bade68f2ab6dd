"""One program in a sandbox, as the host drives it: calls, deadlines, verdicts."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from evolve.errors import AskError, ProgramError, SandboxError, SandboxKilledError
from evolve.records import Program, Status
from evolve.sandbox.guest import wire
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.link import Link, LinkLostError
from evolve.sandbox.replies import (
    Command,
    OutputFile,
    name_kind_and_line,
    printable,
    printable_end,
    read_finished,
    read_notes,
)

_GRACE_SECONDS = 0.25
# How long a guest may wait for the stack of a program that does not answer.
_NOTES_SECONDS = 0.3
_CONFINE_SECONDS = 20.0
_MAX_REQUEST_BYTES = 1 << 30
_MAX_REASON = 500
_MAX_DETAIL = 8000


@dataclass(frozen=True, slots=True)
class Answer:
    """A value that came back from the sandbox.

    Attributes:
        value: Plain data and NumPy arrays, decoded strictly; of a generator the last one before the
            deadline.
        seconds: Wall time of the call, measured outside.
    """

    value: Any
    seconds: float


class SandboxSession:
    """One program in a warm guest, from its start to its death.

    Args:
        link: The guest.
        program: What to run.
        limits: What it may use.
        built: Files put into the workspace next to the program's own.
        on_close: Called once, at the end, with whether any doubt fell on the guest.

    Attributes:
        printed: What a closed session wrote to standard output and standard error, cut in the
            middle.
    """

    def __init__(
        self,
        link: Link,
        program: Program,
        limits: ProgramLimits,
        built: Sequence[OutputFile],
        on_close: Callable[[bool], None],
    ) -> None:
        self._link = link
        self._program = program
        self._limits = limits
        self._on_close = on_close
        self._stream = bytearray()
        self._is_confined = False
        self._is_loaded = False
        self._is_open = True
        self.printed = b""
        self._spent_at_start = self._spent = self.asked_seconds = 0.0
        self._kills_before = _count_memory_kills()
        self._max_message = limits.reply_mb << 20
        link.send(wire.START, wire.encode(limits))
        # Answers what the program asks; the time that it takes is not the program's.
        self.answer: Callable[[Any], list[str]] | None = None
        files = list(map(list, program.files))
        self._send(wire.NO_NONCE, {"files": files, "built": list(map(list, built))})

    def call(
        self,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Calls a function of the program's entry module and waits for its value.

        The module is imported by the first call; its time counts against that call. State of
        the module lives on between calls of one session. A generator's last value before the
        deadline counts.

        Args:
            function: Name of a function at the top level of the entry module.
            args: Plain data and NumPy arrays.
            kwargs: The same, by name.
            timeout_seconds: Deadline; `ProgramLimits.seconds` when None.

        Raises:
            ProgramError: The program failed: `error`, `timeout`, `memory` or `crashed`. After
                anything but `error` the session is over.
            SandboxError: The backend failed.
        """
        request = {"function": function, "args": list(args), "kwargs": dict(kwargs or {})}
        return self._ask(request, timeout_seconds)

    def call_many(
        self,
        function: str,
        argument_lists: Sequence[Sequence[Any]],
        *,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Calls a function once for each list of arguments, in one round trip.

        The deadline is for all of them together; the value is the list of results.

        Raises:
            ProgramError: As for `call`; the first failure ends the series.
            SandboxError: The backend failed.
        """
        request = {"function": function, **wire.pack_rows(argument_lists)}
        return self._ask({**request, "many": True}, timeout_seconds)

    def run(self, command: Command, *, timeout_seconds: float | None = None) -> Answer:
        """Starts a command in the workspace and waits for its end.

        What it leaves running is killed. Files live on between the commands of one session.

        Args:
            command: What to start, with its input.
            timeout_seconds: Deadline; `ProgramLimits.seconds` when None.

        Returns:
            The value is a `commands.Finished`, whatever the exit code.

        Raises:
            ProgramError: As for `call`; also when the command cannot be started, writes more
                than `ProgramLimits.reply_mb`, or leaves a file out that is asked for.
            SandboxError: The backend failed.
        """
        answer = self._ask(asdict(command), timeout_seconds)
        return replace(answer, value=read_finished(answer.value, command, answer.seconds))

    @property
    def cpu_seconds(self) -> float:
        """Returns the processor time of a closed session, as the kernel counted it.

        It begins where the program's code is first read, and holds all of its processes but
        those that none waited for; 0 when the sandbox broke.
        """
        return max(0.0, self._spent - self._spent_at_start)

    def close(self) -> None:
        """Kills what is left of the program and wipes its files; safe to call twice."""
        if self._is_open:
            self._kill()

    def _ask(self, request: dict[str, Any], timeout: float | None) -> Answer:
        if not self._is_open:
            raise ProgramError(Status.CRASHED, "the program has ended; its session is over")
        seconds = self._limits.seconds if timeout is None else timeout
        nonce = os.urandom(len(wire.NO_NONCE))
        function = request.get("function", "")
        try:
            started = self._await_confined()
            self._send(nonce, {**request, "seconds": seconds})
            return self._await_answer(nonce, started, seconds, function)
        except LinkLostError as error:
            self._fail_lost(error)
        finally:
            self._is_loaded = self._is_loaded or bool(function)

    def _await_answer(self, nonce: bytes, started: float, seconds: float, function: str) -> Answer:
        last: bytes | None = None
        while True:
            has_come = self._receive(started + seconds)
            spent = time.monotonic() - started
            if not has_come:
                return self._time_out(last, spent, seconds, function)
            for kind, body in self._take_messages(nonce):
                if kind == wire.ASK and self.answer is not None:
                    started += self._answer(self.answer, nonce, body)
                elif kind == wire.YIELDED:
                    last = body
                elif kind == wire.LAST_COUNTS and last is not None:
                    return Answer(self._decode(last), spent)
                elif kind == wire.VALUE:
                    return Answer(self._decode(body), spent)
                else:
                    self._fail_reported(kind, body)

    def _answer(self, answer: Callable[[Any], list[str]], nonce: bytes, body: bytes) -> float:
        """Answers a question of the program, and returns the seconds that it took."""
        began, answers, problem = time.monotonic(), [], ""
        try:
            answers = answer(self._decode(body))
        except (TypeError, AskError) as error:
            problem = str(error)
        self._send(nonce, {"answers": answers, "error": problem})
        waited = time.monotonic() - began
        self.asked_seconds += waited
        return waited

    def _await_confined(self) -> float:
        """Waits until the program's process is ready, and returns the time."""
        deadline = time.monotonic() + _CONFINE_SECONDS
        while not self._is_confined:
            if not self._receive(deadline):
                raise LinkLostError("no process was ready for the program")
            self._take_messages(wire.NO_NONCE)
        return time.monotonic()

    def _receive(self, deadline: float) -> bool:
        """Waits for bytes of the program, and returns whether some came by the deadline."""
        while (frame := self._link.receive(deadline)) is not None:
            kind, body = frame
            if kind == wire.EXITED:
                self._fail_exited(body)
            if kind == wire.DATA:
                self._stream += body
                return True
        return False

    def _take_messages(self, nonce: bytes) -> list[tuple[bytes, bytes]]:
        messages = []
        while len(self._stream) >= wire.MESSAGE.size:
            owner, kind, size = wire.MESSAGE.unpack_from(self._stream)
            if size > self._max_message:
                self._fail_garbled(f"it announces {size} bytes")
            end = wire.MESSAGE.size + size
            if len(self._stream) < end:
                break
            body = bytes(memoryview(self._stream)[wire.MESSAGE.size : end])
            del self._stream[:end]
            # What comes before the program is read can only be the guest's own first message.
            if not self._is_confined:
                self._is_confined = True
                self._spent_at_start = wire.decode(body)
            if owner == nonce:
                messages.append((kind, body))
        return messages

    def _decode(self, body: bytes) -> Any:
        try:
            return wire.decode(body)
        except wire.FrameError as error:
            self._fail_garbled(str(error))

    def _time_out(self, last: bytes | None, spent: float, seconds: float, function: str) -> Answer:
        notes = self._kill(is_doubtful=True, wants_notes=last is None)
        if last is not None:
            return Answer(self._decode(last), spent)
        reason = f"no answer within {seconds:g} s"
        # A caller may have set a shorter time.
        limit = "seconds" if seconds >= self._limits.seconds else ""
        if not function:
            raise ProgramError(Status.TIMEOUT, reason, limit=limit)
        found = read_notes(notes, self._program)
        at = f"; it was in {found.place}" if found.place else ""
        plain = f"{reason}{at}"
        if not self._is_loaded:
            load = found.load_seconds
            if load is None or load > spent:
                reason += ": its imports did not end"
            else:
                reason += f": imports took {load:.2f} s, `{function}` {spent - load:.2f} s"
        raise ProgramError(Status.TIMEOUT, reason + at, found.stack, plain=plain, limit=limit)

    def _fail_lost(self, error: LinkLostError) -> NoReturn:
        killer = self._link.find_killer()
        self._finish(is_doubtful=True)
        if not self._is_confined:
            raise SandboxError(f"the sandbox broke before the program began: {error}") from None
        if killer:
            raise SandboxKilledError(killer) from None
        raise ProgramError(Status.CRASHED, f"the sandbox broke: {error}") from None

    def _fail_exited(self, body: bytes) -> NoReturn:
        end = self._read_exit(body)
        if end["status"] == signal.SIGKILL and not end["cause"]:
            # The kernel was quicker than the guest's watchdog, or the program ended itself.
            end["cause"] = "memory" if self._link.ran_out_of_memory() else ""
            if not end["cause"] and self._is_victim(end["peak_bytes"]):
                self._finish(is_doubtful=True)
                raise SandboxKilledError("the machine ran out of memory")
        self._finish(is_doubtful=end["cause"] == "memory")
        if not self._is_confined and not end["cause"]:
            said = printable_end(self.printed, 300)
            raise SandboxError(f"the guest could not confine a program: {said}")
        if end["cause"] == "memory":
            reason = f"more than {self._limits.memory_mb} MB of memory in use"
            raise ProgramError(Status.MEMORY, reason, limit="memory_mb")
        if end["cause"] == "disk":
            reason = (
                f"more than {self._limits.workspace_mb} MB of files in the workspace, or too many"
            )
            raise ProgramError(Status.CRASHED, reason, limit="workspace_mb")
        raise ProgramError(Status.CRASHED, _describe_exit(end["status"]))

    def _is_victim(self, peak_bytes: int) -> bool:
        """Returns whether the kernel took a program for lack of memory that others had used."""
        is_small = peak_bytes < self._limits.memory_mb << 19
        is_held = bool(self._link.greeting.get("namespaces"))
        return is_held and is_small and _count_memory_kills() > self._kills_before

    def _fail_reported(self, kind: bytes, body: bytes) -> NoReturn:
        if kind == wire.OUT_OF_MEMORY:
            self._kill()
            reason = f"out of memory: the limit is {self._limits.memory_mb} MB"
            raise ProgramError(Status.MEMORY, reason, limit="memory_mb")
        said = self._decode(body) if kind == wire.ERROR else None
        if type(said) is not tuple or [type(part) for part in said] != [str, str]:
            self._fail_garbled("it came out of turn")
        reason = " ".join(printable(said[0], _MAX_REASON).split()) or "an error without a name"
        detail = printable(said[1], _MAX_DETAIL)
        plain = name_kind_and_line(said[0], said[1], self._program)
        raise ProgramError(Status.ERROR, reason, detail, plain=plain)

    def _fail_garbled(self, reason: str) -> NoReturn:
        self.close()
        said = "cannot decode the return value"
        raise ProgramError(Status.ERROR, f"{said}: {reason}", plain=said)

    def _kill(self, *, is_doubtful: bool = False, wants_notes: bool = False) -> str:
        """Ends the child, or the whole guest if it does not confirm, and returns its notes."""
        if self._link.is_stuck:
            self._finish(is_doubtful=True)
            return ""
        self._link.send(wire.KILL, b"n" * wants_notes)
        deadline = time.monotonic() + _GRACE_SECONDS + _NOTES_SECONDS * wants_notes
        try:
            while (frame := self._link.receive(deadline)) is not None:
                if frame[0] == wire.EXITED:
                    self._finish(is_doubtful=is_doubtful)
                    notes: str = self._read_exit(frame[1])["notes"]
                    return notes
        except LinkLostError:
            pass
        self._finish(is_doubtful=True)
        return ""

    def _read_exit(self, body: bytes) -> dict[str, Any]:
        end: dict[str, Any] = wire.decode(body)
        self._spent, self.printed = end["spent"], end["printed"]
        return end

    def _finish(self, *, is_doubtful: bool) -> None:
        self._is_open = False
        self._stream.clear()
        self._on_close(is_doubtful)

    def _send(self, nonce: bytes, value: Any) -> None:
        try:
            body = wire.encode(value, _MAX_REQUEST_BYTES, scale=wire.REQUEST_SCALE)
        except wire.FrameError as error:
            raise TypeError(f"arguments of a call: {error}") from None
        self._link.send(wire.DATA, wire.pack_message(nonce, wire.CALL, body))


def _describe_exit(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"the process exited with code {code} before it answered"
    name = name_signal(-code)
    cause = " (files, and shared memory with them, beyond `workspace_mb`?)"
    return f"the process was ended by {name}{cause * (name == 'SIGBUS')} before it answered"


def _count_memory_kills() -> int:
    """Returns how many processes the kernel has killed for lack of memory; 0 where it is silent."""
    with contextlib.suppress(OSError, ValueError):
        _, found, rest = Path("/proc/vmstat").read_text().partition("\noom_kill ")
        return int(rest.split(maxsplit=1)[0]) if found else 0
    return 0


def name_signal(number: int) -> str:
    """Returns the name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
