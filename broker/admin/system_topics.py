"""`$SYS`: an account's own figures as messages, for those of its applications that subscribe to them.

Here belong the topics, when they are published, and how much of the loop that may take. Not here: the figures
(``figures``), who may subscribe (``broker.policy``), and who does (the core). Nobody is billed for them, none is ever
retained, and for an account without a reader nothing is worked out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from broker.accounts.directory import Directory
from broker.accounts.warnings import QuotaWarning
from broker.admin.figures import Figures
from broker.admin.views import QuotaView, StatsView
from broker.errors import Unavailable
from broker.reasons import DropReason

log = logging.getLogger(__name__)

ROOT = "$SYS/account/"
LEAST_S = 1.0  # between two times that newcomers are told: who subscribes again and again changes nothing
REST = 9  # times as long as the figures of an account took: a tenth of the loop's time at most
REST_S = 1.0
BUCKETS_AT_ONCE = 1000


class SystemSource(Protocol):
    """What is asked of the core, and told it."""

    def system_readers(self, first: int, count: int) -> tuple[list[int], int]:
        """Give accounts with a connected application and a subscription below `$SYS`; see the shard's."""
        ...

    def account_drops(self, account_id: int) -> Sequence[int]:
        """Give what an account's sessions did not get, by ``DropReason``."""
        ...

    def tell_figure(self, account_id: int, topic_name: str, payload: bytes) -> None:
        """Publish with QoS 0, for nobody's usage."""
        ...

    def announce(self, account_id: int, topic_name: str, payload: bytes) -> None:
        """Publish the broker's own word with QoS 1, for nobody's usage."""
        ...


class SystemTopics:
    """Publishes the figures of accounts that read them: every ``interval_s``, and when somebody subscribes."""

    def __init__(self, directory: Directory, figures: Figures, core: SystemSource, interval_s: float) -> None:
        self._directory = directory
        self._figures = figures
        self._core = core
        self._interval_s = interval_s
        self._asked: dict[int, None] = {}
        self._woken = asyncio.Event()

    def greet(self, account_id: int) -> None:
        """Tell an account soon: somebody has subscribed."""
        if account_id in self._directory.accounts:
            self._asked[account_id] = None
            self._woken.set()

    def warn(self, warning: QuotaWarning) -> None:
        """Tell an account that it comes to the end of what its plan allows."""
        self._core.announce(warning.account_id, f"{ROOT}warnings/{warning.kind}", warning.payload())

    async def run(self) -> None:
        """Publish until the task is cancelled."""
        loop = asyncio.get_running_loop()
        next_at = loop.time() + self._interval_s
        while True:
            await self._wait(next_at - loop.time())
            try:
                await self.tell_newcomers()
                if loop.time() >= next_at:
                    next_at = loop.time() + self._interval_s
                    await self.tell_all()
            except Exception:
                log.exception("figures below $SYS could not be published")
            await asyncio.sleep(LEAST_S)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    async def tell_newcomers(self) -> None:
        """Tell accounts in which somebody has subscribed, with what they were warned of in this month."""
        asked, self._asked = self._asked, {}
        for account_id in asked:
            for warning in self._directory.usage.given(account_id):
                self._core.tell_figure(account_id, f"{ROOT}warnings/{warning.kind}", warning.payload())
            await self._tell(account_id)

    async def tell_all(self) -> None:
        """Tell all accounts that have somebody who reads."""
        bucket, more = 0, True
        while more:
            readers, bucket = self._core.system_readers(bucket, BUCKETS_AT_ONCE)
            more = bucket > 0
            for account_id in readers:
                if account_id in self._directory.accounts:  # else it is an open listener's, or an embedder's own
                    await self._tell(account_id)
            await asyncio.sleep(0)

    async def _tell(self, account_id: int) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            quota = await self._figures.quota(account_id)  # counts until now
            stats = await self._figures.stats(account_id, counted=False)
        except Unavailable:
            return  # the disk cannot be read now: the next time, then
        for name, value in figures_of(stats, quota, self._core.account_drops(account_id)):
            self._core.tell_figure(account_id, ROOT + name, str(value).encode())
        await asyncio.sleep(min(REST * (loop.time() - started), REST_S))


def figures_of(stats: StatsView, quota: QuotaView, drops: Sequence[int]) -> Iterator[tuple[str, int | float]]:
    """Give each figure under its name: whole numbers, rates and percentages with one decimal."""
    devices = stats.devices
    yield from (
        ("devices/total", devices.total),
        ("devices/active", devices.active),
        ("devices/inactive", devices.inactive),
        ("devices/error", devices.error),
        ("devices/online", devices.online),
        ("connections/current", stats.connections),
        ("connections/peak_today", max(stats.connections, stats.connections_peak_today)),
    )
    for protocol, count in stats.connections_by_protocol.items():
        yield f"connections/{protocol}", count
    yield from (
        ("messages/today", stats.messages_today),
        ("messages/this_month", stats.messages_this_month),
        ("messages/per_second_in", round(stats.messages_per_s_in, 1)),
        ("messages/per_second_out", round(stats.messages_per_s_out, 1)),
        ("bandwidth/today_bytes", stats.bytes_today),
        ("bandwidth/this_month_bytes", stats.bytes_this_month),
        ("retained/count", stats.retained_count),
        ("retained/bytes", stats.retained_bytes),
        ("sessions/persistent", devices.persistent_sessions),
        ("sessions/queued_messages", devices.queued_messages),
        ("quota/messages_percent", _percent(quota.messages, quota.messages_per_month)),
        ("quota/bandwidth_percent", _percent(quota.bytes, quota.bytes_per_month)),
        ("quota/devices_percent", _percent(quota.devices, quota.devices_maximum)),
        ("dropped/total", sum(drops)),
    )
    for reason in DropReason:
        if drops[reason]:
            yield f"dropped/{reason.name.lower()}", drops[reason]


def _percent(used: int, maximum: int) -> float:
    return round(100 * used / maximum, 1)
