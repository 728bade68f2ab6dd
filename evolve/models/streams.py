"""Streamed answers of servers that speak the OpenAI protocol, put together as they come in.

LiteLLM's own reading of streams takes 0.4 ms of processor time for each token, as much as a
whole request for twenty of them, and gives up on replies that repeat themselves. So its requests
are answered by a client that asks for a stream and hands over one complete answer. Import it
late: httpx is slow to import.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_RESETS = 10
_TYPED_PARTS = re.compile(rb'"content"\s*:\s*\[\s*\{')


class Listener(NamedTuple):
    """Who reads an answer.

    Attributes:
        on_text: Called with the number of characters of each part.
        idle_seconds: Longest silence within an answer that has begun.
    """

    on_text: Callable[[int], None]
    idle_seconds: float


LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)
"""That of the request which is made in this context."""


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
            if "text/event-stream" not in response.headers.get("content-type", ""):
                await response.aread()
                return _flatten_content(_find_error(response))
            answer = await _gather(response)
        finally:
            await response.aclose()
        status = _find_status(answer)
        content = json.dumps(answer).encode()
        return httpx.Response(status or response.status_code, content=content, request=request)


class Gathered:
    """A chat completion that is put together from its parts."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: Any = None
        self._error: Any = None

    def add(self, part: dict[str, Any]) -> int:
        """Adds a part; returns its characters."""
        if not self._head:
            self._head = {key: part.get(key) for key in ("id", "created", "model")}
        self._usage = part.get("usage") or self._usage
        self._error = part.get("error") or self._error
        characters = 0
        for choice in part.get("choices") or ():
            known = self._choices.setdefault(
                choice.get("index") or 0, {"text": [], "thinking": [], "finish": None}
            )
            known["finish"] = choice.get("finish_reason") or known["finish"]
            self._error = choice.get("error") or self._error
            delta = choice.get("delta") or choice.get("message") or {}
            text = delta.get("content")
            thinking = delta.get("reasoning_content") or delta.get("reasoning")
            if isinstance(text, list):
                text, apart = flatten(text)
                thinking = (thinking or "") + apart
            if text:
                known["text"].append(text)
            if thinking:
                known["thinking"].append(thinking)
            characters += len(text or "") + len(thinking or "")
        return characters

    @property
    def is_complete(self) -> bool:
        """Returns whether an error or the end of every choice has come."""
        ends = [choice["finish"] for choice in self._choices.values()]
        return self._error is not None or (bool(ends) and all(ends))

    def answer(self) -> dict[str, Any]:
        """Returns what a server that does not stream would have answered."""
        if self._error is not None:
            return {"error": self._error}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [
                {
                    "index": index,
                    "finish_reason": choice["finish"] or "stop",
                    "message": {
                        "role": "assistant",
                        "content": "".join(choice["text"]),
                        "reasoning_content": "".join(choice["thinking"]) or None,
                    },
                }
                for index, choice in sorted(self._choices.items())
            ],
            **({"usage": self._usage} if self._usage else {}),
        }


def flatten(parts: list[Any]) -> tuple[str, str]:
    """Returns the text and the thinking in a list of typed parts."""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        if not isinstance(part, dict):
            continue
        text = part.get("text") or part.get("thinking") or part.get("reasoning") or ""
        if isinstance(text, list):
            text = "".join(flatten(text))
        is_text = part.get("type", "text") in {"text", "output_text"}
        (texts if is_text else thoughts).append(str(text))
    return "".join(texts), "".join(thoughts)


async def _gather(response: httpx.Response) -> dict[str, Any]:
    gathered, listener = Gathered(), LISTENER.get()
    idle_seconds = None if listener is None else listener.idle_seconds
    now = asyncio.get_running_loop().time
    timer = asyncio.timeout(None)
    is_done, reset = False, float("-inf")
    try:
        async with timer:
            async for line in _read_lines(response):
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    is_done = True
                    break
                characters = gathered.add(json.loads(data))
                if listener is not None and characters:
                    listener.on_text(characters)
                    if idle_seconds is not None and now() - reset > idle_seconds / _RESETS:
                        reset = now()
                        timer.reschedule(reset + idle_seconds)
    except TimeoutError:
        raise httpx.ReadTimeout(
            f"the answer fell silent for {idle_seconds:g} s", request=response.request
        ) from None
    if not is_done and not gathered.is_complete:
        raise httpx.RemoteProtocolError(
            "the stream ended before the answer did", request=response.request
        )
    return gathered.answer()


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


def _find_error(response: httpx.Response) -> httpx.Response:
    """Returns the response, with the status of the error that a success may hold."""
    if response.status_code == 200 and b'"error"' in response.content[:2000]:
        try:
            status = _find_status(response.json())
        except ValueError:
            return response
        if status is not None:
            return httpx.Response(status, content=response.content, request=response.request)
    return response


def _flatten_content(response: httpx.Response) -> httpx.Response:
    """Returns the response, with text in place of the typed parts that LiteLLM does not take."""
    if response.status_code != 200 or not _TYPED_PARTS.search(response.content):
        return response
    try:
        answer = response.json()
        for choice in answer["choices"]:
            message = choice["message"]
            if isinstance(message["content"], list):
                message["content"], message["reasoning_content"] = flatten(message["content"])
    except (ValueError, KeyError, TypeError):
        return response
    content = json.dumps(answer).encode()
    return httpx.Response(200, content=content, request=response.request)


def _find_status(answer: Any) -> int | None:
    """Returns the status that an error in an answer names, 500 where it names none."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error or answer.get("choices"):
        return None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500
