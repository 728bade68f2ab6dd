"""Any provider through LiteLLM.

LiteLLM hides two layers of retries; both are switched off, and `retry` does what is left. It asks
once, streams where the provider can, and sends only settings that were set and that the provider
has not refused.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from evolve.errors import ModelError
from evolve.models.event_loop import wait_for
from evolve.models.failures import (
    RefusedRequestError,
    describe_failure,
    find_most_tokens,
    find_refused_setting,
    sort_failure,
)
from evolve.models.incoming import Incoming
from evolve.models.loading import import_litellm
from evolve.models.protocol import GENEROUS_TOKENS, Price, ReplyError, estimate_tokens
from evolve.models.retry import RefusedSettingError
from evolve.records.chat import Message, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# One refused request may be the fault of its prompt; several in a row are that of the settings.
_MAX_REFUSALS = 3
# The deadline is kept here. LiteLLM keeps an HTTP client for each time-out that it is told, so it
# is always told the same one.
_NEVER_SECONDS = 86_400.0
# Providers of which it is known that the key is all that they would send.
_KEYLESS = {"openai", "hosted_vllm", "ollama", "ollama_chat"}
_CONNECT_SECONDS = 30.0
# Models that think refuse to begin with less room.
_PREFLIGHT_TOKENS = 16
# These speak the OpenAI protocol through a client of ours, which reads streams.
_OWN_CLIENT = {"openai", "azure"}
# Without a limit these answer with an error or with very little.
_NEEDS_LIMIT = {"anthropic", "azure_ai", "bedrock", "databricks", "vertex_ai"}
SETTINGS = (
    "temperature", "seed", "max_tokens", "response_format", "reasoning_effort", "n", "stream",
    "stream_options", "system",
)  # fmt: skip
"""What can be left out of requests, where a provider refuses it."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back, however it came.

    Attributes:
        text: The reply.
        thinking: Characters of thinking that came apart from the text.
        finish_reason: The provider's word; `stop` where it says none.
        usage: LiteLLM's record of it; None when none was reported.
        cost_usd: What LiteLLM knows of its price.
    """

    text: str
    thinking: str
    finish_reason: str
    usage: Any
    cost_usd: float | None = None


class LiteLLMModel:
    """A model behind LiteLLM; safe to call from many threads.

    Args:
        name: Name as LiteLLM knows it: `provider/model`.
        api_base: Address of the provider, when it is not its usual one.
        sends_key: Whether the provider's key may go to that address.
        idle_seconds: Longest silence within an answer that has begun.
        drop: Settings that are never sent; `system` for the system's messages.
        tell: Called with a line about each setting that is left out.

    Raises:
        ModelError: The address is none, or a setting to drop is unknown.
    """

    is_patient = False

    def __init__(
        self,
        name: str,
        *,
        api_base: str | None = None,
        sends_key: bool = True,
        idle_seconds: float = 120.0,
        drop: Iterable[str] = (),
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.api_base = None if api_base is None else _clean_address(api_base)
        self._sends_key = sends_key
        self.incoming = Incoming()
        self._idle_seconds = idle_seconds
        self._tell = tell
        self._lock = threading.Lock()
        self._dropped = set(drop)
        self._limit_name = "max_tokens"
        self._most_tokens: int | None = None
        self._refusals = 0
        unknown = self._dropped - set(SETTINGS)
        if unknown:
            raise ModelError(
                f"endpoints: {name!r}: `drop`: expected names among {', '.join(SETTINGS)}, got"
                f" {', '.join(sorted(unknown))}"
            )

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        """Makes one request.

        Raises:
            RetryableError: No answer; another request may get one.
            RefusedSettingError: The provider refused a setting, which is left out from now on.
            ModelError: The model cannot be used.
            ReplyError: The answer cannot be used.
        """
        base = self._settings  # the import of LiteLLM must not count as the model's time
        sent = self._choose_settings(request)
        start = time.monotonic()
        try:
            with self.incoming.answer() as on_text:
                answer = wait_for(
                    self._ask({**base, **sent}, on_text),
                    timeout_seconds,
                    prepares_fast=self._provider == "openai",
                )
        except Exception as error:  # LiteLLM's exceptions have no common base
            carried = set(sent) | {"system"} if _has_system(request) else set(sent)
            if self._limit_name in sent:
                carried.add("max_tokens")
            self._leave_out(error, carried, sent.get(self._limit_name))
            raise self._sort(error) from error
        self._refusals = 0
        return self._read(answer, time.monotonic() - start)

    def prepare(self) -> Request:
        """Returns a request for a few tokens, with the settings that some providers refuse."""
        messages = (Message("system", "You are brief."), Message("user", "Reply with: ok"))
        return Request("preflight", messages, _PREFLIGHT_TOKENS, seed=1)

    def find_price(self) -> Price | None:
        """Returns the price in LiteLLM's table, or `None` when the model is not in it."""
        return self._price

    def find_most_tokens(self) -> int | None:
        """Returns the most tokens of a reply: what its provider said, else LiteLLM's table."""
        if self._most_tokens is not None:
            return self._most_tokens
        most = (self._info or {}).get("max_output_tokens")
        return int(most) if most else None

    def close(self) -> None:
        """Has nothing to wake: requests end at their deadline."""

    def _choose_settings(self, request: Request) -> dict[str, Any]:
        settings: dict[str, Any] = {"messages": self._write_messages(request)}
        limit = request.max_tokens
        if limit is None and self._provider in _NEEDS_LIMIT:
            limit = self.find_most_tokens() or GENEROUS_TOKENS
        if limit is not None and self._takes("max_tokens"):
            settings[self._limit_name] = min(limit, self._most_tokens or limit)
        if request.temperature is not None and self._takes("temperature"):
            settings["temperature"] = request.temperature
        if request.seed is not None and self._takes("seed") and self._knows("seed"):
            settings["seed"] = request.seed
        if request.effort and self._takes("reasoning_effort"):
            settings["reasoning_effort"] = request.effort
            # LiteLLM keeps a table of who takes it; who sets it knows better.
            settings["allowed_openai_params"] = ["reasoning_effort"]
        if self._takes("stream"):
            settings["stream"] = True
            if self._takes("stream_options"):
                settings["stream_options"] = {"include_usage": True}
        # A compatible server is asked and may refuse, for LiteLLM does not know what it can do.
        if request.schema and self._takes("response_format") and self._may_know_shapes:
            settings["response_format"] = _shape(request.schema)
        return settings

    def _write_messages(self, request: Request) -> list[dict[str, str]]:
        messages = [{"role": message.role, "content": message.text} for message in request.messages]
        if "system" not in self._dropped:
            return messages
        # Such servers want turns by user and assistant, the user's first.
        merged: list[dict[str, str]] = []
        for message in messages:
            role = "user" if message["role"] == "system" else message["role"]
            if merged and merged[-1]["role"] == role:
                merged[-1]["content"] += "\n\n" + message["content"]
            else:
                merged.append({"role": role, "content": message["content"]})
        return merged

    async def _ask(self, settings: dict[str, Any], on_text: Callable[[int], None]) -> _Answer:
        import httpx

        from evolve.models.streams import LISTENER, Listener

        timeout = httpx.Timeout(_NEVER_SECONDS, connect=_CONNECT_SECONDS)
        settings |= {"model": self.name, "timeout": timeout, "max_retries": 0}
        if settings.get("stream") and self._provider in _OWN_CLIENT:
            LISTENER.set(Listener(on_text, self._idle_seconds))
            stream = {
                key: settings.pop(key) for key in ("stream", "stream_options") if key in settings
            }
            settings["extra_body"] = stream
        answer = await self._litellm.acompletion(**settings)
        if settings.get("stream"):
            return await _gather(answer, on_text, self._idle_seconds)
        message = answer.choices[0].message if answer.choices else None
        return _Answer(
            _text_of(message.content) if message else "",
            str(getattr(message, "reasoning_content", None) or ""),
            str((answer.choices[0].finish_reason if answer.choices else None) or "stop"),
            getattr(answer, "usage", None),
            answer._hidden_params.get("response_cost"),  # noqa: SLF001 (it is nowhere else)
        )

    def _leave_out(self, error: Exception, carried: set[str], limit: int | None) -> None:
        """Leaves out what the provider refused from now on, and says so once.

        Raises:
            RefusedSettingError: Something was left out, or had been meanwhile.
        """
        name = find_refused_setting(error, carried)
        is_refusal = getattr(error, "status_code", None) in {400, 422}
        if not name and is_refusal and "response_format" in carried and _is_vague(error):
            # The prompt says the same in words: where that is taken, it must do from now on.
            name = "response_format"
        if not name:
            return
        with self._lock:
            if name == "max_tokens" and limit is not None:
                done = self._lower_limit(error, limit)
            else:
                done = "" if name in self._dropped else f"refuses `{name}`, which is left out"
                self._dropped.add(name)
        if done:
            self._tell(f"model {self.name!r}: {done} from now on ({describe_failure(error)})")
        raise RefusedSettingError(name) from error

    def _lower_limit(self, error: Exception, limit: int) -> str:
        """Renames or lowers the limit on replies, or leaves it out; returns what was done."""
        message = str(error)
        if "max_completion_tokens" in message and self._limit_name != "max_completion_tokens":
            self._limit_name = "max_completion_tokens"
            return "takes the limit as `max_completion_tokens`, which is sent"
        most = find_most_tokens(error, limit)
        if most is None:
            is_new = "max_tokens" not in self._dropped
            self._dropped.add("max_tokens")
            return "refuses a limit on replies, which is left out" if is_new else ""
        if self._most_tokens is not None and self._most_tokens <= most:
            return ""
        self._most_tokens = most
        return f"answers with at most {most} tokens, which is the limit"

    def _sort(self, error: Exception) -> Exception:
        failure = sort_failure(error, self._find_remedy(error))
        if isinstance(failure, RefusedRequestError):
            self._refusals += 1
            if self._refusals < _MAX_REFUSALS:
                return ReplyError(f"the provider refused the request: {failure}")
            failure = ModelError(
                f"{failure}; the provider refused {self._refusals} requests in a row, check the"
                " model's settings, and see `drop` in docs/models.md"
            )
        if isinstance(failure, ModelError):
            return type(failure)(f"model {self.name!r}{self.address}: {failure}")
        return failure

    def _read(self, answer: _Answer, seconds: float) -> Reply:
        usage = answer.usage
        prompt_tokens = int(getattr(usage, "prompt_tokens", 0) or 0)
        completion_tokens = int(getattr(usage, "completion_tokens", 0) or 0)
        read = getattr(usage, "prompt_tokens_details", None)
        written = getattr(usage, "completion_tokens_details", None)
        thinking_tokens = int(getattr(written, "reasoning_tokens", 0) or 0)
        if not prompt_tokens + completion_tokens:
            thinking_tokens = estimate_tokens(answer.thinking)
        cost_usd = answer.cost_usd if self._price is not None else None
        return Reply(
            text=answer.text,
            model=self.name,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=float(cost_usd) if cost_usd else None,
            cached_tokens=min(int(getattr(read, "cached_tokens", 0) or 0), prompt_tokens),
            thinking_tokens=thinking_tokens,
            seconds=seconds,
            finish_reason=answer.finish_reason,
        )

    @cached_property
    def _litellm(self) -> Any:
        return import_litellm()

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """Returns what every request of this model carries."""
        settings: dict[str, Any] = {}
        if self._info is None and self._provider is not None:
            self._make_known()
        if self.api_base is not None:
            settings["api_base"] = self.api_base
            # A local server takes any key, but the client insists on having one.
            if self._missing_keys or not self._sends_key:
                settings["api_key"] = "none"
            if not self._sends_key and self._provider not in _KEYLESS:
                raise ModelError(
                    f"model {self.name!r}{self.address}: the run's folder names this address, and "
                    f"you have not: if your key may go there, add --api-base {quote(self.api_base)}"
                )
        return settings

    def _takes(self, setting: str) -> bool:
        return setting not in self._dropped

    def _knows(self, setting: str) -> bool:
        return self._supported is None or setting in self._supported

    @cached_property
    def _supported(self) -> list[str] | None:
        supported: list[str] | None = self._litellm.get_supported_openai_params(model=self.name)
        return supported

    @cached_property
    def _may_know_shapes(self) -> bool:
        known = self.api_base is not None or self._litellm.supports_response_schema(model=self.name)
        return bool(known)

    @cached_property
    def _info(self) -> dict[str, Any] | None:
        """Returns what LiteLLM's table says of the model, or `None` when it is not in it."""
        try:
            info: dict[str, Any] = self._litellm.get_model_info(self.name)
        except Exception:  # noqa: BLE001 (LiteLLM raises a bare one for unknown models)
            return None
        return info

    def _make_known(self) -> None:
        """Puts the model into LiteLLM's table, without a price.

        A model that it lacks is looked up in vain several times for each answer, which takes a
        seventh of the processor time of a request.
        """
        free = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
        entry = {"litellm_provider": self._provider, "mode": "chat", **free}
        self._litellm.register_model({self.name: entry})

    @cached_property
    def _provider(self) -> str | None:
        """Returns who serves the model, or `None` when its name does not tell."""
        try:
            provider: str = self._litellm.get_llm_provider(self.name)[1]
        except self._litellm.BadRequestError:
            return None  # the request itself tells what is wrong with the name
        return provider

    @cached_property
    def _price(self) -> Price | None:
        info = self._info
        if info is None:
            return None
        prompt_usd, completion_usd = info["input_cost_per_token"], info["output_cost_per_token"]
        if not prompt_usd and not completion_usd:
            return None
        cached_usd = info.get("cache_read_input_token_cost")
        return Price(
            float(prompt_usd or 0.0),
            float(completion_usd or 0.0),
            None if cached_usd is None else float(cached_usd),
        )

    @cached_property
    def _missing_keys(self) -> tuple[str, ...]:
        missing = self._litellm.validate_environment(self.name)["missing_keys"]
        return tuple(key for key in missing if "KEY" in key or "TOKEN" in key)

    @property
    def address(self) -> str:
        """Returns the end of `model NAME`, with the address where it is not the usual one."""
        return f" at {self.api_base}" if self.api_base is not None else ""

    @cached_property
    def remedy(self) -> str:
        """Returns what to do when nothing answers."""
        variables = " or ".join(self._missing_keys)
        if self.api_base is not None:
            key = f"the key (none was sent: {variables} is not set)" if variables else "the key"
            return f"check that the server runs there, serves this model and takes {key}"
        if variables:
            return f"set the environment variable {variables}"
        return "check the model's name, its key and your connection"

    def _find_remedy(self, error: Exception) -> str:
        if getattr(error, "status_code", None) == 404 and self.api_base is not None:
            parts = urlsplit(self.api_base)
            if parts.path in {"", "/"}:
                return f"try {self.api_base.rstrip('/')}/v1, or {self.remedy}"
        return self.remedy


def _clean_address(text: str) -> str:
    """Returns the base of an address that may name the whole path of a request.

    Raises:
        ModelError: It has no scheme.
    """
    address = text.strip().rstrip("/")
    address = address.removesuffix("/chat/completions").removesuffix("/completions")
    if urlsplit(address).scheme not in {"http", "https"} or "://" not in address:
        raise ModelError(
            f"--api-base: expected an address that begins with http:// or https://, got {text!r};"
            f" try http://{address}"
        )
    return address


async def _gather(parts: Any, on_text: Callable[[int], None], idle_seconds: float) -> _Answer:
    """Puts together what LiteLLM streams.

    Raises:
        TimeoutError: An answer that had begun fell silent.
    """
    import asyncio

    texts: list[str] = []
    thoughts: list[str] = []
    finish_reason, usage = "", None
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(None) as timer:
            async for part in parts:
                usage = getattr(part, "usage", None) or usage
                for choice in part.choices[:1]:
                    text = _text_of(choice.delta.content)
                    thought = str(getattr(choice.delta, "reasoning_content", None) or "")
                    finish_reason = choice.finish_reason or finish_reason
                    texts.append(text)
                    thoughts.append(thought)
                    if text or thought:
                        on_text(len(text) + len(thought))
                        timer.reschedule(now() + idle_seconds)
    except TimeoutError:
        raise TimeoutError(f"the answer fell silent for {idle_seconds:g} s") from None
    return _Answer("".join(texts), "".join(thoughts), finish_reason or "stop", usage)


def _shape(schema: str) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": json.loads(schema), "strict": False},
    }


def _has_system(request: Request) -> bool:
    return any(message.role == "system" for message in request.messages)


def _is_vague(error: Exception) -> bool:
    """Returns whether a refusal may be about anything in the request."""
    return isinstance(sort_failure(error, ""), RefusedRequestError)


def _text_of(content: Any) -> str:
    """Returns the text of a message, of which some providers send typed parts."""
    if isinstance(content, list):
        from evolve.models.streams import flatten

        content, _ = flatten(content)
    # Lone surrogates come through JSON, and no file or database takes them.
    return content.encode("utf-8", "replace").decode("utf-8") if isinstance(content, str) else ""
