"""Accounts, devices and keys of a running broker, with all that is counted and told of them.

Here belongs how the directory is loaded, what follows it by the clock, and who hears its warnings. Not here: any rule
of theirs (``broker.accounts``, ``broker.webhooks``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from broker.accounts.accounts import Accounts
from broker.accounts.counting import Counting
from broker.accounts.directory import Directory
from broker.accounts.telling import Telling
from broker.accounts.warnings import QuotaWarning
from broker.admin.clock import SystemClock
from broker.admin.figures import Figures
from broker.admin.system_topics import SystemTopics
from broker.assembly.chores import every, keep_doing
from broker.assembly.core import Core
from broker.config import BrokerConfig
from broker.doors import ListenerConfig
from broker.errors import NotFound, StoreDamaged
from broker.local import LocalClients
from broker.net.gateway import Gateway
from broker.ports import Observer, Store
from broker.webhooks import WebhookService

log = logging.getLogger(__name__)

OVERLAP_LOOK_S = 0.5
NS_PER_MS = 1_000_000


def warn_of_missing_accounts(listeners: Sequence[ListenerConfig], accounts: Accounts) -> None:
    """Say in the log which listeners take the devices of an account that is not there; it may be made later."""
    for one in listeners:
        if not one.certificate_account:
            continue
        try:
            accounts.named(one.certificate_account)
        except NotFound:
            told = {"listener": one.name, "certificate_account": one.certificate_account}
            log.warning("nobody comes in by a certificate: there is no such account", extra={"fields": told})


class Platform:
    """The directory, loaded, and with it the core, restored: from here on everybody is known who was before.

    ``counting`` brings usage from the core, ``telling`` what happens to devices. Raises ``StoreDamaged``.
    """

    def __init__(
        self,
        config: BrokerConfig,
        clock: SystemClock,
        core: Core,
        gateway: Gateway,
        store: Store,
        secret: bytes,
        observer: Observer,
        stack: AsyncExitStack,
    ) -> None:
        self._clock = clock
        self.directory = Directory(
            store,
            secret,
            gateway,
            budgets=config.account_budgets,
            audit_limits=config.audit,
            webhooks=config.webhooks,
            registration=config.registration,
            wall_ms=lambda: clock.wall_ns() // NS_PER_MS,
        )
        stack.callback(self.directory.chosen_passwords.close)
        _load(self.directory, clock.wall_s())
        core.restore(store, self.directory.known(), config.restart_grace_s)
        usage = self.directory.usage
        self.counting = Counting(usage, gateway, clock.wall_ns, clock.monotonic_ns)
        self.counting.count_at_once()  # the month on record may have ended
        usage.warnings.watch(partial(_tell_warning, observer))
        devices, times = self.directory.devices, (clock.wall_ns, clock.monotonic_ns)
        self.telling = Telling(devices, gateway, gateway, *times, config.restart_grace_s)
        core.shard.watch_stories()

    def start_webhooks(self, config: BrokerConfig, local: LocalClients, stack: AsyncExitStack) -> None:
        """Tell endpoints of accounts what they want to hear, until the stack ends."""
        service = WebhookService(
            self.directory.webhooks,
            partial(local.subscribe, qos=0, buffer=1),
            config.webhooks,
            wall_s=self._clock.wall_s,
            monotonic_s=self._clock.monotonic_s,
        )
        self.directory.usage.warnings.watch(service.warn)
        service.start()
        stack.push_async_callback(service.stop)

    def start_system_topics(
        self, figures: Figures, gateway: Gateway, interval_s: float, stack: AsyncExitStack
    ) -> Callable[[int], None]:
        """Publish figures of accounts below ``$SYS`` until the stack ends; gives who greets their new subscribers."""
        topics = SystemTopics(self.directory, figures, gateway, interval_s)
        self.directory.usage.warnings.watch(topics.warn)
        keep_doing(stack, "figures below $SYS", topics.run())

        def greet(handle: int) -> None:
            account_id = gateway.account_of(handle)
            if account_id is not None:
                topics.greet(account_id)

        return greet

    def keep_going(self, stack: AsyncExitStack) -> None:
        """Count, tell, and end what is over, until the stack ends; what is left then is stored."""
        # Where the disk takes nothing, the rest of the stop is not to be missed for it.
        keep_doing(stack, "usage", self.counting.run(), self.counting.settle)
        overdue = every(OVERLAP_LOOK_S, self._end_overdue, "a password or key could not be ended")
        keep_doing(stack, "passwords and keys", overdue)
        keep_doing(stack, "stories", self.telling.run(), self.telling.finish)  # everybody is gone by then

    def take_all(self) -> None:
        """Take what the core has told and counted until now, and end what is over by now: the clocks were moved."""
        self.counting.count_at_once()
        self.telling.take_all()
        self.directory.end_overdue(self._clock.wall_s())

    async def _end_overdue(self) -> None:
        """Let passwords end when their overlap is over, and keys when they expire."""
        self.directory.end_overdue(self._clock.wall_s())


def _load(directory: Directory, now_s: int) -> None:
    """Load the directory; whatever is wrong with its records, they are damaged."""
    try:
        directory.load(now_s)
    except StoreDamaged:
        raise
    except Exception as error:
        raise StoreDamaged(f"the store's accounts, keys or devices cannot be read: {error!r}") from error


def _tell_warning(observer: Observer, warning: QuotaWarning) -> None:
    """Say that an account comes to the end of what its plan allows."""
    observer.event(
        "quota_warning",
        account=warning.account,
        kind=warning.kind,
        percent=warning.percent,
        used=warning.used,
        maximum=warning.maximum,
        month=warning.month,
    )
