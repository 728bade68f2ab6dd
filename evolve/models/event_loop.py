"""One thread that serves all requests in flight.

A thread that talks to a server of its own takes Python's lock at every step of it: with eight of
them and a fast server, more time goes into waiting for the lock than into the requests. Here the
threads of a run wait once for each request, and a single event loop does the talking.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def wait_for(request: Coroutine[Any, Any, Any], seconds: float, *, prepares_fast: bool) -> Any:
    """Runs a request in a loop's thread and gives its answer, from any other thread.

    Args:
        request: What to run.
        seconds: Deadline for the whole of it, however slowly its parts come in.
        prepares_fast: Whether what the request gives to a thread of its own never waits for
            anything. It is then done in the loop's thread, which saves two changes of threads.

    Raises:
        TimeoutError: The deadline passed; the request is abandoned.
    """
    future = asyncio.run_coroutine_threadsafe(
        asyncio.wait_for(request, seconds), _start_loop(prepares_fast=prepares_fast)
    )
    try:
        return future.result()
    except TimeoutError:
        raise TimeoutError(f"no whole answer within {seconds:.3g} s") from None
    except BaseException:
        # An interrupt ends the waiting, and nobody is left to read the answer.
        future.cancel()
        raise


class _InlineExecutor(ThreadPoolExecutor):
    """Does at once what it is given, but for the one thing that waits: looking up a host."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if function is socket.getaddrinfo:
            return super().submit(function, *args, **kwargs)
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 (whoever waits for the future raises it)
            future.set_exception(error)
        return future


@cache
def _start_loop(*, prepares_fast: bool) -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if prepares_fast:
        loop.set_default_executor(_InlineExecutor(thread_name_prefix="host-names"))
    threading.Thread(target=loop.run_forever, name="requests", daemon=True).start()
    return loop
