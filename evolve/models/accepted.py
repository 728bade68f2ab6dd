"""The settings that a provider takes: as the user changed them, and as its refusals teach."""

from __future__ import annotations

import json
import threading
from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from evolve.errors import UsageError
from evolve.models.provider_errors import find_allowed_tokens, find_refused_setting
from evolve.records.chat import Message, Request

# These speak the OpenAI protocol through a client of ours, which reads streams.
_OWN_CLIENT = {"openai", "azure"}
# Of these LiteLLM leaves out what it does not know.
_PICKY = {"gemini", "vertex_ai"}
SETTINGS = (
    "temperature", "seed", "max_tokens", "response_format", "reasoning_effort", "stream",
    "stream_options", "system",
)  # fmt: skip
"""What can be left out of requests or renamed; `system` is the role of a message."""


class RequestChanges(NamedTuple):
    """What requests to an endpoint have otherwise than usual.

    Attributes:
        drop: Settings that are never sent; `system` for the system's messages.
        rename: The names under which settings are sent.
        extra: What is sent besides.
    """

    drop: Sequence[str] = ()
    rename: Mapping[str, str] = MappingProxyType({})
    extra: Mapping[str, Any] = MappingProxyType({})

    def check(self, model: str) -> None:
        """Checks the names.

        Raises:
            UsageError: One is not a setting, or an extra one is.
        """
        unknown = [("drop", name) for name in self.drop if name not in SETTINGS]
        unknown += [("rename", name) for name in self.rename if name not in SETTINGS[:-1]]
        for key, name in unknown:
            raise UsageError(
                f"endpoints: {model!r}: `{key}`: expected names among {', '.join(SETTINGS)}, got"
                f" {name}"
            )
        for name in {*SETTINGS, "model", "messages"} & set(self.extra):
            raise UsageError(
                f"endpoints: {model!r}: `extra`: `{name}` is set elsewhere; "
                "see docs/reference/models.md"
            )


UNCHANGED = RequestChanges()


class AcceptedSettings:
    """What requests to one model carry; safe to use from many threads.

    Args:
        model: Its name.
        changes: The user's.

    Attributes:
        most_tokens: The longest reply that the provider allows; None until it has said so.

    Raises:
        UsageError: A setting to change is unknown.
    """

    def __init__(self, model: str, changes: RequestChanges) -> None:
        changes.check(model)
        self.most_tokens: int | None = None
        self._lock = threading.Lock()
        self._dropped = set(changes.drop)
        self._renamed = dict(changes.rename)
        self._extra = changes.extra

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
        return {"messages": self._write_messages(request), **sent}

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

    def _write_messages(self, request: Request) -> list[dict[str, Any]]:
        return [
            {"role": message.role, "content": _write_content(message)}
            for message in self._merge_roles(request.messages)
        ]

    def _merge_roles(self, messages: Sequence[Message]) -> Sequence[Message]:
        if "system" not in self._dropped:
            return messages
        # Such servers want turns by user and assistant, the user's first.
        merged: list[Message] = []
        for message in messages:
            role = "user" if message.role == "system" else message.role
            if merged and merged[-1].role == role:
                before = merged.pop()
                text = f"{before.text}\n\n{message.text}"
                merged.append(Message(role, text, before.pictures + message.pictures))
            else:
                merged.append(Message(role, message.text, message.pictures))
        return merged


def _write_content(message: Message) -> str | list[dict[str, Any]]:
    if not message.pictures:
        return message.text
    pictures = [{"type": "image_url", "image_url": {"url": one}} for one in message.pictures]
    return [{"type": "text", "text": message.text}, *pictures]


def _shape(schema: str) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": json.loads(schema), "strict": False},
    }
