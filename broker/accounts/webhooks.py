"""Webhooks: where an account wants to be told over HTTP what happens, durably; and how each of them is doing.

Here belong the records, their limits, and the figures of each since the start. Not here: delivering anything
(``broker.webhooks``), and how they look to callers (``api``).
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace

from broker.accounts.accounts import Accounts
from broker.accounts.ledger import Ledger
from broker.accounts.records import Webhook
from broker.errors import BadRequest, Conflict, NotFound
from broker.policy.credentials import new_webhook_id
from broker.ports import Change
from broker.storage.tables import WEBHOOKS, number_key

log = logging.getLogger(__name__)

SALT_BYTES = 16
SECRET_PREFIX = "whsec_"  # noqa: S105 - as the Standard Webhooks specification has it
PRESENCE_FILTER = "devices/+/presence"
TELEMETRY_FILTER = "devices/+/telemetry/#"
PRESENCE, TELEMETRY, WARNINGS = EVENTS = ("presence", "telemetry", "warnings")


@dataclass(frozen=True, slots=True)
class WebhookWish:
    """What a caller says about a webhook; None leaves it. An empty ``topic_filter`` is the one of all telemetry."""

    url: str | None = None
    events: tuple[str, ...] | None = None
    topic_filter: str | None = None
    active: bool | None = None

    def of(self, webhook: Webhook, now_s: int) -> Webhook:
        """Give the webhook as it will be; who says that it is active ends its pause."""
        said = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) is not None}
        if self.events is not None:
            said["events"] = ",".join(self.events)
        if self.active:
            said |= {"paused_at": 0, "paused_reason": ""}
        return replace(webhook, updated_at=now_s, **said)


@dataclass(slots=True)
class WebhookFigures:
    """How a webhook is doing since the start of the process; times are seconds of UTC, 0 for never.

    ``failures`` are those since the last success; ``delivered`` and ``dropped`` count events, by reason.
    """

    queued: int = 0
    delivered: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    failing_since: int = 0
    last_success_at: int = 0
    last_error: str = ""
    last_error_at: int = 0
    next_attempt_at: int = 0

    def drop(self, reason: str, count: int = 1) -> None:
        """Count events that are not delivered."""
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count


class Webhooks:
    """All webhooks of the installation; ``watch`` hears of each that is new, changed or gone."""

    def __init__(self, ledger: Ledger, secret: bytes, accounts: Accounts, maximum: int) -> None:
        """``maximum`` is how many one account may have."""
        self._ledger = ledger
        self._secret = secret
        self._accounts = accounts
        self._maximum = maximum
        self._by_account: dict[int, dict[str, Webhook]] = {}
        self._coming: dict[int, int] = {}  # how many of an account are on their way to disk
        self._changing: set[str] = set()
        self._figures: dict[str, WebhookFigures] = {}
        self._watcher: Callable[[str, Webhook | None], None] = _nobody

    def load(self) -> None:
        """Read all of them; those of accounts that are not there are left alone."""
        for _, value in self._ledger.rows(WEBHOOKS):
            webhook = Webhook.decode(value)
            if webhook.account_id in self._accounts:
                self._apply(webhook)

    def watch(self, watcher: Callable[[str, Webhook | None], None]) -> None:
        """Tell ``watcher(webhook_id, webhook)`` of each change that is on disk; None for one that is gone."""
        self._watcher = watcher

    def all(self) -> Iterator[Webhook]:
        """Give those of all accounts."""
        for of_account in self._by_account.values():
            yield from of_account.values()

    def of(self, account_id: int) -> list[Webhook]:
        """Give an account's webhooks, oldest first."""
        return sorted(self._by_account.get(account_id, {}).values(), key=lambda one: (one.created_at, one.webhook_id))

    def get(self, account_id: int, webhook_id: str) -> Webhook:
        """Find one. Raises ``NotFound``, also for another account's."""
        webhook = self._by_account.get(account_id, {}).get(webhook_id)
        if webhook is None:
            raise NotFound("there is no such webhook")
        return webhook

    def figures(self, webhook_id: str) -> WebhookFigures:
        """Give the figures of one that is there; who delivers counts in them."""
        return self._figures[webhook_id]

    def secret(self, webhook: Webhook) -> str:
        """Give what its deliveries are signed with: drawn from the installation's secret, and stored nowhere."""
        key = hashlib.blake2b(webhook.salt, digest_size=32, key=self._secret, person=b"webhook").digest()
        return SECRET_PREFIX + base64.b64encode(key).decode()

    async def create(self, account_id: int, wish: WebhookWish, now_s: int) -> Webhook:
        """Make one; durable when it returns. Raises ``Conflict`` where an account has as many as it may."""
        coming = self._coming.get(account_id, 0)
        if len(self._by_account.get(account_id, {})) + coming >= self._maximum:
            raise Conflict(f"an account may have {self._maximum} webhooks")
        blank = Webhook(account_id, new_webhook_id(), "", "", "", True, secrets.token_bytes(SALT_BYTES), now_s, now_s)
        webhook = wish.of(blank, now_s)
        self._coming[account_id] = coming + 1

        def arrived() -> None:
            self._coming[account_id] -= 1

        def apply() -> None:
            arrived()
            self._apply(webhook)
            self._tell(webhook.webhook_id, webhook)

        await self._ledger.commit([_put(webhook)], apply, arrived)
        return webhook

    async def change(self, account_id: int, webhook_id: str, wish: WebhookWish, now_s: int) -> Webhook:
        """Change one; durable when it returns. Raises ``NotFound``, and ``Conflict`` for two changes at once."""
        if wish == WebhookWish():
            return self.get(account_id, webhook_id)
        return await self._replace(wish.of(self.get(account_id, webhook_id), now_s))

    async def pause(self, account_id: int, webhook_id: str, reason: str, now_s: int) -> None:
        """Deliver nothing more to one, until its account says that it is active again."""
        webhook = self.get(account_id, webhook_id)
        await self._replace(replace(webhook, active=False, paused_at=now_s, paused_reason=reason))

    async def delete(self, account_id: int, webhook_id: str) -> None:
        """Forget one; durable when it returns. Raises ``NotFound``."""
        webhook = self.get(account_id, webhook_id)

        def apply() -> None:
            self._by_account[account_id].pop(webhook_id, None)
            self._figures.pop(webhook_id, None)
            self._tell(webhook_id, None)

        with self._alone(webhook_id):
            await self._ledger.commit([Change(WEBHOOKS, _key(webhook), None)], apply)

    async def _replace(self, webhook: Webhook) -> Webhook:
        def apply() -> None:
            if webhook.webhook_id in self._by_account.get(webhook.account_id, {}):
                self._apply(webhook)
                self._tell(webhook.webhook_id, webhook)

        with self._alone(webhook.webhook_id):
            await self._ledger.commit([_put(webhook)], apply)
        return webhook

    def _alone(self, webhook_id: str) -> _Alone:
        return _Alone(self._changing, webhook_id)

    def _apply(self, webhook: Webhook) -> None:
        self._by_account.setdefault(webhook.account_id, {})[webhook.webhook_id] = webhook
        self._figures.setdefault(webhook.webhook_id, WebhookFigures())

    def _tell(self, webhook_id: str, webhook: Webhook | None) -> None:
        try:
            self._watcher(webhook_id, webhook)
        except Exception:  # what is on disk is so all the same
            log.exception("one who watches webhooks failed")


class _Alone:
    """Refuses a second change of a webhook while the first is on its way to disk: which would win, nobody could say."""

    def __init__(self, changing: set[str], webhook_id: str) -> None:
        self._changing = changing
        self._webhook_id = webhook_id

    def __enter__(self) -> None:
        if self._webhook_id in self._changing:
            raise Conflict("this webhook is being changed by another request")
        self._changing.add(self._webhook_id)

    def __exit__(self, *_: object) -> None:
        self._changing.discard(self._webhook_id)


def filters_of(webhook: Webhook) -> list[str]:
    """Give the topic filters of all that a webhook is told of; a warning has no topic."""
    events = webhook.events.split(",")
    filters = [PRESENCE_FILTER] if PRESENCE in events else []
    filters += [webhook.topic_filter or TELEMETRY_FILTER] if TELEMETRY in events else []
    return list(dict.fromkeys(filters))


def check_topic_filter(topic_filter: str, levels_maximum: int) -> None:
    """Raise ``BadRequest`` for what is no topic filter in an account's own space."""
    levels = topic_filter.split("/")
    wild = all(level in ("+", "#") or not set(level) & {"+", "#"} for level in levels) and "#" not in levels[:-1]
    size = len(topic_filter.encode("utf-8", "surrogatepass"))
    if not wild or "\0" in topic_filter or topic_filter.startswith("$") or len(levels) > levels_maximum or not size:
        expected = "a topic filter: + stands for one whole level, # only at the end for all that follow; none of $..."
        raise BadRequest(
            f"topic_filter: expected {expected}", field="topic_filter", provided=topic_filter, expected=expected
        )


def _nobody(_webhook_id: str, _webhook: Webhook | None) -> None:
    """Hear of nothing: nobody delivers."""


def _key(webhook: Webhook) -> bytes:
    return number_key(webhook.account_id) + webhook.webhook_id.encode()


def _put(webhook: Webhook) -> Change:
    return Change(WEBHOOKS, _key(webhook), webhook.encode())
