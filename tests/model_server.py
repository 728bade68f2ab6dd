"""A real HTTP server on loopback that speaks the protocols of language models, well or badly.

It takes OpenAI's chat protocol, and those of Anthropic, Gemini and Ollama by their paths, at once
or as a stream. In tests it is a context manager; alone, `python tests/model_server.py --port 0
--delay 0.2` prints its address and answers like the scripted model until it is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from evolve.models.model import ReplyError
from evolve.models.offline_models import ScriptedModel
from evolve.records.chat import Message, Request

try:
    from tests import provider_protocols as protocols
except ImportError:  # alone, as a script
    import provider_protocols as protocols


@dataclass(frozen=True)
class Answer:
    """One reply of the server and how it misbehaves.

    `body` replaces the whole JSON text; `cut_after` closes the connection after so many bytes of
    the body; `drip_seconds` is waited before each of its bytes; `status` other than 200 sends an
    OpenAI error with `text` as its message. `thinking` comes apart from the text, as
    `reasoning_content`; a stream comes in `pieces`, with `gap_seconds` between them.
    """

    text: str | None = "hello"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    finish_reason: str | None = "stop"
    prompt_tokens: int = 11
    completion_tokens: int = 7
    has_usage: bool = True
    has_choices: bool = True
    error_code: str | None = None
    body: bytes | None = None
    cut_after: int | None = None
    drip_seconds: float = 0.0
    thinking: str = ""
    thinking_tokens: int = 0
    pieces: int = 1
    gap_seconds: float = 0.0
    parts: list[dict[str, Any]] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is a well-formed answer, which may be streamed."""
        return self.status == 200 and self.body is None

    def encode(self, model: str) -> bytes:
        if self.body is not None:
            return self.body
        if self.status != 200:
            error = {"message": self.text, "type": "error", "param": None, "code": self.error_code}
            return json.dumps({"error": error}).encode()
        message = {"role": "assistant", "content": self.parts or self.text}
        if self.thinking:
            message["reasoning_content"] = self.thinking
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        reply: dict[str, Any] = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice] if self.has_choices else [],
        }
        if self.has_usage:
            reply["usage"] = self.usage
        return json.dumps(reply).encode()

    @property
    def usage(self) -> dict[str, Any]:
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        if self.thinking_tokens:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.thinking_tokens}
        return usage


Script = Sequence[Answer] | Callable[[Mapping[str, Any]], Answer]


class ModelServer:
    """Serves a script: answers in turn, the last one for ever, or a function of the body.

    Attributes:
        bodies: The requests so far, in the order in which they came.
        paths: Theirs.
        keys: Their bearer tokens.
        times: When they came, on the monotonic clock.
    """

    def __init__(self, script: Script = (Answer(),), *, port: int = 0, delay: float = 0.0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str] = []
        self.times: list[float] = []
        self._script = script
        self._delay = delay
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    @property
    def count(self) -> int:
        return len(self.bodies)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while (request := _read_request(stream)) is not None:
                if not self._answer(connection, *request):
                    break
        with self._lock:
            self._connections.discard(connection)

    def _answer(
        self, connection: socket.socket, path: str, body: dict[str, Any], headers: Mapping[str, str]
    ) -> bool:
        """Returns whether the connection stays open."""
        with self._lock:
            index = len(self.bodies)
            self.bodies.append(body)
            self.paths.append(path)
            self.keys.append(headers.get("authorization", "").removeprefix("Bearer "))
            self.times.append(time.monotonic())
        script = self._script
        asked = protocols.as_chat(path, body)
        answer = script(asked) if callable(script) else script[min(index, len(script) - 1)]
        if self._delay + answer.delay:
            time.sleep(self._delay + answer.delay)
        kind, pieces = protocols.encode(path, body, answer)
        head = [
            f"HTTP/1.1 {answer.status} Scripted",
            f"Content-Length: {sum(map(len, pieces))}",
            f"Content-Type: {kind}",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
        ]
        connection.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        if answer.drip_seconds:
            for byte in b"".join(pieces):
                time.sleep(answer.drip_seconds)
                connection.sendall(bytes([byte]))
            return True
        if answer.cut_after is not None:
            connection.sendall(b"".join(pieces)[: answer.cut_after])
            return False
        for number, piece in enumerate(pieces):
            if number and answer.gap_seconds:
                time.sleep(answer.gap_seconds)
            connection.sendall(piece)
        return True


def _read_request(stream: Any) -> tuple[str, dict[str, Any], dict[str, str]] | None:
    line = stream.readline()
    if not line:
        return None
    path = line.decode("latin-1").split(" ")[1]
    headers: dict[str, str] = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return path, (json.loads(body) if body else {}), headers


def answer_like_scripted(body: Mapping[str, Any]) -> Answer:
    """Answers as the scripted model would; the role is guessed from model name and prompt."""
    messages = tuple(Message(m["role"], str(m["content"])) for m in body["messages"])
    request = Request(
        role=_guess_role(str(body.get("model", "")), messages[-1].text if messages else ""),
        messages=messages,
        max_tokens=body.get("max_tokens"),
        temperature=body.get("temperature"),
        seed=body.get("seed"),
    )
    try:
        reply = ScriptedModel().complete(request, 60)
    except ReplyError as error:
        return Answer(text=error.reason)
    return Answer(
        text=reply.text,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )


def _guess_role(model: str, prompt: str) -> str:
    for role in ("planner", "editor", "summarizer"):
        if role in model:
            return role
    if "You plan, others carry out." in prompt:
        return "planner"
    return "summarizer" if "Compare the attempts" in prompt else "editor"


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the OpenAI chat protocol on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("--text", help="answer with this text instead of the scripted model's")
    options = parser.parse_args()
    script: Script = answer_like_scripted if options.text is None else (Answer(options.text),)
    with ModelServer(script, port=options.port, delay=options.delay) as server:
        print(server.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
