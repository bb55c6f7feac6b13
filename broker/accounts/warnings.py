"""Warnings before a plan's limits are reached: at 80 and at 100 %, once for each in a month.

Here belongs who has reached what, and who is told. Not here: keeping what was told (``usage``, with the month's
record), and what is done about it by those who watch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from broker.accounts.accounts import Accounts

log = logging.getLogger(__name__)

PERCENTS = (80, 100)
DEVICES_KIND = "devices"
KINDS = ("messages", "bandwidth", DEVICES_KIND)
BEYOND = 2**63  # more than anybody can use


@dataclass(frozen=True, slots=True)
class QuotaWarning:
    """An account has come to ``percent`` of its plan; ``bandwidth`` is in bytes, ``month`` as ``2025-11``.

    ``bit`` is its place among what an account was warned of in a month. ``device_number`` is the device that has
    brought it there, by what was counted for it; 0 where it was none, or nobody knows.
    """

    account_id: int
    account: str
    kind: str
    percent: int
    used: int
    maximum: int
    month: str
    bit: int
    device_number: int = 0

    def payload(self) -> bytes:
        """Say it as JSON, to those to whom it concerns."""
        said = {name: getattr(self, name) for name in ("kind", "percent", "used", "maximum", "month")}
        return json.dumps(said, separators=(",", ":")).encode()


Watcher = Callable[[QuotaWarning], None]


class QuotaWarnings:
    """Looks at accounts and tells those who watch; ``count_devices`` is asked for an account's devices."""

    def __init__(self, accounts: Accounts, count_devices: Callable[[int], int]) -> None:
        self._accounts = accounts
        self._count_devices = count_devices
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Call back with each warning, when it is on disk that it was given: none comes twice, also after a crash."""
        self._watchers.append(watcher)

    def next_steps(self, account_id: int, messages: int, size: int) -> tuple[int, int]:
        """Give the messages and the bytes at which an account has come to its next thresholds."""
        plan = self._accounts.plan(account_id)
        return _next_step(messages, plan.messages_per_month), _next_step(size, plan.bytes_per_month)

    def reached(self, account_id: int, messages: int, size: int, warned: int, month: int) -> Iterator[QuotaWarning]:
        """Give what an account has reached and was not warned of; ``warned`` are the bits of what it was."""
        account, plan = self._accounts.get(account_id), self._accounts.plan(account_id)
        used = (messages, size, self._count_devices(account_id))
        maxima = (plan.messages_per_month, plan.bytes_per_month, plan.devices_maximum)
        for place, (one, maximum) in enumerate(zip(used, maxima, strict=True)):
            for step, percent in enumerate(PERCENTS):
                bit = 1 << (place * len(PERCENTS) + step)
                if one * 100 >= maximum * percent and not warned & bit:
                    name = f"{month // 12:04d}-{month % 12 + 1:02d}"
                    yield QuotaWarning(account_id, account.name, KINDS[place], percent, one, maximum, name, bit)

    def tell(self, warnings: Iterable[QuotaWarning]) -> None:
        """Tell all who watch; one who fails keeps nobody else from hearing it."""
        for warning in warnings:
            for watcher in self._watchers:
                try:
                    watcher(warning)
                except Exception:
                    log.exception("one who watches quotas failed")


def _next_step(used: int, maximum: int) -> int:
    steps = (-(-maximum * percent // 100) for percent in PERCENTS)  # rounded up
    return next((step for step in steps if step > used), BEYOND)
