"""Waiting for requests that one thread serves."""

import asyncio
import threading

import pytest

from evolve.models.transport import wait_for


async def find_thread() -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


async def fail() -> None:
    raise ValueError("an error in preparing")


def test_one_thread_does_the_talking_for_all() -> None:
    threads = {wait_for(find_thread(), 10) for _ in range(3)}
    assert len(threads) == 1
    assert threads.isdisjoint({threading.get_ident()})


def test_an_error_reaches_whoever_waits() -> None:
    with pytest.raises(ValueError, match="an error in preparing"):
        wait_for(fail(), 10)


def test_a_request_without_an_answer_is_abandoned() -> None:
    with pytest.raises(TimeoutError, match=r"no whole answer within 0\.1 s"):
        wait_for(asyncio.sleep(60), 0.1)
