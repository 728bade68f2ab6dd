"""One thread that serves all requests in flight.

A thread that talks to a server of its own takes Python's lock at every step of it: with eight of
them and a fast server, more time goes into waiting for the lock than into the requests. Here the
threads of a run wait once for each request, and a single event loop does the talking. There is
one loop and no more: LiteLLM binds queues of its own to the loop that it first sees.
"""

from __future__ import annotations

import asyncio
import atexit
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_STOP_SECONDS = 5.0
_prepares_fast: ContextVar[bool] = ContextVar("prepares_fast", default=False)
_lock = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


def wait_for(request: Coroutine[Any, Any, Any], seconds: float, *, prepares_fast: bool) -> Any:
    """Runs a request in the loop's thread and returns its answer, from any other thread.

    Args:
        request: What to run.
        seconds: Deadline for the whole of it, however slowly its parts come in.
        prepares_fast: Whether what the request gives to a thread of its own never waits for
            anything. It is then done in the loop's thread, which saves two changes of threads.

    Raises:
        TimeoutError: The deadline passed; the request is abandoned.
    """
    future = asyncio.run_coroutine_threadsafe(
        _run(request, seconds, prepares_fast=prepares_fast), _find_loop()
    )
    try:
        return future.result()
    except TimeoutError:
        raise TimeoutError(f"no whole answer within {seconds:.3g} s") from None
    except BaseException:
        # An interrupt ends the waiting, and nobody is left to read the answer.
        future.cancel()
        raise


async def _run(request: Coroutine[Any, Any, Any], seconds: float, *, prepares_fast: bool) -> Any:
    _prepares_fast.set(prepares_fast)
    return await asyncio.wait_for(request, seconds)


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
            # Whoever waits for a request gets its error; what libraries do beside it is theirs.
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
