"""All webhooks of one broker: each active one has a runner, and all share what they may take.

Here belong following changes, warnings, and the slots for requests. Not here: one webhook's work (``runner``).
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from broker.accounts.endpoints import parse_url
from broker.accounts.records import Webhook
from broker.accounts.warnings import QuotaWarning
from broker.accounts.webhooks import WARNINGS, Webhooks
from broker.config import WebhooksConfig
from broker.errors import BadRequest
from broker.webhooks.addresses import NoAddress, Resolver
from broker.webhooks.batches import Batch, Event, Waiting, told
from broker.webhooks.pace import Pace
from broker.webhooks.runner import Runner, Subscribe, Surroundings
from broker.webhooks.sending import DeliveryFailed, post, signature

log = logging.getLogger(__name__)

LOOK_S = 1.0


class WebhookService:
    """Delivers what happens to the endpoints of accounts, from ``start`` to ``stop``.

    ``subscribe`` makes a local subscription in an account; ``wall_s`` and ``monotonic_s`` are its only time. What has
    not been delivered at the stop is lost.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        subscribe: Subscribe,
        config: WebhooksConfig,
        *,
        wall_s: Callable[[], int],
        monotonic_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        resolver: Resolver | None = None,
        context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._webhooks = webhooks
        self._config = config
        self._wall_s = wall_s
        self._resolver = resolver or Resolver(config.allowed_networks)
        self._make_context = context
        self._context: asyncio.Task[ssl.SSLContext] | None = None
        self._slots = asyncio.Semaphore(config.deliveries_at_once_maximum)
        self._account_slots: dict[int, asyncio.Semaphore] = {}
        self._runners: dict[str, Runner] = {}
        self._waiting: dict[str, Waiting] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._around = Surroundings(
            subscribe=subscribe,
            deliver=self._deliver,
            pause=self._pause,
            pace=Pace(config.messages_per_s_maximum, config.account_messages_per_s_maximum, monotonic_s, sleep),
            wall_s=wall_s,
            sleep=sleep,
            random=random.random,
            pause_after_s=config.pause_after_s,
        )

    def start(self) -> None:
        """Begin with all that are active, and follow what changes."""
        if not self._config.enabled:
            return
        for webhook in self._webhooks.all():
            self._follow(webhook.webhook_id, webhook)
        self._webhooks.watch(self._follow)
        self._looking = asyncio.get_running_loop().create_task(self._look(), name="webhooks")

    async def stop(self) -> None:
        """End all of it; requests under way are cut."""
        self._webhooks.watch(lambda _webhook_id, _webhook: None)
        for webhook_id in list(self._runners):
            self._end(webhook_id)
        tasks = [*self._ending, *(one for one in (self._looking, self._context) if one is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._resolver.close()

    def warn(self, warning: QuotaWarning) -> None:
        """Tell the webhooks of an account that it comes to the end of what its plan allows."""
        event = Event(WARNINGS, self._wall_s(), warning.payload())
        for webhook in self._webhooks.of(warning.account_id):
            if webhook.webhook_id in self._runners and WARNINGS in webhook.events.split(","):
                self._waiting[webhook.webhook_id].put(event)

    # ------------------------------------------------------------ who works

    def _follow(self, webhook_id: str, webhook: Webhook | None) -> None:
        """Let a webhook work as it is now; what waits for it stays, unless it is gone."""
        self._end(webhook_id)
        if webhook is None:
            self._waiting.pop(webhook_id, None)
            return
        if not webhook.active:
            return
        figures = self._webhooks.figures(webhook_id)
        waiting = self._waiting.get(webhook_id)
        if waiting is None:
            limits = self._config.queue_messages_maximum, self._config.queue_maximum_bytes
            waiting = self._waiting[webhook_id] = Waiting(*limits, figures)
        figures.failures = figures.failing_since = figures.next_attempt_at = 0  # it is a new beginning
        runner = self._runners[webhook_id] = Runner(webhook, waiting, figures, self._around)
        runner.start()

    def _end(self, webhook_id: str) -> None:
        runner = self._runners.pop(webhook_id, None)
        for task in [] if runner is None else runner.stop():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _pause(self, webhook: Webhook, reason: str) -> None:
        await self._webhooks.pause(webhook.account_id, webhook.webhook_id, reason, self._wall_s())

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for runner in self._runners.values():
                runner.look()

    # ------------------------------------------------------------ one delivery

    async def _deliver(self, webhook: Webhook, batch: Batch) -> None:
        async with self._slot(webhook.account_id):
            try:
                async with asyncio.timeout(self._config.timeout_s):
                    await self._send(webhook, batch)
            except TimeoutError as error:
                raise DeliveryFailed(f"it took longer than {self._config.timeout_s:g} s") from error
            except NoAddress as error:
                raise DeliveryFailed(str(error)) from error

    async def _send(self, webhook: Webhook, batch: Batch) -> None:
        try:
            target = parse_url(webhook.url, allow_http=self._config.allow_http)
        except BadRequest as error:  # the configuration was another one when it was made
            raise DeliveryFailed("its URL is not allowed here") from error
        address = await self._resolver.find(webhook.account_id, target.host, target.port)
        now_s = self._wall_s()
        dropped = sum(self._webhooks.figures(webhook.webhook_id).dropped.values())
        body = told(webhook.webhook_id, batch, dropped)
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", "iot-broker"),
            ("Webhook-Id", batch.delivery_id),
            ("Webhook-Timestamp", str(now_s)),
            ("Webhook-Signature", signature(self._webhooks.secret(webhook), batch.delivery_id, now_s, body)),
        ]
        context = await self._tls() if target.scheme == "https" else None
        await post(target, address, headers, body, context)

    async def _tls(self) -> ssl.SSLContext:
        """Give the context of all endpoints; reading whom the system trusts takes too long for the loop."""
        if self._context is None or (self._context.done() and self._context.exception() is not None):
            making = asyncio.to_thread(self._make_context)
            self._context = asyncio.get_running_loop().create_task(making, name="webhooks' TLS")
        return await asyncio.shield(self._context)

    @asynccontextmanager
    async def _slot(self, account_id: int) -> AsyncIterator[None]:
        """Wait for a slot of the account's own, and for one of all."""
        own = self._account_slots.get(account_id)
        if own is None:
            own = asyncio.Semaphore(self._config.account_deliveries_at_once_maximum)
            self._account_slots[account_id] = own
        async with own, self._slots:
            yield
