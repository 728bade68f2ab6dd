"""Imports LiteLLM late, quietly and without the network."""

from __future__ import annotations

import gc
import logging
import os
import threading
import warnings
from functools import cache
from importlib import import_module
from typing import Any

from evolve.errors import ModelError

_lock = threading.Lock()


def start_import() -> threading.Thread:
    """Imports LiteLLM in a thread beside other work: it takes seconds of processor time.

    An import that fails is reported by the first call that needs it.
    """
    # Not a daemon: a thread that is torn down in the middle of an extension module's import
    # can abort the whole process at its end.
    thread = threading.Thread(target=_import_silently, name="import-litellm", daemon=False)
    thread.start()
    return thread


def import_litellm() -> Any:
    """Returns the module, imported once and silenced.

    Raises:
        ModelError: It cannot be imported.
    """
    with _lock:
        return _import_once()


def _import_silently() -> None:
    try:
        import_litellm()
    except ModelError:
        return


@cache
def _import_once() -> Any:
    # Without these two, LiteLLM fetches tables from the network, and prints when it cannot.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    # Before the import, which warns as well.
    warnings.filterwarnings("ignore", module=r"(litellm|pydantic|openai|httpx)(\.|$)")
    # It makes hundreds of thousands of objects that stay: to look for garbage among them takes
    # half a second.
    collecting = gc.isenabled()
    gc.disable()
    try:
        litellm: Any = import_module("litellm")
    except ImportError as error:
        raise ModelError(
            f"models: LiteLLM cannot be imported: {error}; install it again with `pip install"
            " --force-reinstall litellm`"
        ) from error
    finally:
        if collecting:
            gc.enable()
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    # A reply that repeats itself is judged like any other.
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = 10**9
    _share_client(litellm)
    # Without a handler, Python prints what libraries warn of.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return litellm


def _share_client(litellm: Any) -> None:
    from evolve.models.streams import StreamingClient

    litellm.aclient_session = StreamingClient()
