"""An account's webhooks: making, seeing, changing and removing them.

Here belong the verbs behind their routes, and what of a URL can be judged at once. Not here: delivering
(``broker.webhooks``), and HTTP (``api``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from broker.accounts.endpoints import may_be_told, parse_url
from broker.accounts.records import Webhook
from broker.accounts.webhooks import Webhooks, WebhookWish, check_topic_filter, filters_of
from broker.admin.clock import Clock
from broker.config import BrokerConfig
from broker.errors import BadRequest


@dataclass(frozen=True, slots=True)
class WebhookView:
    """A webhook and how it is doing since the start; times are seconds of UTC, None for never.

    ``secret`` is there when it was made just now, and never again. ``paused_reason`` says why the broker has paused
    it; empty where it has not.
    """

    webhook_id: str
    url: str
    events: tuple[str, ...]
    topic_filter: str
    active: bool
    created_at: int
    updated_at: int
    paused_at: int | None
    paused_reason: str
    queued: int
    delivered: int
    dropped: Mapping[str, int]
    failures: int
    last_success_at: int | None
    last_error: str
    last_error_at: int | None
    next_attempt_at: int | None
    secret: str = field(default="", repr=False)


class WebhookDesk:
    """Verbs about an account's webhooks; ``require_serving`` raises where nothing may be changed."""

    def __init__(
        self, webhooks: Webhooks, config: BrokerConfig, clock: Clock, require_serving: Callable[[], None]
    ) -> None:
        self._webhooks = webhooks
        self._config = config
        self._clock = clock
        self._require_serving = require_serving

    async def create(self, account_id: int, wish: WebhookWish) -> WebhookView:
        """Make one; durable when it returns, with its secret. Raises ``BadRequest``, ``Conflict``, ``Unavailable``."""
        self._require_serving()
        self._check(wish)
        webhook = await self._webhooks.create(account_id, wish, self._clock.wall_s())
        return self._view(webhook, self._webhooks.secret(webhook))

    async def heard(self, account_id: int, wish: WebhookWish, webhook_id: str = "") -> tuple[str, ...]:
        """Give the topic filters of what a webhook will be told, new or as it will be changed.

        None, where nothing changes, or it is only let rest. Raises ``NotFound``, and ``BadRequest`` for a bad wish.
        """
        self._check(wish)
        if not webhook_id:
            webhook = Webhook(account_id, "", "", "", "", True, b"", 0, 0)
        else:
            webhook = self._webhooks.get(account_id, webhook_id)
            if wish in (WebhookWish(), WebhookWish(active=False)):
                return ()
        return tuple(filters_of(wish.of(webhook, 0)))

    async def list(self, account_id: int) -> list[WebhookView]:
        """Show all of an account, oldest first."""
        return [self._view(webhook) for webhook in self._webhooks.of(account_id)]

    async def get(self, account_id: int, webhook_id: str) -> WebhookView:
        """Show one. Raises ``NotFound``."""
        return self._view(self._webhooks.get(account_id, webhook_id))

    async def change(self, account_id: int, webhook_id: str, wish: WebhookWish) -> WebhookView:
        """Change one; durable when it returns. Raises ``NotFound``, ``BadRequest``, ``Conflict``, ``Unavailable``."""
        self._require_serving()
        self._webhooks.get(account_id, webhook_id)
        self._check(wish)
        return self._view(await self._webhooks.change(account_id, webhook_id, wish, self._clock.wall_s()))

    async def delete(self, account_id: int, webhook_id: str) -> None:
        """Remove one; durable when it returns. Raises ``NotFound``, ``Conflict``, ``Unavailable``."""
        self._require_serving()
        await self._webhooks.delete(account_id, webhook_id)

    def _check(self, wish: WebhookWish) -> None:
        if wish.topic_filter:
            check_topic_filter(wish.topic_filter, self._config.capabilities.topic_levels_maximum)
        if wish.url is None:
            return
        target = parse_url(wish.url, allow_http=self._config.webhooks.allow_http)
        try:
            address = ip_address(target.host)
        except ValueError:
            return  # what a name means is looked at each time
        if not may_be_told(address, self._config.webhooks.allowed_networks):
            expected = "a public address"
            raise BadRequest(f"url: expected {expected}", field="url", provided=wish.url, expected=expected)

    def _view(self, webhook: Webhook, secret: str = "") -> WebhookView:
        figures = self._webhooks.figures(webhook.webhook_id)
        return WebhookView(
            webhook_id=webhook.webhook_id,
            url=webhook.url,
            events=tuple(webhook.events.split(",")),
            topic_filter=webhook.topic_filter,
            active=webhook.active,
            created_at=webhook.created_at,
            updated_at=webhook.updated_at,
            paused_at=webhook.paused_at or None,
            paused_reason=webhook.paused_reason,
            queued=figures.queued,
            delivered=figures.delivered,
            dropped=dict(figures.dropped),
            failures=figures.failures,
            last_success_at=figures.last_success_at or None,
            last_error=figures.last_error,
            last_error_at=figures.last_error_at or None,
            next_attempt_at=figures.next_attempt_at or None,
            secret=secret,
        )
