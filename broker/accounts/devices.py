"""Devices: registered, found, listed and removed, fast for a hundred thousand in one account.

Here belongs the records' life. Not here: their indexes (``device_index``) and grants (``device_grants``), connections
(the core knows those), and how a device looks to the outside (``broker.admin``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from broker.accounts.accounts import Accounts
from broker.accounts.certificates import check_fingerprint
from broker.accounts.deeds import about
from broker.accounts.device_changes import codes_of_change
from broker.accounts.device_description import DeviceChange, DeviceDescription, check_description
from broker.accounts.device_grants import DeviceGrants
from broker.accounts.device_index import DeviceIndex, OfAccount
from broker.accounts.device_passwords import DevicePasswords, Retirement, Rotation
from broker.accounts.device_sightings import Sightings
from broker.accounts.ledger import ALONE, PRINCIPAL_NUMBERS, Companion, Ledger
from broker.accounts.messages import Messages
from broker.accounts.presence import PresenceBook
from broker.accounts.records import Device
from broker.accounts.timeline import TimelineBook
from broker.errors import Conflict, NotFound, QuotaExceeded
from broker.policy.credentials import credential, new_device_id, new_password
from broker.ports import Change, Grant, GrantTable
from broker.storage.tables import DEVICES, ONLINE, SEEN, number_key

log = logging.getLogger(__name__)

SLICE_DEVICES = 500  # looked at between two turns of the loop
Changing = DeviceChange | Rotation | Retirement
Beside = Callable[[Device, str], Companion]
"""Given a device and its new password, before they are on disk: what is committed with them."""


def alone(_device: Device, _password: str) -> Companion:
    """Nothing goes with it."""
    return ALONE


def by_itself(_device: Device) -> Companion:
    """Nothing goes with it."""
    return ALONE


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A device on its way into the store: its id is reserved until the changes are committed, or have failed.

    ``apply`` has to be called when they are, ``release`` when they are not.
    """

    device: Device
    password: str = field(repr=False)
    changes: Sequence[Change]
    apply: Callable[[], None]
    release: Callable[[], None]


class Devices:
    """All devices of the installation, in memory and in the store."""

    def __init__(
        self,
        ledger: Ledger,
        secret: bytes,
        grants: GrantTable,
        accounts: Accounts,
        queue_maximum_bytes: int,
        added: Callable[[int], None],
        wall_ms: Callable[[], int],
    ) -> None:
        """``queue_maximum_bytes`` is the budget of one device's queues, 0: none; ``added`` hears of accounts."""
        self._added = added
        self._ledger = ledger
        self._secret = secret
        self._table = grants
        self.passwords = DevicePasswords(ledger, self.is_staying)
        self._grants = DeviceGrants(secret, grants, accounts, self.passwords, queue_maximum_bytes)
        self._accounts = accounts
        self._index = DeviceIndex()
        self.timeline = TimelineBook(ledger, self.is_staying, wall_ms)
        self.presence = PresenceBook(ledger, self.is_staying)
        self.sightings = Sightings(ledger, self.is_staying)
        self.messages = Messages(ledger, self.is_staying)
        self._leaving: dict[int, asyncio.Task[None]] = {}  # their removal is on its way to disk
        self._changing: set[asyncio.Task[Device]] = set()
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()  # of those that are being changed

    def load(self, now_s: int) -> None:
        """Read all devices and grant those that may connect, with the passwords that are valid at this time."""
        self.passwords.load(now_s)
        for _, value in self._ledger.rows(DEVICES):
            self._add(Device.decode(value))
        self.sightings.load()
        self.presence.load()

    def __len__(self) -> int:
        """How many devices all accounts have."""
        return len(self._index)

    def get(self, account_id: int, device_id: str) -> Device:
        """Find one device of an account. Raises ``NotFound``, also for another account's device."""
        device = self._of(account_id).by_id.get(device_id)
        if device is None:
            raise NotFound("there is no such device")
        return device

    def find(self, account_id: int, device_id: str) -> Device | None:
        """Find one device of an account; None where there is none."""
        return self._of(account_id).by_id.get(device_id)

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
        return len(self._of(account_id).numbers)

    def page(self, account_id: int, limit: int, offset: int) -> list[Device]:
        """Give up to ``limit`` devices behind the newest ``offset`` ones, newest first; cost is that of the page."""
        return [self._index[number] for number in self._of(account_id).page(limit, offset)]

    def above(self, account_id: int, number: int, limit: int) -> list[Device]:
        """Give up to ``limit`` devices with numbers above one, oldest first; cost is that of the page."""
        return [self._index[one] for one in self._of(account_id).above(number, limit)]

    async def slices(self, account_id: int, size: int = SLICE_DEVICES) -> AsyncIterator[Sequence[Device]]:
        """Walk an account's devices, newest first, in slices of ``size`` with a turn of the loop between them.

        What is removed or added during the walk neither repeats nor hides another device.
        """
        below = None
        while part := self._of(account_id).below(below, size):
            yield [self._index[number] for number in part]
            below = part[-1]
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

    async def create(
        self, account_id: int, description: DeviceDescription, now_s: int, beside: Beside = alone
    ) -> tuple[Device, str]:
        """Register a device; returns its record and its password, which nobody can see again.

        ``beside`` is given both and says what is committed with it. Raises what ``begin`` does, and ``Unavailable``.
        """
        newcomer = self.begin(account_id, description, now_s)
        companion = beside(newcomer.device, newcomer.password)
        await self._ledger.commit(newcomer.changes, newcomer.apply, newcomer.release, companion)
        return newcomer.device, newcomer.password

    def begin(self, account_id: int, description: DeviceDescription, now_s: int) -> Newcomer:
        """Judge a new device and reserve what has to be its own, for who commits it.

        Raises ``QuotaExceeded`` at the plan's number of devices, ``Conflict`` when a chosen id, a user name or the
        certificate is taken, and ``BadRequest`` for a fingerprint that is none, and an id that is no level of a topic:
        with it goes everything under ``devices/{device_id}/``.
        """
        check_description(description)
        of_account = self._of(account_id)
        self._check_quota(account_id, of_account)
        device_id = description.device_id or new_device_id()
        if device_id in of_account.by_id or device_id in of_account.reserved:
            raise Conflict(f"there is a device {device_id!r} already")
        self._index.reserve(description.certificate_fingerprint, description.login.user_name)
        device, password, given = self._draw(account_id, device_id, description, now_s)
        of_account.reserved.add(device_id)
        about(device_id)

        def release() -> None:
            of_account.reserved.discard(device_id)
            self._index.release(device.certificate_fingerprint, description.login.user_name)

        def apply() -> None:
            release()
            self._add(device)
            self._added(account_id)

        return Newcomer(device, password, (given, _put(device)), apply, release)

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
        latest = self._index[device.device_number]
        records = [
            (DEVICES, key),
            (SEEN, key),
            (ONLINE, key),
            *self.passwords.records(latest),
            *self.timeline.records(device.device_number),
        ]
        records += self.messages.leave(device.device_number)
        try:
            self._grants.take(latest)
            await self._table.remove_device(device.account_id, device.device_number, device.device_id, records)
            self._remove(device.device_number)
        finally:
            del self._leaving[device.device_number]

    async def set_active(self, account_id: int, device_id: str, active: bool, now_s: int) -> Device:
        """Let a device in or keep it out; who is connected is cut, and its sessions wait. Raises ``NotFound``."""
        return await self.change(account_id, device_id, DeviceChange(active=active), now_s)

    async def change(self, account_id: int, device_id: str, change: DeviceChange, now_s: int) -> Device:
        """Change a device; durable when it returns. Changes of one device are made one after the other.

        Who came in by a certificate is cut when the device is bound to another one, or to none; who is not to come in
        any more, in any case. Raises ``NotFound``, ``Conflict`` for another device's certificate, ``BadRequest`` for a
        fingerprint that is none, and ``Unavailable``.
        """
        device = self.get(account_id, device_id)
        check_fingerprint(change.certificate_fingerprint or "")
        if change == DeviceChange():
            return device
        return await asyncio.shield(self._begin(device.device_number, change, now_s))

    async def rotate(
        self, account_id: int, device_id: str, overlap_s: int, now_s: int, beside: Beside = alone
    ) -> tuple[Device, str]:
        """Give a device a new password; durable when it returns, with the password, which nobody can see again.

        The one before it lets in for ``overlap_s`` seconds more; whoever came in with one that has ended is cut.
        ``beside`` is given both and says what is committed with it. Raises ``NotFound`` and ``Unavailable``.
        """
        device = self.get(account_id, device_id)
        password = new_password()
        rotation = Rotation(credential(self._secret, device.user_name, password.encode()), overlap_s)
        begun = self._begin(device.device_number, rotation, now_s, lambda changed: beside(changed, password))
        return await asyncio.shield(begun), password

    def end_overlaps(self, now_s: int) -> None:
        """Cut who came in with a password whose overlap is over; asked twice a second."""
        for number in self.passwords.due(now_s):
            device = self._index.get(number)
            if device is not None and device.previous_digest and len(self.passwords.digests(device)) == 1:
                self._grants.take_password(device.previous_digest)
                self._begin(number, Retirement(), now_s)

    def _begin(
        self, device_number: int, change: Changing, now_s: int, beside: Callable[[Device], Companion] = by_itself
    ) -> asyncio.Task[Device]:
        """Let a change go on whoever waits for it: it is not parted from the one behind it."""
        changing = asyncio.create_task(self._change(device_number, change, now_s, beside), name="change of a device")
        self._changing.add(changing)
        changing.add_done_callback(self._changed)
        return changing

    def _changed(self, changing: asyncio.Task[Device]) -> None:
        self._changing.discard(changing)
        if not changing.cancelled() and changing.exception() is not None:
            log.debug("a device was not changed: %s", changing.exception())  # who waits for it is told

    async def _change(
        self, device_number: int, change: Changing, now_s: int, beside: Callable[[Device], Companion]
    ) -> Device:
        async with self._locks.setdefault(device_number, asyncio.Lock()):
            device = self._index.get(device_number)
            if device is None or device_number in self._leaving:
                raise NotFound("there is no such device")
            changed = change.of(device, now_s)
            with self._index.binding(device, changed):
                changes = [_put(changed), *self.passwords.forget_ended(device, changed)]
                await self._ledger.commit(changes, lambda: self._exchange(device, changed), beside=beside(changed))
            return changed

    def _exchange(self, device: Device, changed: Device) -> None:
        """Let a change be in force: it is on disk."""
        if device.device_number not in self._index:  # it was removed meanwhile
            return
        if changed.certificate_fingerprint != device.certificate_fingerprint:
            self._grants.take_by_certificate(device)
        self._index.replace(changed)
        self.passwords.note(changed)
        for code in codes_of_change(device, changed):
            self.timeline.note_now(device.device_number, code)
        for digest in {device.digest, device.previous_digest} - set(self.passwords.digests(changed)):
            self._grants.take_password(digest)
        if changed.active != device.active or changed.digest != device.digest:
            self.follow(changed)

    def follow(self, device: Device) -> None:
        """Give or take a device's grants as it and its account are now."""
        if self._may_enter(device) and not self._accounts.get(device.account_id).suspended:
            self._grants.give(device)
        else:
            self._grants.take(device)

    def is_staying(self, device_number: int) -> bool:
        """Tell whether a device has this number, and is not being removed."""
        return device_number in self._index and device_number not in self._leaving

    def _may_enter(self, device: Device) -> bool:
        """Tell whether a device is let in as far as it goes itself."""
        return device.active and device.device_number not in self._leaving

    def grant_for(self, user_name: str, digest: bytes) -> Grant | None:
        """Give what a credential grants: None unless it is that of an active device."""
        device = self.with_user_name(user_name)
        if device is None or not self._may_enter(device) or digest not in self.passwords.digests(device):
            return None
        return self._grants.grant(device)

    def rights_of(self, device: Device) -> Grant:
        """Give what a CONNECT of a device is granted, whether it is let in at this moment or not."""
        return self._grants.grant(device)

    def grant_by_certificate(self, device: Device) -> Grant | None:
        """Give what a device's certificate grants to who has shown it; None unless the device is active."""
        return self._grants.give_by_certificate(device) if self._may_enter(device) else None

    def cut_by_certificate(self, device_number: int) -> None:
        """Cut who came in as a device by a certificate; it may come again, if that lets it in."""
        device = self._index.get(device_number)
        if device is not None:
            self._grants.take_by_certificate(device)

    def account_ids(self) -> list[int]:
        """List the accounts that have, or had, devices."""
        return list(self._index.by_account)

    def _of(self, account_id: int) -> OfAccount:
        if account_id not in self._index.by_account:
            self._accounts.get(account_id)
        return self._index.of(account_id)

    def _check_quota(self, account_id: int, of_account: OfAccount) -> None:
        plan = self._accounts.plan(account_id)
        if len(of_account.numbers) + len(of_account.reserved) >= plan.devices_maximum:
            raise QuotaExceeded(f"the plan {plan.name!r} has room for {plan.devices_maximum} devices")

    def _draw(
        self, account_id: int, device_id: str, description: DeviceDescription, now_s: int
    ) -> tuple[Device, str, Change]:
        """Draw number, user name and password: a chosen id is the account's own, so its user name is generated.

        What a device brings along of its login is not drawn: its password is empty then.
        """
        number, given = self._ledger.give_number(PRINCIPAL_NUMBERS)
        login = description.login
        user_name = login.user_name or (new_device_id() if description.device_id else device_id)
        password = "" if login.digest else new_password()
        digest = login.digest or credential(self._secret, user_name, password.encode())
        device = description.of(number, account_id, device_id, user_name, digest, now_s)
        return device, password, given

    def _add(self, device: Device) -> None:
        self._of(device.account_id)  # the account is known
        self._index.add(device)
        self.passwords.note(device)
        if device.active and not self._accounts.get(device.account_id).suspended:
            self._grants.give(device)

    def _remove(self, device_number: int) -> None:
        self.passwords.forget(self._index[device_number])
        self._index.remove(device_number)
        self.sightings.forget(device_number)
        self.timeline.forget(device_number)
        self.presence.forget(device_number)


def _put(device: Device) -> Change:
    return Change(DEVICES, number_key(device.device_number), device.encode())
