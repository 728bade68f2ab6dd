"""What providers take and what their errors mean: stop, ask again or otherwise, or give up.

Requests carry the settings of a run as the user changed them, and as refusals teach.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from evolve.errors import ModelError, UsageError
from evolve.keys import cut_keys, split_password
from evolve.models.model import ReplyError, RetryableError
from evolve.records.chat import Message, Request

# These speak the OpenAI protocol through a client of ours, which reads streams.
_OWN_CLIENT = {"openai", "azure"}
# Of these LiteLLM leaves out what it does not know.
_PICKY = {"gemini", "vertex_ai"}
_NO_KEY = re.compile(
    r"missing [^.]*(credential|api[ _-]?key)|no api[ _-]?key|api_key client option", re.IGNORECASE
)
_NO_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|credit balance|billing (hard )?limit",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context (length|window|size)|maximum context|prompt is too long", re.IGNORECASE
)
_FILTERED = re.compile(
    r"content[ _](filter|management|policy)|filtered due to|safety system", re.IGNORECASE
)
# Local servers say so while they read a model from the disk.
_LOADING = re.compile(r"\bloading\b|warming up|starting up", re.IGNORECASE)
# OpenAI's models say so when the limit leaves no room for an answer after the thinking.
_CUT_OFF = re.compile(r"could not finish the message because", re.IGNORECASE)
_ROOM = re.compile(
    r"context length is (\d+) tokens.*?\((\d+) in the messages, \d+ in the completion\)", re.DOTALL
)
# What can be left out of requests or renamed, `system` being the role of a message, and what it is
# called where it is refused; the first one counts.
_SETTINGS = {
    "system": r"system (role|message|prompt|instruction)|role.{0,12}system|roles must alternate"
    r"|alternating",
    "max_tokens": r"max_(completion_|output_|new_)?tokens|maxoutputtokens|output tokens",
    "stream_options": r"stream_options|include_usage",
    "stream": r"\bstream(s|ed|ing)?\b",
    "response_format": r"response_format|response_schema|json_schema|json_object|grammar",
    "reasoning_effort": r"reasoning|\beffort\b|thinking",
    "temperature": r"temperature",
    "seed": r"\bseed\b",
}
# Keys of the well-known forms, also where the provider masked their middle.
_MASKED_KEY = re.compile(r"\b(?:sk|pk|gsk|xai|hf|r8)[-_][\w*.\-]{6,}|\bAIza[\w*\-]{10,}")
_LONGEST_MESSAGE = 300
# What httpx and json raise when an answer breaks off, is late, or is not what it should be.
_LOST_ANSWERS = {
    "ReadTimeout",
    "ReadError",
    "RemoteProtocolError",
    "JSONDecodeError",
    "APITimeoutError",
    "APIResponseValidationError",
}


class AcceptedSettings:
    """What requests to one model carry; safe to use from many threads.

    Args:
        model: Its name.
        drop: Settings that are never sent; `system` for the system's messages.
        rename: The names under which settings are sent.
        extra: What is sent besides.

    Attributes:
        most_tokens: The longest reply that the provider allows; None until it has said so.

    Raises:
        UsageError: One to drop or rename is not a setting, or an extra one is.
    """

    def __init__(
        self,
        model: str,
        *,
        drop: Sequence[str] = (),
        rename: Mapping[str, str] = MappingProxyType({}),
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.most_tokens: int | None = None
        self._lock = threading.Lock()
        self._dropped, self._renamed, self._extra = set(drop), dict(rename), extra
        for key, name in (*(("drop", one) for one in drop), *(("rename", one) for one in rename)):
            if name not in _SETTINGS or (key, name) == ("rename", "system"):
                raise UsageError(
                    f"endpoints: {model!r}: `{key}`: expected names among {', '.join(_SETTINGS)},"
                    f" got {name}"
                )
        for name in {*_SETTINGS, "model", "messages"} & set(extra):
            raise UsageError(
                f"endpoints: {model!r}: `extra`: `{name}` is set elsewhere; "
                "see docs/reference/models.md"
            )

    def choose(
        self, request: Request, limit: int | None, unknown: Container[str]
    ) -> dict[str, Any]:
        """Returns the messages and settings of a request, by our names.

        Args:
            request: What is asked.
            limit: Most tokens of the reply.
            unknown: Settings that the model is known not to take.
        """
        wanted: dict[str, Any] = {
            "max_tokens": limit and min(limit, self.most_tokens or limit),
            "temperature": request.temperature,
            "seed": request.seed,
            "reasoning_effort": request.effort or None,
            "response_format": _shape(request.schema) if request.schema else None,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        sent = {
            name: value
            for name, value in wanted.items()
            if value is not None and name not in self._dropped and name not in unknown
        }
        if "stream" not in sent:
            sent.pop("stream_options", None)
        merged = self._merge_roles(request.messages)
        messages = [{"role": one.role, "content": _write_content(one)} for one in merged]
        return {"messages": messages, **sent}

    def spell(self, sent: Mapping[str, Any], provider: str | None) -> dict[str, Any]:
        """Returns settings under the names and in the places that the provider takes."""
        kept = {name: value for name, value in sent.items() if name not in self._renamed}
        added = {self._renamed[name]: sent[name] for name in sent if name in self._renamed}
        added |= self._extra
        if "reasoning_effort" in kept:
            # LiteLLM keeps a table of who takes it; who sets it knows better.
            kept["allowed_openai_params"] = ["reasoning_effort"]
        if provider in _OWN_CLIENT:
            added |= {name: kept.pop(name) for name in ("stream", "stream_options") if name in kept}
        elif provider not in _PICKY:
            return kept | added
        return {**kept, "extra_body": added} if added else kept

    def learn(self, error: Exception, sent: Mapping[str, Any]) -> str | None:
        """Leaves out or changes what a provider refused.

        Args:
            error: What LiteLLM raised.
            sent: What `choose` returned.

        Returns:
            What was done, in words; empty where it had been done meanwhile, None where the error
            names no setting.
        """
        carried = set(sent)
        if sent["messages"][0]["role"] == "system":
            carried.add("system")
        name = find_refused_setting(error, carried)
        if not name:
            return None
        with self._lock:
            if name == "max_tokens":
                return self._lower_limit(error, sent[name])
            if name in self._dropped:
                return ""
            self._dropped.add(name)
        if name == "system":
            return "refuses a system message, which stands in the user's"
        return f"refuses `{name}`, which is left out"

    def _lower_limit(self, error: Exception, limit: int) -> str:
        """Renames or lowers the limit on replies, or leaves it out; returns what was done."""
        if "max_completion_tokens" in str(error) and "max_tokens" not in self._renamed:
            self._renamed["max_tokens"] = "max_completion_tokens"
            return "takes the limit as `max_completion_tokens`, which is sent"
        most = find_allowed_tokens(error, limit)
        if most is None:
            is_new = "max_tokens" not in self._dropped
            self._dropped.add("max_tokens")
            return "refuses a limit on replies, which is left out" if is_new else ""
        if self.most_tokens is not None and self.most_tokens <= most:
            return ""
        self.most_tokens = most
        return f"answers with at most {most} tokens, which is the limit"

    def _merge_roles(self, messages: Sequence[Message]) -> Sequence[Message]:
        if "system" not in self._dropped:
            return messages
        # Such servers want turns by user and assistant, the user's first.
        merged: list[Message] = []
        for message in messages:
            role = "user" if message.role == "system" else message.role
            text, pictures = message.text, message.pictures
            if merged and merged[-1].role == role:
                before = merged.pop()
                text, pictures = f"{before.text}\n\n{text}", before.pictures + pictures
            merged.append(Message(role, text, pictures))
        return merged


def _write_content(message: Message) -> str | list[dict[str, Any]]:
    if not message.pictures:
        return message.text
    pictures = [{"type": "image_url", "image_url": {"url": one}} for one in message.pictures]
    return [{"type": "text", "text": message.text}, *pictures]


def _shape(schema: str) -> dict[str, Any]:
    answer = {"name": "answer", "schema": json.loads(schema), "strict": False}
    return {"type": "json_schema", "json_schema": answer}


class RefusedRequestError(Exception):
    """The provider refused a request as malformed: this one's fault, or that of all."""


def find_refused_setting(error: Exception, sent: Container[str]) -> str:
    """Returns the setting that a provider refused, empty when its error names none of those sent.

    Args:
        error: What LiteLLM raised.
        sent: Names of the settings that the request carried; `system` for a system message.
    """
    status, message = getattr(error, "status_code", None), str(error)
    if status is not None and status >= 500:
        # Some servers fail where they compile a grammar.
        is_shape = re.search(_SETTINGS["response_format"], message, re.IGNORECASE)
        return "response_format" if is_shape and "response_format" in sent else ""
    if status in {400, 422} and _ROOM.search(message):
        return "max_tokens" if "max_tokens" in sent else ""
    if not isinstance(sort_failure(error, ""), RefusedRequestError):
        return ""
    for name, words in _SETTINGS.items():
        if name in sent and re.search(words, message, re.IGNORECASE):
            return name
    # The prompt says the same in words: where that is taken, it must do from now on.
    return "response_format" if "response_format" in sent else ""


def find_allowed_tokens(error: Exception, limit: int) -> int | None:
    """Returns the limit on a reply that an error allows; None when none at all is taken.

    Args:
        error: What LiteLLM raised about a limit.
        limit: What was sent.
    """
    message = str(error)
    room = _ROOM.search(message)
    if room is not None:
        return max(int(room[1]) - int(room[2]), 1)
    if re.search(r"unsupported|not supported|extra_forbidden|not permitted", message):
        return None
    numbers = [int(number) for number in re.findall(r"\b\d{2,7}\b", message)]
    return max((number for number in numbers if number < limit), default=limit // 2)


def sort_failure(error: Exception, remedy: str) -> Exception:
    """Turns an exception of LiteLLM into one of ours.

    Decides by status code, since LiteLLM does not choose its classes reliably; the message
    decides where one code stands for several things.

    Args:
        error: What LiteLLM raised.
        remedy: What the user can do when the model cannot be used at all.

    Returns:
        A `ModelError`, a `RetryableError`, a `ReplyError` or a `RefusedRequestError`.
    """
    status, kind = getattr(error, "status_code", None), type(error).__name__
    message, is_refusal = describe_failure(error), status in {400, 422}
    if is_refusal and _CUT_OFF.search(message):
        return ReplyError(f"cut off at its limit before the answer began: {message}")
    if status in {401, 402, 403, 404, 410} or _NO_KEY.search(message):
        return ModelError(f"{message}; {remedy}")
    is_too_long = kind == "ContextWindowExceededError" or status == 413
    if is_too_long or (is_refusal and _TOO_LONG.search(message)):
        return ReplyError(f"the prompt is too long for the model: {message}")
    if is_refusal and ("ContentPolicy" in kind or _FILTERED.search(message)):
        return ReplyError(f"the provider's content filter stopped the request: {message}")
    if is_refusal:
        return RefusedRequestError(message)
    if status == 429 and _NO_QUOTA.search(str(error)):
        return ModelError(f"{message}; the account has no quota left")
    is_loading = status == 503 and _LOADING.search(message) is not None
    return RetryableError(
        message,
        retry_after_seconds=read_retry_after(error),
        is_outage=status != 429 and not is_loading,
        is_loading=is_loading,
        may_be_charged=status == 408 or _was_under_way(error),
    )


def _was_under_way(error: Exception) -> bool:
    """Returns whether a request had reached the provider when its answer was lost."""
    if isinstance(error, TimeoutError) or type(error).__name__ == "Timeout":
        return True
    return any(type(cause).__name__ in _LOST_ANSWERS for cause in _walk_causes(error))


def describe_failure(error: Exception) -> str:
    """Returns one bounded line: LiteLLM's message, with the cause where it says nothing."""
    # Before anything is cut off, which might be a part of a key.
    text = cut_keys(str(error)).split("Traceback (most recent call last)", maxsplit=1)[0]
    text = text.split(" To drop unsupported", maxsplit=1)[0]
    text = " ".join(re.sub(r"\b(litellm\.)?\w+(Error|Exception)( Error)?( -|:) ", "", text).split())
    causes = [_describe_cause(cause) for cause in _walk_causes(error) if isinstance(cause, OSError)]
    if causes and causes[-1] not in text:
        text = f"{text.rstrip('.')} ({causes[-1]})"
    text = _MASKED_KEY.sub("***", split_password(cut_keys(text))[0])
    if len(text) > _LONGEST_MESSAGE:
        text = text[:_LONGEST_MESSAGE] + " ..."
    return text or type(error).__name__


def _describe_cause(error: OSError) -> str:
    """Returns what the system or the other side said, and what to do where that is known."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"certificate verify failed: {error.verify_message}; if you trust it, name the file of"
            " its authority in the environment variable SSL_CERT_FILE"
        )
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "TLS failed").replace("_", " ").lower()
        hint = "; no TLS is spoken there: try http://" if "wrong version" in reason else ""
        return f"{reason}{hint}"
    if isinstance(error, socket.gaierror):
        return f"host name not known: {error.strerror}"
    # Some libraries put words of their own for the system's.
    return f"[Errno {error.errno}] {os.strerror(error.errno)}" if error.errno else str(error)


def read_retry_after(error: Exception) -> float | None:
    """Returns the seconds of a `Retry-After` header, which may be a date; nonsense is none.

    A date is counted from the server's own clock where it is sent: the one here may be wrong.
    """
    headers = getattr(error, "litellm_response_headers", None) or {}
    text = str(headers.get("retry-after", ""))
    try:
        seconds = float(text)
    except ValueError:
        try:
            sent = headers.get("date")
            now = parsedate_to_datetime(sent) if sent else datetime.now(UTC)
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
        except (TypeError, ValueError):
            return None
        seconds = max(seconds, 0.0)
    return seconds if 0 <= seconds < 86_400 else None


def _walk_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
