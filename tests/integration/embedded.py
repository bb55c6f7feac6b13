"""A broker inside the test's own process: its configuration, a loop that must be left clean, and threads for clients.

Here belong what all tests of embedding need. Not here: brokers in processes of their own (``served``).
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvloop

from broker import Broker, BrokerConfig

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


def config(data_dir: Path, *, open_mode: bool = False) -> BrokerConfig:
    return BrokerConfig.model_validate(
        {
            "data_dir": data_dir,
            "listeners": [{"host": "127.0.0.1", "port": 0, "open": open_mode}],
            "http": {"port": 0},
            "store_map_size_bytes": 64 * 1024 * 1024,
        }
    )


def port(broker: Broker, name: str = "mqtt") -> int:
    return next(one.port for one in broker.endpoints if one.name == name)


def open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def run(new_loop: NewLoop, body: Callable[[], Awaitable[Any]]) -> None:
    """Run in a new loop, which must be left without a task, and the process without a thread or descriptor more."""

    async def whole() -> None:
        loop = asyncio.get_running_loop()
        # What the loop opens for itself is not the broker's to count.
        loop.set_default_executor(ThreadPoolExecutor(1))
        await loop.run_in_executor(None, lambda: None)
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        server.close()
        await server.wait_closed()
        before = open_descriptors(), threading.active_count()
        await body()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        assert (open_descriptors(), threading.active_count()) == before

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(whole())


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)
