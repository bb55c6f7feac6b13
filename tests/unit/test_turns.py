"""Rules of long work in the loop that MQTT shares."""

from __future__ import annotations

import asyncio
import itertools

from api.turns import SHORT_BYTES, Turns


def test_many_with_long_work_do_one_step_in_each_turn_of_the_loop() -> None:
    steps: list[int] = []
    seen: list[int] = []

    async def work(turns: Turns, number: int) -> None:
        for _ in range(10):
            await turns.next()
            steps.append(number)

    async def watch() -> None:
        while True:
            seen.append(len(steps))
            await asyncio.sleep(0)

    async def body() -> None:
        turns = Turns()
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(work(turns, number) for number in range(50)))
        watching.cancel()

    asyncio.run(body())
    assert len(steps) == 500
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 1
    assert set(steps[:50]) == set(range(50))  # each in its turn


def test_one_account_s_many_requests_have_no_more_of_the_loop_than_another_s_one() -> None:
    steps: list[int] = []

    async def work(turns: Turns, account_id: int) -> None:
        async with turns.of(account_id):
            for _ in range(20):
                await turns.next()
                steps.append(account_id)

    async def body() -> Turns:
        turns = Turns()
        await asyncio.gather(*(work(turns, 1) for _ in range(20)), work(turns, 2))
        return turns

    turns = asyncio.run(body())
    assert steps[:40].count(2) >= 19
    assert len(steps) == 21 * 20
    assert not turns._of_account


def test_who_gives_up_holds_nobody_up() -> None:
    async def body() -> None:
        turns = Turns()

        async def work() -> None:
            async with turns.of(1):
                while True:
                    await turns.next()

        tasks = [asyncio.create_task(work()) for _ in range(3)]
        for _ in range(10):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        async with asyncio.timeout(5), turns.of(1):
            await turns.between(SHORT_BYTES + 1)
        assert not turns._of_account

    asyncio.run(body())
