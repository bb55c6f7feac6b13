"""The reactor without a socket: rounds come when something asks for them."""

from __future__ import annotations

import asyncio
import threading

from broker._core.reactor import Reactor
from tests.support.core import Core


def test_another_thread_wakes_it() -> None:
    async def woken() -> None:
        loop = asyncio.get_running_loop()
        shard = Core().shard
        reactor = Reactor(shard, on_rare=lambda _: None, on_batch=lambda: None, again=loop.call_soon)
        round_done = asyncio.Event()

        def on_ready() -> None:
            reactor.on_ready()
            round_done.set()

        loop.add_reader(reactor.fileno(), on_ready)
        try:
            before = reactor.figures()["rounds"]
            thread = threading.Thread(target=reactor.wake)
            thread.start()
            async with asyncio.timeout(10):
                await round_done.wait()
            thread.join()
            assert reactor.figures()["rounds"] == before + 1
        finally:
            loop.remove_reader(reactor.fileno())
            reactor.close()

    asyncio.run(woken())
