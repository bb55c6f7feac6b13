"""Registering a device at its first connect, whoever vouches for it: once, durably, and not too many a second.

Here belong the pace of each account, and the one transaction of a device, its count and its audit entry. Not here: who
may (``claim_logins``, ``authority_logins``). A device is registered when it is on disk, whoever waits for that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from broker.accounts.deeds import Actor, ActorKind, Deed, doing
from broker.accounts.device_description import DeviceDescription
from broker.accounts.devices import Devices
from broker.accounts.enrolled import EnrolledCounts
from broker.accounts.records import Device
from broker.errors import RateLimited

log = logging.getLogger(__name__)

VERB = "register_device"
REGISTERED_BY: dict[ActorKind, str] = {
    "claim_token": "registered_by_claim",
    "authority": "registered_by_authority",
}
"""Codes of the timeline."""


@dataclass(frozen=True, slots=True)
class Voucher:
    """Who vouches for a device: a claim token or an authority of an account, by id and name."""

    kind: ActorKind
    account_id: int
    voucher_id: str
    name: str


@dataclass(slots=True)
class _Bucket:
    """What an account may still register at a moment (seconds of the monotonic clock)."""

    left: float
    at: float


class Enrolment:
    """Registers devices; of each account ``per_s`` a second, and ``burst`` at once."""

    def __init__(self, devices: Devices, counts: EnrolledCounts, per_s: float, burst: int) -> None:
        self._devices = devices
        self._counts = counts
        self._per_s = per_s
        self._burst = burst
        self._buckets: dict[int, _Bucket] = {}  # of accounts that have registered
        self._coming: dict[tuple[int, str], asyncio.Task[Device]] = {}

    async def settled(self, account_id: int, device_id: str) -> None:
        """Return when no registration under this id is on its way to disk."""
        coming = self._coming.get((account_id, device_id))
        if coming is not None:
            await asyncio.wait([coming])

    async def register(
        self,
        voucher: Voucher,
        description: DeviceDescription,
        *,
        address: str,
        now_s: int,
        monotonic_s: float,
        check: Callable[[], None],
    ) -> Device:
        """Register a device under the id that it has chosen; durable when it returns, and counted.

        ``check`` raises what forbids it at the last moment. Who gives up waiting does not stop it.
        Raises ``RateLimited``, and what ``Devices.begin`` does, and ``Unavailable``.
        """
        place = voucher.account_id, description.device_id
        self._take_turn(voucher.account_id, monotonic_s)
        work = self._registered(voucher, description, address, now_s, check)
        coming = asyncio.create_task(work, name="registration at a first connect")
        self._coming[place] = coming
        coming.add_done_callback(lambda done: self._arrived(place, done))
        return await asyncio.shield(coming)

    async def _registered(
        self,
        voucher: Voucher,
        description: DeviceDescription,
        address: str,
        now_s: int,
        check: Callable[[], None],
    ) -> Device:
        account_id = voucher.account_id
        check()
        actor = Actor(voucher.kind, name=voucher.name, address=address)
        with doing(Deed(actor, VERB, now_s, account_id, description.device_id)):
            device, _ = await self._devices.create(
                account_id,
                description,
                now_s,
                lambda _device, _password: self._counts.one_more(account_id, voucher.voucher_id, now_s),
            )
        self._devices.timeline.note_now(device.device_number, REGISTERED_BY[voucher.kind], address=address)
        return device

    def _arrived(self, place: tuple[int, str], done: asyncio.Task[Device]) -> None:
        if self._coming.get(place) is done:
            del self._coming[place]
        if not done.cancelled() and done.exception() is not None:
            log.debug("a device was not registered: %s", done.exception())  # who waits for it is told

    def _take_turn(self, account_id: int, now_s: float) -> None:
        bucket = self._buckets.setdefault(account_id, _Bucket(float(self._burst), now_s))
        bucket.left = min(bucket.left + (now_s - bucket.at) * self._per_s, float(self._burst))
        bucket.at = now_s
        if bucket.left < 1:
            wait_s = int((1 - bucket.left) / self._per_s) + 1
            raise RateLimited("this account registers as many devices a second as it may", retry_after_s=wait_s)
        bucket.left -= 1
