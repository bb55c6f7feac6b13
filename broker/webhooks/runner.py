"""One webhook at work: it reads what happens in its account, and sends it until it is taken.

Here belong subscribing, back-off, and the end of patience. Not here: the request itself (``sending``), the queue
(``batches``), and all webhooks together (``service``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.accounts.records import Webhook
from broker.accounts.webhooks import PRESENCE, TELEMETRY, WebhookFigures, filters_of
from broker.errors import BrokerError, BrokerStopped
from broker.local import MessageStream
from broker.webhooks.batches import Batch, Event, Waiting
from broker.webhooks.pace import Pace
from broker.webhooks.sending import DeliveryFailed
from broker.wire import Subscription

log = logging.getLogger(__name__)

NO_RETAINED = 2  # what was there before is no event
GATHERING_S = 0.25
FIRST_DELAY_S = 1.0
DELAY_MAXIMUM_S = 300.0
RESUBSCRIBE_S = 1.0
FAILURES_MINIMUM = 5  # before any is paused: one outage of the broker's own network is one failure
UNREAD = "unread"

Subscribe = Callable[[int, Sequence[Subscription]], MessageStream]


class Delivers(Protocol):
    """What sends a batch."""

    async def __call__(self, webhook: Webhook, batch: Batch) -> None:
        """Return when it was taken. Raises ``DeliveryFailed``."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What runners share. ``wall_s`` is seconds of UTC, ``random`` gives 0 to 1; ``pause`` ends a webhook's work."""

    subscribe: Subscribe
    deliver: Delivers
    pause: Callable[[Webhook, str], Awaitable[None]]
    pace: Pace
    wall_s: Callable[[], int]
    sleep: Callable[[float], Awaitable[object]]
    random: Callable[[], float]
    pause_after_s: int


class Runner:
    """Two tasks: one reads, at its pace and never waiting for the other, which sends."""

    def __init__(self, webhook: Webhook, waiting: Waiting, figures: WebhookFigures, around: Surroundings) -> None:
        self._webhook = webhook
        self._waiting = waiting
        self._figures = figures
        self._around = around
        self._stream: MessageStream | None = None
        self._unread = figures.dropped.get(UNREAD, 0)  # of subscriptions that have ended
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._send(), name=f"{self._webhook.webhook_id} sends"))
        if self._subscriptions():
            self._tasks.append(loop.create_task(self._read(), name=f"{self._webhook.webhook_id} reads"))

    def stop(self) -> list[asyncio.Task[None]]:
        """End soon; gives what can be waited for."""
        for task in self._tasks:
            task.cancel()
        return self._tasks

    def look(self) -> None:
        """Count what the core has dropped because it was not read."""
        if self._stream is not None and (unread := self._unread + sum(self._stream.dropped.values())):
            self._figures.dropped[UNREAD] = unread

    # ------------------------------------------------------------ what happens

    def _subscriptions(self) -> list[Subscription]:
        return [Subscription(one, 0, retain_handling=NO_RETAINED) for one in filters_of(self._webhook)]

    async def _read(self) -> None:
        while True:
            try:
                stream = self._around.subscribe(self._webhook.account_id, self._subscriptions())
                async with stream as self._stream:
                    await self._read_all(stream)
            except BrokerStopped:
                return
            except BrokerError as error:
                log.warning("webhook %s cannot read: %s", self._webhook.webhook_id, error)
            finally:
                self.look()
                self._unread = self._figures.dropped.get(UNREAD, 0)
                self._stream = None
            await self._around.sleep(RESUBSCRIBE_S)

    async def _read_all(self, stream: MessageStream) -> None:
        events = self._webhook.events.split(",")
        while True:
            await self._around.pace.take(self._webhook.account_id)
            message = await anext(stream)
            kind = PRESENCE if _is_presence(message.topic_name) else TELEMETRY
            if kind in events:
                self._waiting.put(Event(kind, self._around.wall_s(), message.payload, message.topic_name))

    # ------------------------------------------------------------ telling it

    async def _send(self) -> None:
        while True:
            await self._waiting.wait()
            await self._around.sleep(GATHERING_S)
            batch = self._waiting.batch()
            try:
                await self._around.deliver(self._webhook, batch)
            except DeliveryFailed as error:
                await self._failed(error)
            except Exception:
                log.exception("webhook %s failed", self._webhook.webhook_id)
                await self._failed(DeliveryFailed("the broker failed; its operator finds out more in the log"))
            else:
                self._succeeded(batch)

    def _succeeded(self, batch: Batch) -> None:
        self._waiting.settled()
        figures = self._figures
        figures.delivered += len(batch.events)
        figures.failures = figures.failing_since = figures.next_attempt_at = 0
        figures.last_success_at = self._around.wall_s()

    async def _failed(self, error: DeliveryFailed) -> None:
        """Note it, and wait for longer each time; or give up."""
        figures, now_s = self._figures, self._around.wall_s()
        figures.failures += 1
        figures.failing_since = figures.failing_since or now_s
        figures.last_error, figures.last_error_at = str(error), now_s
        patience_ends = now_s - figures.failing_since >= self._around.pause_after_s
        if error.gone or (patience_ends and figures.failures >= FAILURES_MINIMUM):
            await self._pause(str(error))
        delay_s = max(backoff_s(figures.failures, self._around.random()), error.retry_after_s)
        figures.next_attempt_at = now_s + int(delay_s)
        await self._around.sleep(delay_s)

    async def _pause(self, reason: str) -> None:
        try:
            await self._around.pause(self._webhook, reason)
        except BrokerError as error:  # it is being changed, or the disk takes nothing: next time
            log.warning("webhook %s could not be paused: %s", self._webhook.webhook_id, error)


def backoff_s(failures: int, chance: float) -> float:
    """Give how long to wait after so many failures in a row: 1 s, then twice as long each time, up to 5 minutes.

    ``chance`` (0 to 1) takes up to a fifth of it, so that those who failed together do not come back together.
    """
    return min(FIRST_DELAY_S * 2.0 ** min(failures - 1, 20), DELAY_MAXIMUM_S) * (1 - chance / 5)


def _is_presence(topic_name: str) -> bool:
    levels = topic_name.split("/")
    return len(levels) == 3 and levels[0] == "devices" and levels[2] == "presence"
