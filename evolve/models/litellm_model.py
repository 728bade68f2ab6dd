"""Any provider through LiteLLM.

LiteLLM hides two layers of retries; both are switched off, and `retry` does what is left. It asks
once, always says `max_tokens`, and sends only settings that were set.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from functools import cached_property
from shlex import quote
from typing import Any

from evolve.errors import ModelError, ModelUnavailableError
from evolve.models.event_loop import wait_for
from evolve.models.failures import RefusedRequestError, sort_failure
from evolve.models.loading import import_litellm
from evolve.models.protocol import Price, ReplyError
from evolve.models.retry import EmptyReplyError, RetryPolicy, call_with_retries
from evolve.models.tokens import count_tokens
from evolve.records.chat import Message, Reply, Request

_PREFLIGHT_POLICY = RetryPolicy(first_seconds=0.3, max_requests=4, max_empty_replies=1)
_PREFLIGHT_SECONDS = 20.0
# One refused request may be the fault of its prompt; several in a row are that of the settings.
_MAX_REFUSALS = 3
# The deadline is kept here. LiteLLM keeps an HTTP client for each time-out that it is told, so it
# is always told the same one.
_NEVER_SECONDS = 86_400.0
# Providers of which it is known that the key is all that they would send.
_KEYLESS = {"openai", "hosted_vllm", "ollama", "ollama_chat"}


class LiteLLMModel:
    """A model behind LiteLLM; safe to call from many threads.

    Args:
        name: Name as LiteLLM knows it: `provider/model`.
        api_base: Address of the provider, when it is not its usual one.
        sends_key: Whether the provider's key may go to that address.
    """

    is_patient = False

    def __init__(self, name: str, *, api_base: str | None = None, sends_key: bool = True) -> None:
        self.name = name
        self.api_base = api_base
        self._sends_key = sends_key
        self._closed = threading.Event()
        self._refusals = 0
        self._shapes_refused = False

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        """Makes one request.

        Raises:
            RetryableError: No answer, or an empty one; another request may get one.
            ModelError: The model cannot be used.
            ReplyError: The answer cannot be used.
        """
        settings = self._settings  # the import of LiteLLM must not count as the model's time
        start = time.monotonic()
        answer = self._send(request, timeout_seconds, settings)
        return _check(self._read(answer, time.monotonic() - start))

    def preflight(self) -> tuple[Request, Reply] | None:
        """Asks for one token, and gives what was asked and what was paid for.

        Raises:
            ModelError: The model cannot be used; the message has the remedy.
            ModelUnavailableError: Nothing answers at its address.
        """
        request = Request("preflight", (Message("user", "Reply with: ok"),), max_tokens=1)
        try:
            reply = call_with_retries(
                lambda _: self.complete(request, _PREFLIGHT_SECONDS),
                where=f"model {self.name!r}{self._address}",
                deadline_seconds=_PREFLIGHT_SECONDS,
                policy=_PREFLIGHT_POLICY,
                jitter=lambda: 0.5,
                wait=self._closed.wait,
            )
        except ModelUnavailableError as error:
            raise ModelUnavailableError(f"{error}; {self._remedy}") from error
        except ReplyError as error:
            # One token is often no whole reply; that something answered is enough.
            return None if error.reply is None else (request, error.reply)
        return request, reply

    def find_price(self) -> Price | None:
        """Gives the price in LiteLLM's table, or `None` when the model is not in it."""
        return self._price

    def close(self) -> None:
        """Wakes calls that wait for a retry, which then raise `ModelUnavailableError`."""
        self._closed.set()

    def _send(self, request: Request, seconds: float, settings: dict[str, Any]) -> Any:
        settings = dict(settings)
        if request.max_tokens is not None:
            settings["max_tokens"] = request.max_tokens
        if request.temperature is not None:
            settings["temperature"] = request.temperature
        if request.seed is not None and self._takes("seed"):
            settings["seed"] = request.seed
        if request.effort:
            settings["reasoning_effort"] = request.effort
            # LiteLLM keeps a table of who takes it; who sets it knows better.
            settings["allowed_openai_params"] = ["reasoning_effort"]
        if request.samples > 1 and self._takes("n"):
            settings["n"] = request.samples
        if request.schema and self._takes_shapes:
            settings["response_format"] = _shape(request.schema)
        messages = [{"role": message.role, "content": message.text} for message in request.messages]
        try:
            answer = wait_for(
                self._litellm.acompletion(
                    model=self.name,
                    messages=messages,
                    timeout=_NEVER_SECONDS,
                    max_retries=0,
                    **settings,
                ),
                seconds,
                prepares_fast=self._provider == "openai",
            )
        except Exception as error:  # LiteLLM's exceptions have no common base
            if "response_format" in settings and _is_refusal(error):
                # The prompt says the same in words: where that is taken, it must do from now on.
                answer = self._send(replace(request, schema=""), seconds, self._settings)
                self._shapes_refused = True
                return answer
            raise self._sort(error) from error
        self._refusals = 0
        return answer

    def _sort(self, error: Exception) -> Exception:
        failure = sort_failure(error, self._remedy)
        if isinstance(failure, RefusedRequestError):
            self._refusals += 1
            if self._refusals < _MAX_REFUSALS:
                return ReplyError(f"the provider refused the request: {failure}")
            failure = ModelError(
                f"{failure}; the provider refused {self._refusals} requests in a row, check the"
                " model's settings"
            )
        if isinstance(failure, ModelError):
            return type(failure)(f"model {self.name!r}{self._address}: {failure}")
        return failure

    def _read(self, answer: Any, seconds: float) -> Reply:
        choice = answer.choices[0] if answer.choices else None
        usage = getattr(answer, "usage", None)
        prompt_tokens = int(getattr(usage, "prompt_tokens", 0) or 0)
        completion_tokens = int(getattr(usage, "completion_tokens", 0) or 0)
        details = getattr(usage, "prompt_tokens_details", None)
        texts = [_text_of(other) for other in answer.choices]
        if len(texts) > 1:
            # Some servers tell the tokens of the first choice only.
            written = sum(count_tokens(self.name, text) for text in texts)
            completion_tokens = max(completion_tokens, written)
        return Reply(
            text=texts[0] if texts else "",
            model=self.name,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=self._find_cost(answer),
            cached_tokens=min(int(getattr(details, "cached_tokens", 0) or 0), prompt_tokens),
            seconds=seconds,
            finish_reason=str((choice.finish_reason if choice is not None else None) or "stop"),
            others=tuple(texts[1:]),
        )

    def _find_cost(self, answer: Any) -> float | None:
        """Gives the cost as LiteLLM knows it, which for some models is more than a table."""
        cost = answer._hidden_params.get("response_cost")  # noqa: SLF001 (it is nowhere else)
        return float(cost) if cost and self._price is not None and len(answer.choices) < 2 else None

    @cached_property
    def _litellm(self) -> Any:
        return import_litellm()

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """Gives what every request of this model carries."""
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
                    f"model {self.name!r}{self._address}: the run's folder names this address, and "
                    f"you have not: if your key may go there, add --api-base {quote(self.api_base)}"
                )
        return settings

    def _takes(self, setting: str) -> bool:
        return self._supported is None or setting in self._supported

    @cached_property
    def _supported(self) -> list[str] | None:
        supported: list[str] | None = self._litellm.get_supported_openai_params(model=self.name)
        return supported

    @property
    def _takes_shapes(self) -> bool:
        if self._shapes_refused:
            return False
        # A compatible server is asked and may refuse, for LiteLLM does not know what it can do.
        return self.api_base is not None or self._knows_shapes

    @cached_property
    def _knows_shapes(self) -> bool:
        return bool(self._litellm.supports_response_schema(model=self.name))

    @cached_property
    def _info(self) -> dict[str, Any] | None:
        """Gives what LiteLLM's table says of the model, or `None` when it is not in it."""
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
        """Gives who serves the model, or `None` when its name does not tell."""
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
    def _address(self) -> str:
        return f" at {self.api_base}" if self.api_base is not None else ""

    @cached_property
    def _remedy(self) -> str:
        variables = " or ".join(self._missing_keys)
        if self.api_base is not None:
            key = f"the key (none was sent: {variables} is not set)" if variables else "the key"
            return f"check that the server runs there, serves this model and takes {key}"
        if variables:
            return f"set the environment variable {variables}"
        return "check the model's name, its key and your connection"


def _check(reply: Reply) -> Reply:
    if reply.text.strip():
        return reply
    if reply.finish_reason == "content_filter":
        raise ReplyError("the provider's content filter stopped the reply", reply)
    raise EmptyReplyError(reply)


def _shape(schema: str) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": json.loads(schema), "strict": False},
    }


def _is_refusal(error: Exception) -> bool:
    return getattr(error, "status_code", None) in {400, 422}


def _text_of(choice: Any) -> str:
    content = choice.message.content
    return _clean(content) if isinstance(content, str) else ""


def _clean(text: str) -> str:
    """Replaces lone surrogates, which JSON lets through and no file or database takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
