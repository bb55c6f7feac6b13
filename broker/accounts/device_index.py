"""The devices in memory: one record each, found by number, account and id, user name, or certificate.

Here belong the indexes, and what is reserved for records on their way to disk. Not here: when a device comes, changes
and goes (``devices``), and its grants.

A device is kept as the bytes of its record and unpacked when somebody asks: as an object, with what it refers to, it is
three times as large, and the garbage collector walks over it. Nothing here moves everything when it grows: a dict of
100,000 names does, which holds the loop for ten milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from broker._core.names import Names
from broker._core.roster import Roster
from broker.accounts.device_search import searched
from broker.accounts.records import Device
from broker.errors import Conflict

SHELF_RECORDS = 64


@dataclass(slots=True)
class OfAccount:
    """The devices of one account: their order and what lists look at; and ids registered, but not durable yet."""

    roster: Roster = field(default_factory=Roster)
    reserved: set[str] = field(default_factory=set)


Shelf = Sequence[bytes | None]


class Records:
    """Bytes by number; numbers that were given one after the other lie on one shelf, which goes with its last.

    All but the newest shelf are tuples, which the garbage collector leaves alone once it has seen that nothing in them
    refers to anything: it would look at each record of a list, some milliseconds for 50,000 of them.
    """

    def __init__(self) -> None:
        self._shelves: dict[int, Shelf] = {}
        self._newest: list[bytes | None] = []  # a shelf that is still being filled
        self._newest_place = -1
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, number: int) -> bytes | None:
        """Give what is kept under a number."""
        shelf = self._shelves.get(number // SHELF_RECORDS)
        return None if shelf is None else shelf[number % SHELF_RECORDS]

    def put(self, number: int, record: bytes) -> None:
        """Keep something under a number, in place of what is."""
        place, at = divmod(number, SHELF_RECORDS)
        if place not in self._shelves:
            self._begin(place)
        self._count += self._shelves[place][at] is None
        self._set(place, at, record)

    def pop(self, number: int) -> None:
        """Forget what is kept under a number."""
        place, at = divmod(number, SHELF_RECORDS)
        self._set(place, at, None)
        self._count -= 1
        if not any(self._shelves[place]):
            del self._shelves[place]
            if place == self._newest_place:
                self._newest_place = -1

    def _begin(self, place: int) -> None:
        """Begin a shelf; the one before it is full, as a rule."""
        if self._newest_place >= 0:
            self._shelves[self._newest_place] = tuple(self._newest)
        self._newest = self._shelves[place] = [None] * SHELF_RECORDS
        self._newest_place = place

    def _set(self, place: int, at: int, record: bytes | None) -> None:
        if place == self._newest_place:
            self._newest[at] = record
        else:
            shelf = self._shelves[place]
            self._shelves[place] = (*shelf[:at], record, *shelf[at + 1 :])


class DeviceIndex:
    """All devices of the installation; a device is added once, replaced by later records, and removed.

    ``record`` is what is on disk of a device. What is asked for is made anew each time, some microseconds a device.
    """

    def __init__(self) -> None:
        self._records = Records()
        self._user_names = Names()
        self._fingerprints = Names()
        self._chosen = Names()  # under account and id
        self._chosen_ids: dict[str, set[int]] = {}
        self._reserved_fingerprints: set[str] = set()
        self._reserved_user_names: set[str] = set()
        self.by_account: dict[int, OfAccount] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, device_number: int) -> bool:
        return self._records.get(device_number) is not None

    def __getitem__(self, device_number: int) -> Device:
        record = self._records.get(device_number)
        if record is None:
            raise KeyError(device_number)
        return Device.decode(record)

    def get(self, device_number: int) -> Device | None:
        """Find a device by its number."""
        record = self._records.get(device_number)
        return None if record is None else Device.decode(record)

    def of(self, account_id: int) -> OfAccount:
        """Give the devices of an account, which exists."""
        of_account = self.by_account.get(account_id)
        if of_account is None:
            of_account = self.by_account[account_id] = OfAccount()
        return of_account

    def with_id(self, account_id: int, device_id: str) -> Device | None:
        """Find a device of an account by its id."""
        generated = self.with_user_name(device_id)
        if generated is not None and (generated.account_id, generated.device_id) == (account_id, device_id):
            return generated
        found = self._all(self._chosen.find(_chosen_name(account_id, device_id)))
        return next((one for one in found if (one.account_id, one.device_id) == (account_id, device_id)), None)

    def with_user_name(self, user_name: str) -> Device | None:
        """Find the device that logs in with this user name."""
        return next((one for one in self._all(self._user_names.find(user_name)) if one.user_name == user_name), None)

    def with_fingerprint(self, fingerprint: str) -> Device | None:
        """Find the device that is bound to this certificate."""
        found = self._all(self._fingerprints.find(fingerprint))
        return next((one for one in found if one.certificate_fingerprint == fingerprint), None)

    def named(self, device_id: str) -> Device | None:
        """Find the one device of all accounts that an id means; None where it means several.

        A generated id is unique in the installation: who chooses the same for a device of his own changes nothing.
        """
        generated = self.with_user_name(device_id)
        if generated is not None and generated.device_id == device_id:
            return generated
        chosen = self._chosen_ids.get(device_id, ())
        return next(self._all(chosen)) if len(chosen) == 1 else None

    def _all(self, numbers: Iterable[int]) -> Iterator[Device]:
        return (self[number] for number in numbers)

    # ------------------------------------------------------------ changes

    def add(self, device: Device, record: bytes) -> None:
        """Take in a device, the newest of its account."""
        number = device.device_number
        self._records.put(number, record)
        self.of(device.account_id).roster.add(number, *searched(device))
        self._user_names.add(device.user_name, number)
        if device.device_id != device.user_name:
            self._chosen.add(_chosen_name(device.account_id, device.device_id), number)
            self._chosen_ids.setdefault(device.device_id, set()).add(number)
        if device.certificate_fingerprint:
            self._fingerprints.add(device.certificate_fingerprint, number)

    def replace(self, device: Device, record: bytes) -> None:
        """Take a later record of a device: account, number, id and user name are the same."""
        number = device.device_number
        previous = self[number]
        if previous.certificate_fingerprint:
            self._fingerprints.remove(previous.certificate_fingerprint, number)
        if device.certificate_fingerprint:
            self._fingerprints.add(device.certificate_fingerprint, number)
        self._records.put(number, record)
        self.of(device.account_id).roster.replace(number, *searched(device))

    def remove(self, device_number: int) -> None:
        """Forget a device."""
        device = self[device_number]
        self._records.pop(device_number)
        self.of(device.account_id).roster.remove(device_number)
        self._user_names.remove(device.user_name, device_number)
        if device.certificate_fingerprint:
            self._fingerprints.remove(device.certificate_fingerprint, device_number)
        if device.device_id != device.user_name:
            self._forget_chosen(device)

    def _forget_chosen(self, device: Device) -> None:
        self._chosen.remove(_chosen_name(device.account_id, device.device_id), device.device_number)
        numbers = self._chosen_ids[device.device_id]
        numbers.remove(device.device_number)
        if not numbers:
            del self._chosen_ids[device.device_id]

    def refuse(self, device_number: int) -> None:
        """Note that a login of a device was refused; nothing for one that is none any more."""
        device = self.get(device_number)
        if device is not None:
            self.of(device.account_id).roster.refuse(device_number)

    # ------------------------------------------------------------ on the way to disk

    def reserve(self, fingerprint: str, user_name: str) -> None:
        """Keep both for a new device (empty: none). Raises ``Conflict`` where one of them is taken."""
        if user_name in self._reserved_user_names or (user_name and self.with_user_name(user_name) is not None):
            raise Conflict("a device has this user name already")
        self.reserve_fingerprint(fingerprint)
        if user_name:
            self._reserved_user_names.add(user_name)

    def release(self, fingerprint: str, user_name: str) -> None:
        """Keep them no longer: the record is on disk, or will never be."""
        self.release_fingerprint(fingerprint)
        self._reserved_user_names.discard(user_name)

    def reserve_fingerprint(self, fingerprint: str) -> None:
        """Keep a certificate for who is being bound to it (empty: none). Raises ``Conflict`` where it is taken."""
        if not fingerprint:
            return
        if fingerprint in self._reserved_fingerprints or self.with_fingerprint(fingerprint) is not None:
            raise Conflict("a device is bound to this certificate already")
        self._reserved_fingerprints.add(fingerprint)

    def release_fingerprint(self, fingerprint: str) -> None:
        """Keep it no longer: the record is on disk, or will never be."""
        self._reserved_fingerprints.discard(fingerprint)

    @contextmanager
    def binding(self, device: Device, changed: Device) -> Iterator[None]:
        """Keep the certificate that a device is being bound to, if it is another one. Raises ``Conflict``."""
        fingerprint = changed.certificate_fingerprint
        if fingerprint == device.certificate_fingerprint:
            yield
            return
        self.reserve_fingerprint(fingerprint)
        try:
            yield
        finally:
            self.release_fingerprint(fingerprint)


def _chosen_name(account_id: int, device_id: str) -> str:
    return f"{account_id}/{device_id}"
