"""How requests travel: one event loop for all of them, and streams put together as they come in.

A thread that talks to a server of its own takes Python's lock at every step; with eight threads
and a fast server, more time goes into waiting for the lock than into the requests. Here the
threads of a run wait once for each request, and a single event loop does the talking. There is
only one loop: LiteLLM binds queues of its own to the loop that it first sees.

LiteLLM's own reading of streams takes 0.4 ms of processor time for each token, as much as a whole
request for twenty of them, and gives up on replies that repeat themselves. So its requests to
servers that speak the OpenAI protocol go through a client that asks for a stream and hands over
one complete answer. Import this module late: httpx is slow to import.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import httpx

_STOP_SECONDS = 5.0
_lock = threading.Lock()


def wait_for(request: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """Runs a request in the loop's thread and returns its answer, from any other thread.

    Args:
        request: What to run.
        seconds: Deadline for the whole of it, however slowly its parts come in.

    Raises:
        TimeoutError: The deadline passed; the request is abandoned.
    """
    with _lock:
        loop = _start_loop()
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(request, seconds), loop)
    try:
        return future.result()
    except TimeoutError:
        raise TimeoutError(f"no whole answer within {seconds:.3g} s") from None
    except BaseException:
        # An interrupt ends the waiting, and nobody is left to read the answer.
        future.cancel()
        raise


@cache
def _start_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    # Whoever waits for a request gets its error; all else is the libraries' own affair.
    loop.set_exception_handler(lambda *_: None)
    thread = threading.Thread(target=loop.run_forever, name="requests", daemon=True)
    thread.start()
    # A thread that ends with the process in the middle of an import leaves the import locked, and
    # what is torn down after it waits for ever.
    atexit.register(thread.join, _STOP_SECONDS)
    atexit.register(loop.call_soon_threadsafe, loop.stop)
    return loop


class Listener(NamedTuple):
    """Who reads an answer.

    Attributes:
        on_text: Called with the number of characters of each part.
        idle_seconds: Longest silence within an answer that has begun.
    """

    on_text: Callable[[int], None]
    idle_seconds: float

    async def gather(self, parts: AsyncIterator[dict[str, Any]]) -> Completion:
        """Puts an answer together from its parts.

        Raises:
            TimeoutError: An answer that had begun fell silent.
        """
        completion = Completion()
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as timer:
                async for part in parts:
                    if characters := completion.add(part):
                        self.on_text(characters)
                        timer.reschedule(now() + self.idle_seconds)
        except TimeoutError:
            raise TimeoutError(f"the answer fell silent for {self.idle_seconds:g} s") from None
        return completion


LISTENER: ContextVar[Listener] = ContextVar("listener")
"""That of the request which is made in this context."""


class Completion:
    """A chat completion: its first choice, whole or put together from the parts of a stream.

    Attributes:
        finish_reason: The provider's word; None before the end.
        usage: The provider's record of tokens; None when it reports none.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: Any = None
        self._head: dict[str, Any] = {}
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._error: Any = None

    @property
    def text(self) -> str:
        """Returns the answer."""
        return "".join(self._texts)

    @property
    def thinking(self) -> str:
        """Returns the thinking that came apart from the text."""
        return "".join(self._thoughts)

    def add(self, part: dict[str, Any]) -> int:
        """Adds a part, or a whole answer; returns its characters."""
        self._head = self._head or {key: part.get(key) for key in ("id", "created", "model")}
        self.usage = part.get("usage") or self.usage
        self._error = part.get("error") or self._error
        characters = 0
        for choice in (part.get("choices") or ())[:1]:
            delta = choice.get("delta") or choice.get("message") or {}
            text, thinking = _split_parts(delta.get("content"))
            thinking += delta.get("reasoning_content") or delta.get("reasoning") or ""
            self._texts.append(text)
            self._thoughts.append(thinking)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self._error = choice.get("error") or self._error
            characters = len(text) + len(thinking)
        return characters

    @property
    def is_complete(self) -> bool:
        """Returns whether an error or the end of the answer has come."""
        return self._error is not None or self.finish_reason is not None

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Returns the response of a server that does not stream and has a status for errors."""
        if self._error is not None:
            code = self._error.get("code") if isinstance(self._error, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 500
            return _respond(status, {"error": self._error}, request)
        message = {
            "role": "assistant",
            "content": self.text,
            "reasoning_content": self.thinking or None,
        }
        choice = {"index": 0, "finish_reason": self.finish_reason or "stop", "message": message}
        answer = {**self._head, "object": "chat.completion", "choices": [choice]}
        if self.usage:
            answer["usage"] = self.usage
        return _respond(200, answer, request)


def _respond(status: int, answer: dict[str, Any], request: httpx.Request) -> httpx.Response:
    # Unlike httpx itself, this writes lone surrogates.
    return httpx.Response(status, content=json.dumps(answer).encode(), request=request)


def _split_parts(content: Any) -> tuple[str, str]:
    """Returns the text and the thinking of a message's content, which may be typed parts."""
    if not isinstance(content, list):
        return (content if isinstance(content, str) else ""), ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if not isinstance(part, dict):
            continue
        text = part.get("text") or part.get("thinking") or part.get("reasoning") or ""
        if isinstance(text, list):
            text = "".join(_split_parts(text))
        is_text = part.get("type", "text") in {"text", "output_text"}
        (texts if is_text else thoughts).append(str(text))
    return "".join(texts), "".join(thoughts)


class StreamingClient(httpx.AsyncClient):
    """An HTTP client that gathers an answer that is streamed into a single one."""

    def __init__(self) -> None:
        super().__init__(
            follow_redirects=True,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        )

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Sends a request and returns the whole response.

        Raises:
            httpx.ReadTimeout: An answer that had begun fell silent.
            httpx.RemoteProtocolError: The stream ended before the answer did.
        """
        if options.pop("stream", False):
            return await super().send(request, stream=True, **options)
        response = await super().send(request, stream=True, **options)
        try:
            if "text/event-stream" in response.headers.get("content-type", ""):
                return (await _read_stream(response)).respond(request)
            await response.aread()
        finally:
            await response.aclose()
        if response.status_code != 200:
            return response
        completion = Completion()
        try:
            answer = response.json()
            completion.add(answer)
            # A success may hold an error.
            is_answer = answer.get("choices") or answer.get("error")
        except (ValueError, AttributeError, TypeError):
            return response
        return completion.respond(request) if is_answer else response


async def _read_stream(response: httpx.Response) -> Completion:
    is_done = False

    async def read_parts() -> AsyncIterator[dict[str, Any]]:
        nonlocal is_done
        async for line in _read_lines(response):
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if data == b"[DONE]":
                is_done = True
                return
            if data:
                yield json.loads(data)

    try:
        completion = await LISTENER.get().gather(read_parts())
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error), request=response.request) from None
    if not is_done and not completion.is_complete:
        raise httpx.RemoteProtocolError(
            "the stream ended before the answer did", request=response.request
        )
    return completion


async def _read_lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yields lines; unlike those of httpx, they end nowhere within JSON."""
    rest = b""
    async for data in response.aiter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line
    yield rest
