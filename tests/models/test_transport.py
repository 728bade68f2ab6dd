"""Waiting for requests that one thread serves."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from evolve.models.transport import wait_for


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


async def look_up() -> Any:
    return await asyncio.get_running_loop().getaddrinfo("localhost", 80)


def test_hosts_are_looked_up_beside_the_loop() -> None:
    assert wait_for(look_up(), 20, prepares_fast=True)
    assert any(thread.name.startswith("host-names") for thread in threading.enumerate())
