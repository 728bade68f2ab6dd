"""Any provider through LiteLLM.

LiteLLM is imported late, quietly and without the network. It hides two layers of retries, which
are switched off. The model asks once, streams where the provider can, and sends only settings that
were set and that the provider has not refused.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from importlib import import_module
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as urlquote
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from evolve.errors import ModelError, UsageError
from evolve.keys import PASSWORD
from evolve.models.budget import GENEROUS_TOKENS, Price, estimate_tokens
from evolve.models.model import Model, RefusedSettingError, ReplyError
from evolve.models.providers import (
    AcceptedSettings,
    RefusedRequestError,
    describe_failure,
    sort_failure,
)
from evolve.records.chat import Message, Reply, Request

if TYPE_CHECKING:
    from evolve.models.transport import Completion

_import_lock = threading.Lock()
# One refused request may be the fault of its prompt; several in a row are that of the settings.
_MAX_REFUSALS = 3
# The deadline is kept here. LiteLLM keeps an HTTP client for each time-out, so it always
# gets the same one.
_NEVER_SECONDS = 86_400.0
# Providers of which it is known that the key is all that they would send.
_KEYLESS = {"openai", "hosted_vllm", "ollama", "ollama_chat"}
# These have paths of their own, and speak the OpenAI protocol under `/v1`.
_OWN_PATHS = {"ollama", "ollama_chat"}
_CONNECT_SECONDS = 30.0
# Models that think refuse to begin with less room.
_PREFLIGHT_TOKENS = 16
# Without a limit these answer with an error or with very little.
_NEEDS_LIMIT = {"anthropic", "azure_ai", "bedrock", "databricks", "vertex_ai"}


class LiteLLMModel(Model):
    """A model behind LiteLLM; safe to call from many threads.

    Args:
        name: Name as LiteLLM knows it: `provider/model`.
        api_base: Address of the provider, when it is not its usual one.
        sends_key: Whether the provider's key may go to that address.
        idle_seconds: Longest silence within an answer that has begun.
        tell: Called with a line about each setting that is left out.
        changes: What requests have otherwise than usual, as `AcceptedSettings` takes it.

    Raises:
        UsageError: A setting to change is unknown.
    """

    def __init__(
        self,
        name: str,
        *,
        api_base: str | None = None,
        sends_key: bool = True,
        idle_seconds: float = 120.0,
        tell: Callable[[str], None] = lambda _: None,
        **changes: Any,
    ) -> None:
        super().__init__(name)
        self.api_base = api_base
        self._sends_key = sends_key
        self._idle_seconds = idle_seconds
        self._tell = tell
        self._accepted = AcceptedSettings(name, **changes)
        self._refusals = 0

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        """Makes one request.

        Raises:
            RetryableError: No answer; another request may get one.
            RefusedSettingError: The provider refused a setting, which is left out from now on.
            ModelError: The model cannot be used.
            ReplyError: The answer cannot be used.
        """
        base = self._settings  # the import of LiteLLM must not count as the model's time

        from evolve.models.transport import wait_for  # needs packages that LiteLLM brings

        limit = request.max_tokens
        if limit is None and self._provider in _NEEDS_LIMIT:
            limit = self.find_most_tokens() or GENEROUS_TOKENS
        sent = self._accepted.choose(request, limit, self._unknown)
        try:
            with self.incoming.answer() as on_text:
                completion: Completion = wait_for(
                    self._ask({**base, **self._accepted.spell(sent, self._provider)}, on_text),
                    timeout_seconds,
                )
        except Exception as error:  # LiteLLM's exceptions have no common base
            raise self._translate(error, sent) from error
        self._refusals = 0
        return self._read(completion)

    def prepare(self) -> Request:
        """Returns a request for a few tokens, with the settings that some providers refuse.

        Raises:
            UsageError: LiteLLM does not know who serves the model.
        """
        if self._provider is None:
            raise UsageError(
                f"model {self.name!r}: LiteLLM does not know its provider; write `provider/model`,"
                " for example `openai/gpt-4o-mini`, `anthropic/claude-sonnet-4-5`,"
                " `gemini/gemini-2.5-flash`, `ollama/qwen2.5-coder`, or `openai/NAME` with"
                " `--api-base` for a local server"
            )
        messages = (Message("system", "You are brief."), Message("user", "Reply with: ok"))
        return Request("preflight", messages, _PREFLIGHT_TOKENS, seed=1)

    def find_price(self) -> Price | None:
        """Returns the price in LiteLLM's table, or `None` when the model is not in it."""
        per_token = (self._info.get(f"{way}_cost_per_token") for way in ("input", "output"))
        prompt_usd, completion_usd = (float(usd or 0.0) for usd in per_token)
        if not prompt_usd and not completion_usd:
            return None
        return Price(prompt_usd, completion_usd, self._info.get("cache_read_input_token_cost"))

    def find_most_tokens(self) -> int | None:
        """Returns the most tokens of a reply: what its provider said, else LiteLLM's table."""
        if self._accepted.most_tokens is not None:
            return self._accepted.most_tokens
        most = self._info.get("max_output_tokens")
        return int(most) if most else None

    async def _ask(self, settings: dict[str, Any], on_text: Callable[[int], None]) -> Completion:
        import httpx

        from evolve.models.transport import LISTENER, Completion, Listener

        listener = Listener(on_text, self._idle_seconds)
        LISTENER.set(listener)
        timeout = httpx.Timeout(_NEVER_SECONDS, connect=_CONNECT_SECONDS)
        settings |= {"model": self.name, "timeout": timeout, "max_retries": 0}
        answer = await import_litellm().acompletion(**settings)
        if settings.get("stream"):
            return await listener.gather(_to_part(chunk) async for chunk in answer)
        completion = Completion()
        completion.add(_to_part(answer))
        return completion

    def _translate(self, error: Exception, sent: dict[str, Any]) -> Exception:
        """Returns our error for one of LiteLLM; a setting that was refused is left out after it."""
        done = self._accepted.learn(error, sent)
        if done:
            self._tell(f"model {self.name!r}: {done} from now on ({describe_failure(error)})")
        if done is not None:
            return RefusedSettingError(done)
        failure = sort_failure(error, self._find_remedy(error))
        if isinstance(failure, RefusedRequestError):
            self._refusals += 1
            if self._refusals < _MAX_REFUSALS:
                return ReplyError(f"the provider refused the request: {failure}")
            failure = ModelError(
                f"{failure}; the provider refused {self._refusals} requests in a row, check the"
                " model's settings, and see `drop` in docs/reference/models.md"
            )
        if isinstance(failure, ModelError):
            return type(failure)(f"model {self.name!r}{self.address}: {failure}")
        return failure

    def _read(self, completion: Completion) -> Reply:
        usage = completion.usage
        prompt_tokens = _count(usage, "prompt_tokens")
        completion_tokens = _count(usage, "completion_tokens")
        read = getattr(usage, "prompt_tokens_details", None)
        written = getattr(usage, "completion_tokens_details", None)
        thinking_tokens = _count(written, "reasoning_tokens")
        if not prompt_tokens + completion_tokens:
            thinking_tokens = estimate_tokens(completion.thinking)
        return Reply(
            # Lone surrogates come through JSON, and no file or database takes them.
            text=completion.text.encode("utf-8", "replace").decode("utf-8"),
            model=self.name,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cached_tokens=min(_count(read, "cached_tokens"), prompt_tokens),
            thinking_tokens=thinking_tokens,
            finish_reason=completion.finish_reason or "stop",
        )

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """Returns what every request of this model carries."""
        settings: dict[str, Any] = {}
        if self.api_base is not None:
            settings["api_base"] = _add_password(self.api_base)
            # A local server takes any key, but the client insists on having one.
            if self._missing_keys or not self._sends_key:
                settings["api_key"] = "none"
            if not self._sends_key and self._provider not in _KEYLESS:
                raise ModelError(
                    f"model {self.name!r}{self.address}: the run's folder names this address, and "
                    f"you have not: if your key may go there, add --api-base {quote(self.api_base)}"
                )
        return settings

    @cached_property
    def _unknown(self) -> set[str]:
        """Returns settings that LiteLLM knows the model not to take."""
        litellm = import_litellm()
        supported = litellm.get_supported_openai_params(model=self.name)
        unknown = set() if supported is None or "seed" in supported else {"seed"}
        # A compatible server is asked and may refuse, for LiteLLM does not know what it can do.
        if self.api_base is None and not litellm.supports_response_schema(model=self.name):
            unknown.add("response_format")
        return unknown

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        """Returns what LiteLLM's table says of the model, nothing when it is not in it."""
        try:
            info: Mapping[str, Any] = import_litellm().get_model_info(self.name)
        except Exception:  # noqa: BLE001 (LiteLLM raises a bare one for unknown models)
            return {}
        return info

    @cached_property
    def _provider(self) -> str | None:
        """Returns who serves the model, or `None` when its name does not tell."""
        try:
            provider: str = import_litellm().get_llm_provider(self.name)[1]
        except import_litellm().BadRequestError:
            return None
        return provider

    @cached_property
    def _missing_keys(self) -> tuple[str, ...]:
        missing = import_litellm().validate_environment(self.name)["missing_keys"]
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
            proxy = _find_proxy(self.api_base)
            return f"check that the server runs there, serves this model and takes {key}{proxy}"
        if variables:
            return f"set the environment variable {variables}"
        return "check the model's name, its key and your connection"

    def _find_remedy(self, error: Exception) -> str:
        if getattr(error, "status_code", None) == 404 and self.api_base is not None:
            parts = urlsplit(self.api_base)
            if parts.path in {"", "/"}:
                return f"try {self.api_base.rstrip('/')}/v1, or {self.remedy}"
            if self._provider in _OWN_PATHS and parts.path == "/v1":
                return f"try {self.api_base.removesuffix('/v1')}, or {self.remedy}"
        return self.remedy


def _add_password(address: str) -> str:
    """Returns an address with the password of the environment where it has only a user's name."""
    parts, password = urlsplit(address), os.environ.get(PASSWORD, "")
    if not parts.username or parts.password or not password:
        return address
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{urlquote(password, safe='')}@{host}").geturl()


def _find_proxy(address: str) -> str:
    """Returns a note on the proxy through which an address is asked, empty where there is none."""
    parts, proxies = urlsplit(address), getproxies()
    name = next((name for name in (parts.scheme, "all") if proxies.get(name)), "")
    if not name or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    proxy = urlsplit(proxies[name])
    return (
        f"; it is asked through the proxy {proxy.netloc.rpartition('@')[2] or proxy.path}"
        f" ({name.upper()}_PROXY): to ask it directly, add {parts.hostname} to NO_PROXY"
    )


def _to_part(answer: Any) -> dict[str, Any]:
    """Returns an answer of LiteLLM, whole or a part of a stream, as servers send it."""
    choices = []
    for choice in answer.choices[:1]:
        said = getattr(choice, "delta", None) or getattr(choice, "message", None)
        delta = {name: getattr(said, name, None) for name in ("content", "reasoning_content")}
        choices.append({"delta": delta, "finish_reason": choice.finish_reason})
    return {"choices": choices, "usage": getattr(answer, "usage", None)}


def _count(usage: Any, name: str) -> int:
    return int(getattr(usage, name, 0) or 0)


def import_litellm() -> Any:
    """Returns the module, imported once and silenced.

    Raises:
        ModelError: It cannot be imported.
    """
    with _import_lock:
        return _import_once()


@cache
def _import_once() -> Any:
    # Without these two, LiteLLM fetches tables from the network, and prints when it cannot.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    # Before the import, which warns as well.
    warnings.filterwarnings("ignore", module=r"(litellm|pydantic|openai|httpx)(\.|$)")
    # It makes hundreds of thousands of objects that stay: collecting garbage among them takes
    # half a second.
    collects = gc.isenabled()
    gc.disable()
    try:
        litellm: Any = import_module("litellm")
    except ImportError as error:
        raise ModelError(
            f"models: LiteLLM cannot be imported: {error}; install it again with `pip install"
            " --force-reinstall litellm`"
        ) from error
    finally:
        if collects:
            gc.enable()
    from evolve.models.transport import StreamingClient

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    # A reply that repeats itself is judged like any other.
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = 10**9
    litellm.aclient_session = StreamingClient()
    # Without a handler, Python prints what libraries warn of.
    for name in ("asyncio", "LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return litellm
