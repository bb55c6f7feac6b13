"""Whose handshake is next, and how long the others rest for those who are connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from broker.net.handshake_turns import NS_PER_S, RESTS, HandshakeTurns

TOOK_NS = 1_000_000


class Work:
    """Steps that note when they ran; each takes a millisecond of invented work."""

    def __init__(self) -> None:
        self.worked_ns = 0
        self.done: list[tuple[str, float]] = []

    def step(self, name: str) -> Callable[[], str]:
        def do() -> str:
            self.worked_ns += TOOK_NS
            self.done.append((name, asyncio.get_running_loop().time()))
            return name

        return do

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.done]

    def shortest_rest_s(self) -> float:
        times = [at for _, at in self.done]
        return min(later - earlier for earlier, later in pairwise(times))


def test_each_step_has_a_turn_of_the_loop_in_the_order_they_were_asked_for() -> None:
    async def scene() -> None:
        work, turns, seen = Work(), HandshakeTurns(), []
        steps = [asyncio.create_task(turns.step(work.step(name))) for name in "abcd"]
        while not all(step.done() for step in steps):
            seen.append(len(work.done))
            await asyncio.sleep(0)
        assert [step.result() for step in steps] == list("abcd") == work.names
        assert {later - earlier for earlier, later in pairwise(seen)} <= {0, 1}

    asyncio.run(scene())


def test_while_messages_come_others_have_three_times_as_long() -> None:
    async def scene() -> None:
        work = Work()
        turns = HandshakeTurns(lambda: True, lambda: work.worked_ns)
        await asyncio.gather(*(turns.step(work.step(name)) for name in "abc"))
        await turns.step(work.step("d"))  # nobody waited meanwhile: it rests as well
        assert work.names == list("abcd")
        assert work.shortest_rest_s() >= RESTS * TOOK_NS / NS_PER_S * 0.99  # timers are that exact

    asyncio.run(scene())


def test_who_is_cancelled_has_no_turn_and_keeps_nobody_from_his() -> None:
    async def scene() -> None:
        work, turns = Work(), HandshakeTurns()
        steps = [asyncio.create_task(turns.step(work.step(name))) for name in "abc"]
        await asyncio.sleep(0)
        steps[0].cancel()
        steps[1].cancel()
        assert await steps[2] == "c"
        assert work.names == ["c"]
        last = asyncio.create_task(turns.step(work.step("d")))
        await asyncio.sleep(0)
        last.cancel()
        assert await turns.step(work.step("e")) == "e"
        assert work.names == ["c", "e"]

    asyncio.run(scene())


def test_a_step_that_fails_fails_for_him_alone() -> None:
    def fails() -> None:
        raise ConnectionError("it was broken off")

    async def scene() -> None:
        work, turns = Work(), HandshakeTurns()
        failing, next_one = turns.step(fails), turns.step(work.step("a"))
        with pytest.raises(ConnectionError):
            await failing
        assert await next_one == "a"

    asyncio.run(scene())
