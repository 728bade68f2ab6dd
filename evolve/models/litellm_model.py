"""Any provider through LiteLLM.

LiteLLM hides two layers of retries; both are switched off, and `retry` does what is left. It asks
once per request, always says `max_tokens`, and sends only settings that were set.
"""

from __future__ import annotations

import random
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evolve.chat import Message, Reply, Request
from evolve.errors import ModelError, ModelUnavailableError
from evolve.models.failures import RefusedRequestError, sort_failure
from evolve.models.loading import import_litellm
from evolve.models.protocol import Price, ReplyError
from evolve.models.retry import EmptyReplyError, RetryPolicy, call_with_retries

if TYPE_CHECKING:
    from collections.abc import Callable

_PREFLIGHT_POLICY = RetryPolicy(first_seconds=0.3, max_requests=4)
# One refused request may be the fault of its prompt; several in a row are that of the settings.
_MAX_REFUSALS = 3


class LiteLLMModel:
    """A model behind LiteLLM; safe to call from many threads.

    Args:
        name: Name as LiteLLM knows it: `provider/model`.
        api_base: Address of the provider, when it is not its usual one.
        timeout_seconds: Longest wait for one request, before it is made again.
        policy: How often and how long to retry.
        jitter: Gives numbers in [0, 1) for the waits between retries.
    """

    def __init__(
        self,
        name: str,
        *,
        api_base: str | None = None,
        timeout_seconds: float = 120.0,
        policy: RetryPolicy | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.api_base = api_base
        self.timeout_seconds = timeout_seconds
        self._policy = policy or RetryPolicy()
        # Decides only how long to wait, never what a run finds.
        self._jitter = jitter or random.Random(name).random  # noqa: S311
        self._closed = threading.Event()
        self._refusals = 0

    def complete(self, request: Request, deadline_seconds: float) -> Reply:
        """Answers a request.

        Raises:
            ModelError: The model cannot be used.
            ModelUnavailableError: No answer came within the deadline.
            ReplyError: The answer cannot be used.
        """
        return self._complete(request, deadline_seconds, self._policy)

    def preflight(self, deadline_seconds: float = 20.0) -> None:
        """Asks for one token.

        Raises:
            ModelError: The model cannot be used; the message has the remedy.
            ModelUnavailableError: Nothing answers at its address.
        """
        request = Request("preflight", (Message("user", "Reply with: ok"),), max_tokens=1)
        try:
            self._complete(request, deadline_seconds, _PREFLIGHT_POLICY)
        except ModelUnavailableError as error:
            raise ModelUnavailableError(f"{error}; {self._remedy}") from error
        except ReplyError:
            return  # one token is often no whole reply; that something answered is enough

    def find_price(self) -> Price | None:
        """Gives the price in LiteLLM's table, or `None` when the model is not in it."""
        return self._price

    def close(self) -> None:
        """Wakes calls that wait for a retry, which then raise `ModelUnavailableError`."""
        self._closed.set()

    def _complete(self, request: Request, deadline_seconds: float, policy: RetryPolicy) -> Reply:
        settings = self._settings  # the import of LiteLLM must not eat the call's deadline
        start = time.monotonic()

        def send(seconds: float) -> Reply:
            answer = self._send(request, min(seconds, self.timeout_seconds), settings)
            return _check(self._read(answer, time.monotonic() - start))

        return call_with_retries(
            send,
            where=f"model {self.name!r}{self._address}",
            deadline_seconds=deadline_seconds,
            policy=policy,
            jitter=self._jitter,
            wait=self._closed.wait,
        )

    def _send(self, request: Request, seconds: float, settings: dict[str, Any]) -> Any:
        settings = {**settings, "max_tokens": request.max_tokens}
        if request.temperature is not None:
            settings["temperature"] = request.temperature
        if request.seed is not None and self._takes_seed:
            settings["seed"] = request.seed
        messages = [{"role": message.role, "content": message.text} for message in request.messages]
        try:
            answer = self._litellm.completion(
                model=self.name, messages=messages, timeout=seconds, max_retries=0, **settings
            )
        except Exception as error:  # LiteLLM's exceptions have no common base
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
        content = choice.message.content if choice is not None else None
        return Reply(
            text=_clean(content) if isinstance(content, str) else "",
            model=self.name,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=self._find_cost(answer, prompt_tokens, completion_tokens),
            seconds=seconds,
            finish_reason=str((choice.finish_reason if choice is not None else None) or "stop"),
        )

    def _find_cost(self, answer: Any, prompt_tokens: int, completion_tokens: int) -> float | None:
        cost = answer._hidden_params.get("response_cost")  # noqa: SLF001 (it is nowhere else)
        if cost is not None and self._price is not None:
            return float(cost)
        if self._price is None or not prompt_tokens + completion_tokens:
            return None
        return (
            prompt_tokens * self._price.prompt_usd + completion_tokens * self._price.completion_usd
        )

    @cached_property
    def _litellm(self) -> Any:
        return import_litellm()

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """Gives what every request of this model carries."""
        settings: dict[str, Any] = {}
        if self.api_base is not None:
            settings["api_base"] = self.api_base
            # A local server takes any key, but the client insists on having one.
            if self._missing_keys:
                settings["api_key"] = "none"
        return settings

    @cached_property
    def _takes_seed(self) -> bool:
        supported = self._litellm.get_supported_openai_params(model=self.name)
        return supported is None or "seed" in supported

    @cached_property
    def _price(self) -> Price | None:
        try:
            info = self._litellm.get_model_info(self.name)
        except Exception:  # noqa: BLE001 (LiteLLM raises a bare one for unknown models)
            return None
        prompt_usd, completion_usd = info["input_cost_per_token"], info["output_cost_per_token"]
        if not prompt_usd and not completion_usd:
            return None
        return Price(float(prompt_usd or 0.0), float(completion_usd or 0.0))

    @cached_property
    def _missing_keys(self) -> tuple[str, ...]:
        missing = self._litellm.validate_environment(self.name)["missing_keys"]
        return tuple(key for key in missing if "KEY" in key or "TOKEN" in key)

    @property
    def _address(self) -> str:
        return f" at {self.api_base}" if self.api_base is not None else ""

    @cached_property
    def _remedy(self) -> str:
        if self.api_base is not None:
            return "check that the server runs there, serves this model and takes the key"
        if self._missing_keys:
            return f"set the environment variable {' or '.join(self._missing_keys)}"
        return "check the model's name, its key and your connection"


def _check(reply: Reply) -> Reply:
    if reply.text.strip():
        return reply
    if reply.finish_reason == "content_filter":
        raise ReplyError("the provider's content filter stopped the reply", reply)
    raise EmptyReplyError(reply)


def _clean(text: str) -> str:
    """Replaces lone surrogates, which JSON lets through and no file or database takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
