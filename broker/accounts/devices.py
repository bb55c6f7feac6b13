"""Devices: registered, found, listed and removed, fast for a hundred thousand in one account.

Here belong the records' life, their indexes and their grants. Not here: connections (the core knows those), and how a
device looks to the outside (``broker.admin``).
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker.accounts.accounts import Accounts
from broker.accounts.keys import seen_changes
from broker.accounts.ledger import PRINCIPAL_NUMBERS, Ledger
from broker.accounts.plans import device_limits
from broker.accounts.records import Device, decode_number
from broker.errors import BadRequest, Conflict, NotFound, QuotaExceeded
from broker.policy.credentials import credential, new_device_id, new_password
from broker.policy.policies import DEVICE
from broker.ports import Change, Grant, GrantTable
from broker.storage.tables import DEVICES, SEEN, key_number, number_key

SLICE_DEVICES = 500  # looked at between two turns of the loop
TOPIC_LEVEL = re.compile(r"[^+#/\x00]{1,64}")


@dataclass(frozen=True, slots=True)
class DeviceDescription:
    """What a caller says about a new device; an empty ``device_id`` lets one be generated."""

    name: str
    device_type: str
    description: str = ""
    metadata_json: str = "{}"
    device_id: str = ""


@dataclass(slots=True)
class _OfAccount:
    """The devices of one account: by id, and their numbers in the order they were given (oldest first)."""

    by_id: dict[str, Device] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    reserved: set[str] = field(default_factory=set)  # registered, but not durable yet

    def remove(self, device: Device) -> None:
        """Forget a device."""
        del self.by_id[device.device_id]
        del self.numbers[bisect_left(self.numbers, device.device_number)]


class Devices:
    """All devices of the installation, in memory and in the store."""

    def __init__(
        self, ledger: Ledger, secret: bytes, grants: GrantTable, accounts: Accounts, queue_maximum_bytes: int
    ) -> None:
        """``queue_maximum_bytes`` is the budget of one device's queues, 0: none."""
        self._ledger = ledger
        self._secret = secret
        self._grants = grants
        self._accounts = accounts
        self._queue_maximum_bytes = queue_maximum_bytes
        self._by_number: dict[int, Device] = {}
        self._by_user_name: dict[str, int] = {}
        self._by_account: dict[int, _OfAccount] = {}
        self._last_seen: dict[int, int] = {}
        self._refused_at: dict[int, float] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}  # their removal is on its way to disk

    def load(self) -> None:
        """Read all devices and grant those that may connect."""
        for _, value in self._ledger.rows(DEVICES):
            self._add(Device.decode(value))
        for number, value in self._ledger.rows(SEEN):
            if key_number(number) in self._by_number:
                self._last_seen[key_number(number)] = decode_number(value)

    def __len__(self) -> int:
        """How many devices all accounts have."""
        return len(self._by_number)

    def get(self, account_id: int, device_id: str) -> Device:
        """Find one device of an account. Raises ``NotFound``, also for another account's device."""
        device = self._of(account_id).by_id.get(device_id)
        if device is None:
            raise NotFound("there is no such device")
        return device

    def with_user_name(self, user_name: str) -> Device | None:
        """Find the device that logs in with this user name."""
        number = self._by_user_name.get(user_name)
        return None if number is None else self._by_number[number]

    def knows(self, device_number: int) -> bool:
        """Tell whether a device has this number, whatever it may do at the moment."""
        return device_number in self._by_number

    def last_seen_at(self, device_number: int) -> int:
        """When a device was last seen, as far as it is recorded; 0 for never."""
        return self._last_seen.get(device_number, 0)

    def note_refused(self, device_number: int, at: float) -> None:
        """Remember that a login was refused (monotonic seconds), until the process ends."""
        self._refused_at[device_number] = at

    def refused_at(self, device_number: int) -> float | None:
        """When a login of this device was last refused (monotonic seconds); None for not since the start."""
        return self._refused_at.get(device_number)

    def count(self, account_id: int) -> int:
        """How many devices an account has."""
        return len(self._of(account_id).numbers)

    def page(self, account_id: int, limit: int, offset: int) -> list[Device]:
        """Give up to ``limit`` devices behind the newest ``offset`` ones, newest first; cost is that of the page."""
        numbers = self._of(account_id).numbers
        end = max(len(numbers) - offset, 0)
        return [self._by_number[number] for number in reversed(numbers[max(end - limit, 0) : end])]

    async def slices(self, account_id: int, size: int = SLICE_DEVICES) -> AsyncIterator[Sequence[Device]]:
        """Walk an account's devices, newest first, in slices of ``size`` with a turn of the loop between them.

        What is removed or added during the walk neither repeats nor hides another device.
        """
        below = None
        while True:
            numbers = self._of(account_id).numbers
            end = len(numbers) if below is None else bisect_left(numbers, below)
            part = numbers[max(end - size, 0) : end]
            if not part:
                return
            yield [self._by_number[number] for number in reversed(part)]
            below = part[0]
            await asyncio.sleep(0)

    async def search(
        self, account_id: int, matches: Callable[[Device], bool], limit: int, offset: int
    ) -> tuple[list[Device], int]:
        """Give a page of the devices that match, newest first, and how many match in all."""
        found: list[Device] = []
        total = 0
        async for part in self.slices(account_id):
            for device in part:
                if matches(device):
                    if offset <= total < offset + limit:
                        found.append(device)
                    total += 1
        return found, total

    async def create(self, account_id: int, description: DeviceDescription, now_s: int) -> tuple[Device, str]:
        """Register a device; returns its record and its password, which nobody can see again.

        Raises ``QuotaExceeded`` at the plan's number of devices, ``Conflict`` when a chosen id is taken, and
        ``BadRequest`` when it is no level of a topic: with it goes everything under ``devices/{device_id}/``.
        """
        if description.device_id and TOPIC_LEVEL.fullmatch(description.device_id) is None:
            expected = "1 to 64 characters, none of + # /"
            raise BadRequest(
                f"device_id: expected {expected}", field="device_id", provided=description.device_id, expected=expected
            )
        of_account = self._of(account_id)
        self._check_quota(account_id, of_account)
        device_id = description.device_id or new_device_id()
        if device_id in of_account.by_id or device_id in of_account.reserved:
            raise Conflict(f"there is a device {device_id!r} already")
        device, password, given = self._draw(account_id, device_id, description, now_s)
        of_account.reserved.add(device_id)

        def apply() -> None:
            of_account.reserved.discard(device_id)
            self._add(device)

        put = Change(DEVICES, number_key(device.device_number), device.encode())
        await self._ledger.commit([given, put], apply, lambda: of_account.reserved.discard(device_id))
        return device, password

    async def delete(self, account_id: int, device_id: str) -> None:
        """Remove a device for good, with all that it has; returns when nothing of it is on disk any more.

        It is let in no more from here on, and known and counted until then: a crash takes nothing, or everything. Who
        gives up waiting does not keep it. Raises ``NotFound``, and ``Unavailable`` while the disk takes nothing.
        """
        device = self.get(account_id, device_id)
        leaving = self._leaving.get(device.device_number)
        if leaving is None:
            self._ledger.require_disk()
            leaving = asyncio.create_task(self._leave(device), name=f"removal of device {device.device_number}")
            self._leaving[device.device_number] = leaving
        await asyncio.shield(leaving)

    async def _leave(self, device: Device) -> None:
        """End all that a device has, then forget it: its id is free when nothing is left under it."""
        key = number_key(device.device_number)
        records = [(DEVICES, key), (SEEN, key)]
        try:
            self._grants.remove_grant(device.digest)
            await self._grants.remove_device(device.account_id, device.device_number, device.device_id, records)
            self._remove(device)
        finally:
            del self._leaving[device.device_number]

    async def set_active(self, account_id: int, device_id: str, active: bool, now_s: int) -> Device:
        """Let a device in or keep it out; who is connected is cut, and its sessions wait. Raises ``NotFound``."""
        device = self.get(account_id, device_id)
        if device.device_number in self._leaving:
            raise NotFound("there is no such device")
        changed = replace(device, active=active, updated_at=now_s)

        def apply() -> None:
            if device.device_number in self._by_number:  # it was not removed meanwhile
                self._by_number[device.device_number] = self._of(account_id).by_id[device_id] = changed
                self.follow(changed)

        await self._ledger.commit([Change(DEVICES, number_key(device.device_number), changed.encode())], apply)
        return changed

    def follow(self, device: Device) -> None:
        """Give or take a device's grant as it and its account are now."""
        if self._may_enter(device) and not self._accounts.get(device.account_id).suspended:
            self._grants.put_grant(device.digest, self.grant(device))
        else:
            self._grants.remove_grant(device.digest)

    def _may_enter(self, device: Device) -> bool:
        """Tell whether a device is let in as far as it goes itself."""
        return device.active and device.device_number not in self._leaving

    async def record_last_seen(self, seen: Mapping[int, int]) -> None:
        """Store when devices (by number) were last seen (seconds of UTC); what exists no more is passed over."""
        news = {
            number: at
            for number, at in seen.items()
            if number in self._by_number and number not in self._leaving and self._last_seen.get(number) != at
        }
        if news:
            await self._ledger.commit(seen_changes(news), lambda: self._note_seen(news))

    def grant_for(self, user_name: str, digest: bytes) -> Grant | None:
        """Give what a credential grants: None unless it is that of an active device."""
        device = self.with_user_name(user_name)
        if device is None or device.digest != digest or not self._may_enter(device):
            return None
        return self.grant(device)

    def grant(self, device: Device) -> Grant:
        """Make the grant of a device, with the limits of its account's plan."""
        limits = device_limits(self._accounts.plan(device.account_id), self._queue_maximum_bytes)
        durability = self._accounts.durability(device.account_id)
        device_id = device.device_id
        return Grant(device.account_id, device.device_number, device_id, device_id, DEVICE, durability, limits)

    def account_ids(self) -> list[int]:
        """List the accounts that have, or had, devices."""
        return list(self._by_account)

    def _of(self, account_id: int) -> _OfAccount:
        of_account = self._by_account.get(account_id)
        if of_account is None:
            self._accounts.get(account_id)
            of_account = self._by_account[account_id] = _OfAccount()
        return of_account

    def _check_quota(self, account_id: int, of_account: _OfAccount) -> None:
        plan = self._accounts.plan(account_id)
        if len(of_account.numbers) + len(of_account.reserved) >= plan.devices_maximum:
            raise QuotaExceeded(f"the plan {plan.name!r} has room for {plan.devices_maximum} devices")

    def _draw(
        self, account_id: int, device_id: str, description: DeviceDescription, now_s: int
    ) -> tuple[Device, str, Change]:
        """Draw number, user name and password: a chosen id is the account's own, so its user name is generated."""
        number, given = self._ledger.give_number(PRINCIPAL_NUMBERS)
        user_name = new_device_id() if description.device_id else device_id
        password = new_password()
        device = Device(
            device_number=number,
            account_id=account_id,
            device_id=device_id,
            user_name=user_name,
            digest=credential(self._secret, user_name, password.encode()),
            name=description.name,
            device_type=description.device_type,
            description=description.description,
            metadata_json=description.metadata_json,
            active=True,
            created_at=now_s,
            updated_at=now_s,
        )
        return device, password, given

    def _add(self, device: Device) -> None:
        of_account = self._of(device.account_id)
        of_account.by_id[device.device_id] = device
        of_account.numbers.append(device.device_number)
        self._by_number[device.device_number] = device
        self._by_user_name[device.user_name] = device.device_number
        if device.active and not self._accounts.get(device.account_id).suspended:
            self._grants.put_grant(device.digest, self.grant(device))

    def _remove(self, device: Device) -> None:
        del self._by_number[device.device_number]
        self._of(device.account_id).remove(device)
        del self._by_user_name[device.user_name]
        self._last_seen.pop(device.device_number, None)
        self._refused_at.pop(device.device_number, None)

    def _note_seen(self, news: Mapping[int, int]) -> None:
        self._last_seen.update({number: at for number, at in news.items() if number in self._by_number})
