"""One thread that serves all requests in flight.

A thread that talks to a server of its own takes Python's lock at every step of it: with eight of
them and a fast server, more time goes into waiting for the lock than into the requests. Here the
threads of a run wait once for each request, and a single event loop does the talking.
"""

from __future__ import annotations

import asyncio
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


def wait_for(request: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """Runs a request in the loop's thread and gives its answer, from any other thread.

    Args:
        request: What to run.
        seconds: Deadline for the whole of it, however slowly its parts come in.

    Raises:
        TimeoutError: The deadline passed; the request is abandoned.
    """
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(request, seconds), _start_loop())
    try:
        return future.result()
    except TimeoutError:
        raise TimeoutError(f"no whole answer within {seconds:.3g} s") from None
    except BaseException:
        # An interrupt ends the waiting, and nobody is left to read the answer.
        future.cancel()
        raise


@cache
def _start_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="requests", daemon=True).start()
    return loop
