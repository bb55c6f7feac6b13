"""Many devices registered at once: few commits, and the loop is held for a few devices at a time.

Here belongs what is common to a batch. Not here: the rules of one device (``devices``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice

from broker.accounts.device_description import DeviceDescription
from broker.accounts.devices import Devices, Newcomer
from broker.accounts.ledger import Ledger
from broker.accounts.records import Device
from broker.errors import BrokerError, Unavailable

SLICE_DEVICES = 20  # in one commit
SLICE_BYTES = 64 * 1024  # of their metadata
TURN_DEVICES = 10  # begun between two turns of the loop

Registered = tuple[Device, str]
Described = DeviceDescription | BrokerError


class DeviceBatch:
    """Registers devices of an account, slice by slice: each is durable before it is told of."""

    def __init__(self, devices: Devices, ledger: Ledger) -> None:
        self._devices = devices
        self._ledger = ledger

    async def create(
        self, account_id: int, described: Iterable[Described], now_s: int
    ) -> AsyncIterator[Sequence[Registered | BrokerError]]:
        """Register devices in their order; gives a slice of outcomes at a time, in the same order.

        An error in the place of a description, and what ``Devices.create`` would raise for one, is its outcome.
        """
        rest = iter(described)
        while part := list(_slice(rest)):
            await asyncio.sleep(0)  # descriptions may be made while they are read, which takes its time
            yield await self._register(account_id, part, now_s)
            await asyncio.sleep(0)  # and so do the looks at what was registered

    async def _register(
        self, account_id: int, part: Sequence[Described], now_s: int
    ) -> Sequence[Registered | BrokerError]:
        begun: list[Newcomer | BrokerError] = []
        newcomers: list[Newcomer] = []

        def apply() -> None:
            for one in newcomers:
                one.apply()

        def release() -> None:
            for one in newcomers:
                one.release()

        try:
            for start in range(0, len(part), TURN_DEVICES):
                begun += [self._begun(account_id, one, now_s) for one in part[start : start + TURN_DEVICES]]
                newcomers[:] = [one for one in begun if isinstance(one, Newcomer)]
                await asyncio.sleep(0)
        except BaseException:  # who asked has given up: nothing of it is on its way to disk yet
            release()
            raise
        if not newcomers:
            return [one for one in begun if not isinstance(one, Newcomer)]
        try:
            await self._ledger.commit([change for one in newcomers for change in one.changes], apply, release)
        except Unavailable as error:
            return [error if isinstance(one, Newcomer) else one for one in begun]
        return [(one.device, one.password) if isinstance(one, Newcomer) else one for one in begun]

    def _begun(self, account_id: int, described: Described, now_s: int) -> Newcomer | BrokerError:
        if isinstance(described, BrokerError):
            return described
        try:
            return self._devices.begin(account_id, described, now_s)
        except BrokerError as error:
            return error


def _slice(rest: Iterable[Described]) -> Iterable[Described]:
    size = 0
    for one in islice(rest, SLICE_DEVICES):
        yield one
        size += len(one.metadata_json) if isinstance(one, DeviceDescription) else 0
        if size >= SLICE_BYTES:
            return
