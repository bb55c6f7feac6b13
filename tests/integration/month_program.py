"""A broker in a process of its own whose wall clock says what it is told, for tests that kill it at a month's end.

Run as ``python -m tests.integration.month_program DATA_DIR UNIX_SECONDS``. It prints one JSON line when it serves, and
one after each line of its input: a number of seconds, by which it moves all of its clocks, or ``keep``, for which it
does at once what it does every second: it stores what was counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from broker import Broker, BrokerConfig
from broker.accounts import plans
from broker.admin import SystemClock

MESSAGES_PER_MONTH = 6_000
NS_PER_S = 10**9


class ToldClock(SystemClock):
    """A wall clock that began at ``wall_s``, seconds of UTC since 1970; its monotonic one is the machine's."""

    def __init__(self, wall_s: int) -> None:
        super().__init__()
        self._apart_ns = wall_s * NS_PER_S - time.time_ns()

    def wall_s(self) -> int:
        return self.wall_ns() // NS_PER_S

    def wall_ns(self) -> int:
        return super().wall_ns() + self._apart_ns


def configuration(data_dir: Path) -> BrokerConfig:
    return BrokerConfig.model_validate(
        {"data_dir": data_dir, "listeners": [{"host": "127.0.0.1", "port": 0}], "http": {"port": 0}}
    )


async def serve(data_dir: Path, wall_s: int) -> None:
    plan = plans.PLANS[plans.DEFAULT_PLAN]
    plans.PLANS[plan.name] = replace(plan, messages_per_month=MESSAGES_PER_MONTH, applications_reserved=0)
    broker = Broker(configuration(data_dir))
    broker._clock = ToldClock(wall_s)
    loop = asyncio.get_running_loop()
    async with broker:
        told = {"key": broker.first_key, "mqtt": broker.endpoint().port, "http": broker.http_url}
        _say(told)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            if line.strip() == "keep":
                assert broker._platform is not None
                assert await broker._platform.counting.keep()
            else:
                broker.advance_clock(float(line))
            _say({"wall_s": broker._clock.wall_s()})


def _say(told: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
