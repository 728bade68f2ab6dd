"""Waiting for requests that one thread serves."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from evolve.models.event_loop import wait_for


async def run_apart(function: Any, *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


async def find_threads() -> tuple[int, int]:
    return threading.get_ident(), await run_apart(threading.get_ident)


def test_what_prepares_fast_stays_in_the_loops_thread() -> None:
    loops, done_in = wait_for(find_threads(), 10, prepares_fast=True)
    assert loops == done_in != threading.get_ident()


def test_what_may_wait_gets_a_thread_of_its_own() -> None:
    loops, done_in = wait_for(find_threads(), 10, prepares_fast=False)
    assert len({loops, done_in, threading.get_ident()}) == 3


@pytest.mark.parametrize("prepares_fast", [True, False])
def test_an_error_in_preparing_reaches_whoever_waits(prepares_fast: bool) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        wait_for(run_apart(int, "x"), 10, prepares_fast=prepares_fast)


def test_a_slow_lookup_of_a_host_holds_up_no_other_request(monkeypatch: Any) -> None:
    waiting, free = threading.Event(), threading.Event()

    def look_up(*_: Any) -> list[Any]:
        waiting.set()
        assert free.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def resolve() -> Any:
        return await asyncio.get_running_loop().getaddrinfo("example.invalid", 80)

    slow = threading.Thread(target=lambda: wait_for(resolve(), 20, prepares_fast=True))
    slow.start()
    assert waiting.wait(10)
    assert wait_for(asyncio.sleep(0, "served"), 10, prepares_fast=True) == "served"
    free.set()
    slow.join()
