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
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, NamedTuple

import httpx

_STOP_SECONDS = 5.0
_prepares_fast: ContextVar[bool] = ContextVar("prepares_fast", default=False)
_lock = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


def wait_for(request: Coroutine[Any, Any, Any], seconds: float, *, prepares_fast: bool) -> Any:
    """Runs a request in the loop's thread and returns its answer, from any other thread.

    Args:
        request: What to run.
        seconds: Deadline for the whole of it, however slowly its parts come in.
        prepares_fast: Whether what the request hands to a thread of its own never waits for
            anything. It is then done in the loop's thread, which saves two changes of threads.

    Raises:
        TimeoutError: The deadline passed; the request is abandoned.
    """

    async def run() -> Any:
        _prepares_fast.set(prepares_fast)
        return await asyncio.wait_for(request, seconds)

    future = asyncio.run_coroutine_threadsafe(run(), _find_loop())
    try:
        return future.result()
    except TimeoutError:
        raise TimeoutError(f"no whole answer within {seconds:.3g} s") from None
    except BaseException:
        # An interrupt ends the waiting, and nobody is left to read the answer.
        future.cancel()
        raise


class _Executor(ThreadPoolExecutor):
    """Does at once what never waits, and the rest in threads; host names are looked up there."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if function is socket.getaddrinfo or not _prepares_fast.get():
            return super().submit(function, *args, **kwargs)
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 (whoever waits for the future raises it)
            future.set_exception(error)
        return future


def _find_loop() -> asyncio.AbstractEventLoop:
    with _lock:
        if not _loops:
            loop = asyncio.new_event_loop()
            loop.set_default_executor(_Executor(thread_name_prefix="host-names"))
            # Whoever waits for a request gets its error; all else is the libraries' own affair.
            loop.set_exception_handler(lambda *_: None)
            thread = threading.Thread(target=loop.run_forever, name="requests", daemon=True)
            thread.start()
            _loops.append(loop)
            # A thread that ends with the process in the middle of an import leaves the import
            # locked, and what is torn down after it waits for ever.
            atexit.register(_stop, loop, thread)
        return _loops[0]


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_STOP_SECONDS)


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
            text, thinking = split_parts(delta.get("content"))
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

    @property
    def status(self) -> int | None:
        """Returns the status that an error names, 500 where it names none; None without one."""
        if self._error is None:
            return None
        code = self._error.get("code") if isinstance(self._error, dict) else None
        return code if isinstance(code, int) and 400 <= code < 600 else 500

    def to_dict(self) -> dict[str, Any]:
        """Returns what a server that does not stream would have answered."""
        if self._error is not None:
            return {"error": self._error}
        message = {
            "role": "assistant",
            "content": self.text,
            "reasoning_content": self.thinking or None,
        }
        choice = {"index": 0, "finish_reason": self.finish_reason or "stop", "message": message}
        usage = {"usage": self.usage} if self.usage else {}
        return {**self._head, "object": "chat.completion", "choices": [choice], **usage}


def split_parts(content: Any) -> tuple[str, str]:
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
            text = "".join(split_parts(text))
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
                completion: Completion | None = await _read_stream(response)
            else:
                await response.aread()
                completion = _read_whole(response)
        finally:
            await response.aclose()
        if completion is None:
            return response
        content = json.dumps(completion.to_dict()).encode()
        return httpx.Response(completion.status or 200, content=content, request=request)


def _read_whole(response: httpx.Response) -> Completion | None:
    """Returns an answer that came at once, None where it is none; a success may hold an error."""
    if response.status_code != 200:
        return None
    completion = Completion()
    try:
        answer = response.json()
        completion.add(answer)
        return completion if answer.get("choices") or answer.get("error") else None
    except (ValueError, AttributeError, TypeError):
        return None


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
    """Yields lines in time that is linear in their length, however they are cut into pieces."""
    pending: list[bytes] = []
    async for data in response.aiter_bytes():
        if b"\n" not in data:
            pending.append(data)
            continue
        *lines, rest = b"".join([*pending, data]).split(b"\n")
        pending = [rest]
        for line in lines:
            yield line
    yield b"".join(pending)
