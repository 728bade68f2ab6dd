"""One program in a warm guest, as the host drives it: calls, deadlines, verdicts."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from evolve.errors import ProgramError, SandboxError, SandboxKilledError
from evolve.records import Status
from evolve.sandbox.finished import read_finished, request_of
from evolve.sandbox.guest import codec
from evolve.sandbox.guest.wire import (
    CALL,
    CLOCK,
    DATA,
    ERROR,
    EXITED,
    HEADER,
    KILL,
    LAST_COUNTS,
    MESSAGE,
    NO_NONCE,
    OUT_OF_MEMORY,
    SECONDS,
    START,
    VALUE,
    YIELDED,
    pack_rows,
)
from evolve.sandbox.link import LinkLostError
from evolve.sandbox.process import count_memory_kills
from evolve.sandbox.protocol import Answer
from evolve.sandbox.shown import name_kind_and_line, printable, printable_end, read_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evolve.records import Program
    from evolve.sandbox.link import Link
    from evolve.sandbox.protocol import Limits
    from evolve.scoring.commands import Command, OutputFile

_GRACE_SECONDS = 0.25
# How long a guest may wait for the stack of a program that does not answer.
_NOTES_SECONDS = 0.3
_CONFINE_SECONDS = 20.0
_MAX_REQUEST_BYTES = 1 << 30
_MAX_REASON = 500
_MAX_DETAIL = 8000


class WarmSession:
    """A session in a guest that is already warm.

    Args:
        link: The guest.
        program: What to run.
        limits: What it may use.
        built: Files put into the workspace beside the program's own.
        on_close: Told once, at the end, whether any doubt fell on the guest.
    """

    def __init__(
        self,
        link: Link,
        program: Program,
        limits: Limits,
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
        self._spent_at_start = self._spent = 0.0
        self._kills_before = count_memory_kills()
        self._max_message = limits.reply_mb << 20
        settings = {
            "memory_mb": limits.memory_mb,
            "processes": limits.processes,
            "workspace_mb": limits.workspace_mb,
            "reply_bytes": limits.reply_mb << 20,
            "output_bytes": limits.output_kb << 10,
            "core": limits.core,
            "is_alone": limits.is_alone,
        }
        link.send(START, json.dumps(settings).encode())
        files = [[file.path, file.text] for file in program.files]
        self._send(NO_NONCE, {"files": files, "built": [list(file) for file in built]})

    def call(
        self,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
        is_timed: bool = False,
    ) -> Answer:
        """Calls a function; see `protocol.Session`."""
        request = {"function": function, "args": list(args), "kwargs": dict(kwargs or {})}
        return self._call({**request, "is_timed": is_timed}, timeout_seconds)

    def call_many(
        self,
        function: str,
        argument_lists: Sequence[Sequence[Any]],
        *,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Calls a function for each list of arguments; see `protocol.Session`."""
        request = {"function": function, **pack_rows(argument_lists)}
        return self._call({**request, "many": True}, timeout_seconds)

    def run(self, command: Command, *, timeout_seconds: float | None = None) -> Answer:
        """Starts a command and waits for its end; see `protocol.Session`."""
        request = request_of(command, self._limits)
        answer = self._ask(request, timeout_seconds)
        return replace(answer, value=read_finished(answer.value, command, answer.seconds))

    @property
    def cpu_seconds(self) -> float:
        """Returns the processor time of a closed session; see `protocol.Session`."""
        return max(0.0, self._spent - self._spent_at_start)

    def close(self) -> None:
        """Kills what is left of the program and wipes its files; safe to call twice."""
        if self._is_open:
            self._kill()

    def _call(self, request: dict[str, Any], timeout: float | None) -> Answer:
        try:
            return self._ask(request, timeout)
        finally:
            self._is_loaded = True

    def _ask(self, request: dict[str, Any], timeout: float | None) -> Answer:
        if not self._is_open:
            raise ProgramError(Status.CRASHED, "the program has ended; its session is over")
        seconds = self._limits.seconds if timeout is None else timeout
        nonce = os.urandom(len(NO_NONCE))
        try:
            started = self._await_confined()
            self._send(nonce, {**request, "seconds": seconds})
            return self._await_answer(nonce, started, seconds, request.get("function", ""))
        except LinkLostError as error:
            self._fail_lost(error)

    def _await_answer(self, nonce: bytes, started: float, seconds: float, function: str) -> Answer:
        last: bytes | None = None
        inside: float | None = None
        while True:
            frame = self._link.receive(started + seconds)
            spent = time.monotonic() - started
            if frame is None:
                return self._time_out(last, spent, seconds, function)
            if frame[0] == EXITED:
                self._fail_exited(frame[1])
            if frame[0] != DATA:
                continue
            self._stream += frame[1]
            for kind, body in self._take_messages(nonce):
                if kind == YIELDED:
                    last = body
                elif kind == CLOCK and len(body) == SECONDS.size:
                    inside = SECONDS.unpack(body)[0]
                elif kind == LAST_COUNTS and last is not None:
                    return Answer(self._decode(last), spent)
                elif kind == VALUE:
                    return Answer(self._decode(body), spent, inside_seconds=inside)
                else:
                    self._fail_reported(kind, body)

    def _await_confined(self) -> float:
        """Waits until the program's process is ready for it, and gives the time."""
        deadline = time.monotonic() + _CONFINE_SECONDS
        while not self._is_confined:
            frame = self._link.receive(deadline)
            if frame is None:
                raise LinkLostError("no process was ready for the program")
            if frame[0] == EXITED:
                self._fail_exited(frame[1])
            if frame[0] == DATA:
                self._stream += frame[1]
                self._take_messages(NO_NONCE)
        return time.monotonic()

    def _take_messages(self, nonce: bytes) -> list[tuple[bytes, bytes]]:
        messages = []
        while len(self._stream) >= MESSAGE.size:
            owner, kind, size = MESSAGE.unpack_from(self._stream)
            if size > self._max_message:
                self._fail_garbled(f"it announces {size} bytes")
            end = MESSAGE.size + size
            if len(self._stream) < end:
                break
            body = bytes(memoryview(self._stream)[MESSAGE.size : end])
            del self._stream[:end]
            # What comes before the program is read can only be the guest's own first message.
            if not self._is_confined:
                self._is_confined = True
                self._spent_at_start = SECONDS.unpack(body)[0]
            if owner == nonce:
                messages.append((kind, body))
        return messages

    def _decode(self, body: bytes) -> Any:
        try:
            return codec.decode(body)
        except codec.FrameError as error:
            self._fail_garbled(str(error))

    def _time_out(self, last: bytes | None, spent: float, seconds: float, function: str) -> Answer:
        notes = self._kill(is_doubtful=True, wants_notes=last is None)
        if last is not None:
            return Answer(self._decode(last), spent, complete=False)
        reason = f"no answer within {seconds:g} s"
        if not function:
            raise ProgramError(Status.TIMEOUT, reason)
        found = read_notes(notes, self._program)
        at = f"; it was in {found.place}" if found.place else ""
        plain = f"{reason}{at}"
        if not self._is_loaded:
            load = found.load_seconds
            if load is None or load > spent:
                reason += ": its imports did not end"
            else:
                reason += f": imports took {load:.2f} s, `{function}` {spent - load:.2f} s"
        raise ProgramError(Status.TIMEOUT, reason + at, found.stack, plain=plain)

    def _fail_lost(self, error: LinkLostError) -> NoReturn:
        killer = self._link.find_killer()
        self._finish(is_doubtful=True)
        if not self._is_confined:
            raise SandboxError(f"the sandbox broke before the program began: {error}") from None
        if killer:
            raise SandboxKilledError(killer) from None
        raise ProgramError(Status.CRASHED, f"the sandbox broke: {error}") from None

    def _fail_exited(self, body: bytes) -> NoReturn:
        told = self._read_exit(body)
        if told["status"] == signal.SIGKILL and not told["cause"]:
            # The kernel was quicker than the guest's watchdog, or the program ended itself.
            told["cause"] = "memory" if self._link.ran_out_of_memory() else ""
            if not told["cause"] and self._is_victim(told["peak_bytes"]):
                self._finish(is_doubtful=True)
                raise SandboxKilledError("the machine ran out of memory")
        self._finish(is_doubtful=told["cause"] == "memory")
        if not self._is_confined and not told["cause"]:
            said = printable_end(self.printed, 300)
            raise SandboxError(f"the guest could not confine a program: {said}")
        if told["cause"] == "memory":
            reason = f"more than {self._limits.memory_mb} MB of memory in use"
            raise ProgramError(Status.MEMORY, reason)
        if told["cause"] == "disk":
            reason = (
                f"more than {self._limits.workspace_mb} MB of files in the workspace, or too many"
            )
            raise ProgramError(Status.CRASHED, reason)
        raise ProgramError(Status.CRASHED, _describe_exit(told["status"]))

    def _is_victim(self, peak_bytes: int) -> bool:
        """Returns whether the kernel took a program for lack of memory that others had used."""
        is_small = peak_bytes < self._limits.memory_mb << 19
        is_held = bool(self._link.told.get("namespaces"))
        return is_held and is_small and count_memory_kills() > self._kills_before

    def _fail_reported(self, kind: bytes, body: bytes) -> NoReturn:
        if kind == OUT_OF_MEMORY:
            self._kill()
            raise ProgramError(
                Status.MEMORY, f"out of memory: the limit is {self._limits.memory_mb} MB"
            )
        told = self._decode(body) if kind == ERROR else None
        if type(told) is not tuple or [type(part) for part in told] != [str, str]:
            self._fail_garbled("it came out of turn")
        reason = " ".join(printable(told[0], _MAX_REASON).split()) or "an error without a name"
        detail = printable(told[1], _MAX_DETAIL)
        plain = name_kind_and_line(told[0], told[1], self._program)
        raise ProgramError(Status.ERROR, reason, detail, plain=plain)

    def _fail_garbled(self, reason: str) -> NoReturn:
        self.close()
        said = "what the program sent back is no value"
        raise ProgramError(Status.ERROR, f"{said}: {reason}", plain=said)

    def _kill(self, *, is_doubtful: bool = False, wants_notes: bool = False) -> str:
        """Ends the child, or the whole guest if it does not confirm, and returns its notes."""
        if self._link.is_stuck:
            self._finish(is_doubtful=True)
            return ""
        self._link.send(KILL, b"n" * wants_notes)
        deadline = time.monotonic() + _GRACE_SECONDS + _NOTES_SECONDS * wants_notes
        try:
            while (frame := self._link.receive(deadline)) is not None:
                if frame[0] == EXITED:
                    self._finish(is_doubtful=is_doubtful)
                    notes: str = self._read_exit(frame[1])["notes"]
                    return notes
        except LinkLostError:
            pass
        self._finish(is_doubtful=True)
        return ""

    def _read_exit(self, body: bytes) -> dict[str, Any]:
        _, size = HEADER.unpack_from(body)
        told: dict[str, Any] = json.loads(body[HEADER.size : HEADER.size + size])
        self._spent, self.printed = told["spent"], body[HEADER.size + size :]
        return told

    def _finish(self, *, is_doubtful: bool) -> None:
        self._is_open = False
        self._stream.clear()
        self._on_close(is_doubtful)

    def _send(self, nonce: bytes, value: Any) -> None:
        try:
            body = codec.encode(value, _MAX_REQUEST_BYTES, scale=codec.REQUEST_SCALE)
        except codec.FrameError as error:
            raise TypeError(f"arguments of a call: {error}") from None
        self._link.send(DATA, MESSAGE.pack(nonce, CALL, len(body)) + body)


def _describe_exit(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"the process exited with code {code} before it answered"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    cause = " (files, and shared memory with them, beyond `workspace_mb`?)"
    return f"the process was ended by {name}{cause * (name == 'SIGBUS')} before it answered"
