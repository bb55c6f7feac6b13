"""Devices as whoever asks finds them: one by what names it, pages, walks and searches.

Here belongs what changes nothing. Not here: how they are kept in memory (``device_index``), and their life
(``devices``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from broker.accounts.accounts import Accounts
from broker.accounts.device_index import DeviceIndex, OfAccount
from broker.accounts.device_search import Sought, search
from broker.accounts.records import Device
from broker.errors import NotFound

SLICE_DEVICES = 100  # looked at between two turns of the loop


class DeviceLookup:
    """All devices of the installation; who asks about an account that there is not gets ``NotFound``."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._index = DeviceIndex()

    def __len__(self) -> int:
        """How many devices all accounts have."""
        return len(self._index)

    def get(self, account_id: int, device_id: str) -> Device:
        """Find one device of an account. Raises ``NotFound``, also for another account's device."""
        device = self.find(account_id, device_id)
        if device is None:
            raise NotFound("there is no such device")
        return device

    def find(self, account_id: int, device_id: str) -> Device | None:
        """Find one device of an account; None where there is none."""
        self._of(account_id)
        return self._index.with_id(account_id, device_id)

    def with_user_name(self, user_name: str) -> Device | None:
        """Find the device that logs in with this user name."""
        return self._index.with_user_name(user_name)

    def with_fingerprint(self, fingerprint: str) -> Device | None:
        """Find the device that is bound to the certificate with this SHA-256 (hexadecimal, lower case)."""
        return self._index.with_fingerprint(fingerprint)

    def named(self, device_id: str) -> Device | None:
        """Find the one device of all accounts that an id means; None where it means several."""
        return self._index.named(device_id)

    def numbered(self, device_number: int) -> Device | None:
        """Find a device by its number, in all accounts."""
        return self._index.get(device_number)

    def knows(self, device_number: int) -> bool:
        """Tell whether a device has this number, whatever it may do at the moment."""
        return device_number in self._index

    def count(self, account_id: int) -> int:
        """How many devices an account has."""
        return len(self._of(account_id).roster)

    def page(self, account_id: int, limit: int, offset: int) -> list[Device]:
        """Give up to ``limit`` devices behind the newest ``offset`` ones, newest first; cost is that of the page."""
        return [self._index[number] for number in self.page_numbers(account_id, limit, offset)]

    def page_numbers(self, account_id: int, limit: int, offset: int) -> Sequence[int]:
        """Give the numbers of such a page, for who takes turns with the loop while the devices are unpacked."""
        return self._of(account_id).roster.page(limit, offset)

    def above(self, account_id: int, number: int, limit: int) -> list[Device]:
        """Give up to ``limit`` devices with numbers above one, oldest first; cost is that of the page."""
        return [self._index[one] for one in self._of(account_id).roster.above(number, limit)]

    async def slices(self, account_id: int, size: int = SLICE_DEVICES) -> AsyncIterator[Sequence[Device]]:
        """Walk an account's devices, newest first, in slices of ``size`` with a turn of the loop between them.

        What is removed or added during the walk neither repeats nor hides another device.
        """
        async for numbers in self.numbers(account_id, size):
            yield [self._index[number] for number in numbers]

    async def numbers(self, account_id: int, size: int) -> AsyncIterator[Sequence[int]]:
        """Walk the numbers of an account's devices in the same way: for who does not need the records of most."""
        below = None
        while part := self._of(account_id).roster.below(below, size):
            yield part
            below = part[-1]
            await asyncio.sleep(0)

    async def search(
        self, account_id: int, sought: Sought, is_in_error: Callable[[int], bool], limit: int, offset: int
    ) -> tuple[list[Device], int]:
        """Give a page of the devices that match, newest first, and how many match in all.

        ``is_in_error`` is asked about an active device, by its number, whose login was refused since the start.
        """
        roster = self._of(account_id).roster
        return await search(roster, sought, is_in_error, self._index.__getitem__, limit, offset)

    def account_ids(self) -> list[int]:
        """List the accounts that have, or had, devices."""
        return list(self._index.by_account)

    def _of(self, account_id: int) -> OfAccount:
        if account_id not in self._index.by_account:
            self._accounts.get(account_id)
        return self._index.of(account_id)
