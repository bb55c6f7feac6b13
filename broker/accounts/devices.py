"""Devices: registered, found, listed and removed, fast for a hundred thousand in one account.

Here belongs the records' life. Not here: their indexes (``device_index``) and grants (``device_grants``), connections
(the core knows those), and how a device looks to the outside (``broker.admin``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakValueDictionary

from broker.accounts.accounts import Accounts
from broker.accounts.certificates import check_fingerprint
from broker.accounts.deeds import about
from broker.accounts.device_changes import codes_of_change
from broker.accounts.device_description import DeviceChange, DeviceDescription, check_description
from broker.accounts.device_grants import DeviceGrants
from broker.accounts.device_index import OfAccount
from broker.accounts.device_lookup import DeviceLookup
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


class Devices(DeviceLookup):
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
        super().__init__(accounts)
        self._added = added
        self._ledger = ledger
        self._secret = secret
        self._table = grants
        self.passwords = DevicePasswords(ledger, self.is_staying)
        self._grants = DeviceGrants(secret, grants, accounts, self.passwords, queue_maximum_bytes)
        self.timeline = TimelineBook(ledger, self.is_staying, wall_ms)
        self.presence = PresenceBook(ledger, self.is_staying)
        self.sightings = Sightings(ledger, self.is_staying, self._index.refuse)
        self.messages = Messages(ledger, self.is_staying)
        self._leaving: dict[int, asyncio.Task[None]] = {}  # their removal is on its way to disk
        self._changing: set[asyncio.Task[Device]] = set()
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()  # of those that are being changed

    def load(self, now_s: int) -> None:
        """Read all devices and grant those that may connect, with the passwords that are valid at this time."""
        self.passwords.load(now_s)
        for _, value in self._ledger.scan(DEVICES):
            self._add(Device.decode(value), value)
        self.sightings.load()
        self.presence.load()

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
        if device_id in of_account.reserved or self._index.with_id(account_id, device_id) is not None:
            raise Conflict(f"there is a device {device_id!r} already")
        self._index.reserve(description.certificate_fingerprint, description.login.user_name)
        device, password, given = self._draw(account_id, device_id, description, now_s)
        of_account.reserved.add(device_id)
        about(device_id)
        record = device.encode()

        def release() -> None:
            of_account.reserved.discard(device_id)
            self._index.release(device.certificate_fingerprint, description.login.user_name)

        def apply() -> None:
            release()
            self._add(device, record)
            self._added(account_id)

        return Newcomer(device, password, (given, _put(device, record)), apply, release)

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
                record = changed.encode()
                changes = [_put(changed, record), *self.passwords.forget_ended(device, changed)]
                apply = partial(self._exchange, device, changed, record)
                await self._ledger.commit(changes, apply, beside=beside(changed))
            return changed

    def _exchange(self, device: Device, changed: Device, record: bytes) -> None:
        """Let a change be in force: it is on disk."""
        if device.device_number not in self._index:  # it was removed meanwhile
            return
        if changed.certificate_fingerprint != device.certificate_fingerprint:
            self._grants.take_by_certificate(device)
        self._index.replace(changed, record)
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

    def _check_quota(self, account_id: int, of_account: OfAccount) -> None:
        plan = self._accounts.plan(account_id)
        if len(of_account.roster) + len(of_account.reserved) >= plan.devices_maximum:
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

    def _add(self, device: Device, record: bytes) -> None:
        self._of(device.account_id)  # the account is known
        self._index.add(device, record)
        self.passwords.note(device)
        if device.active and not self._accounts.get(device.account_id).suspended:
            self._grants.give(device)

    def _remove(self, device_number: int) -> None:
        self.passwords.forget(self._index[device_number])
        self._index.remove(device_number)
        self.sightings.forget(device_number)
        self.timeline.forget(device_number)
        self.presence.forget(device_number)


def _put(device: Device, record: bytes) -> Change:
    return Change(DEVICES, number_key(device.device_number), record)
