"""The devices in memory: one record each, found by number, account and id, user name, or certificate.

Here belong the indexes, and what is reserved for records on their way to disk. Not here: when a device comes, changes
and goes (``devices``), and its grants.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from broker.accounts.records import Device
from broker.errors import Conflict


@dataclass(slots=True)
class OfAccount:
    """The devices of one account: by id, and their numbers in the order they were given (oldest first)."""

    by_id: dict[str, Device] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    reserved: set[str] = field(default_factory=set)  # registered, but not durable yet

    def page(self, limit: int, offset: int) -> list[int]:
        """Give up to ``limit`` numbers behind the newest ``offset`` ones, newest first."""
        end = max(len(self.numbers) - offset, 0)
        return self.numbers[max(end - limit, 0) : end][::-1]

    def below(self, number: int | None, limit: int) -> list[int]:
        """Give up to ``limit`` numbers below one (None: the newest), newest first."""
        end = len(self.numbers) if number is None else bisect_left(self.numbers, number)
        return self.numbers[max(end - limit, 0) : end][::-1]

    def above(self, number: int, limit: int) -> list[int]:
        """Give up to ``limit`` numbers above one, oldest first."""
        start = bisect_right(self.numbers, number)
        return self.numbers[start : start + limit]


class DeviceIndex:
    """All devices of the installation; a device is added once, replaced by later records, and removed."""

    def __init__(self) -> None:
        self._by_number: dict[int, Device] = {}
        self._by_user_name: dict[str, int] = {}
        self._by_fingerprint: dict[str, int] = {}
        self._by_chosen_id: dict[str, list[int]] = {}
        self._reserved_fingerprints: set[str] = set()
        self._reserved_user_names: set[str] = set()
        self.by_account: dict[int, OfAccount] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, device_number: int) -> bool:
        return device_number in self._by_number

    def __getitem__(self, device_number: int) -> Device:
        return self._by_number[device_number]

    def get(self, device_number: int) -> Device | None:
        """Find a device by its number."""
        return self._by_number.get(device_number)

    def of(self, account_id: int) -> OfAccount:
        """Give the devices of an account, which exists."""
        of_account = self.by_account.get(account_id)
        if of_account is None:
            of_account = self.by_account[account_id] = OfAccount()
        return of_account

    def with_user_name(self, user_name: str) -> Device | None:
        """Find the device that logs in with this user name."""
        number = self._by_user_name.get(user_name)
        return None if number is None else self._by_number[number]

    def with_fingerprint(self, fingerprint: str) -> Device | None:
        """Find the device that is bound to this certificate."""
        number = self._by_fingerprint.get(fingerprint)
        return None if number is None else self._by_number[number]

    def named(self, device_id: str) -> Device | None:
        """Find the one device of all accounts that an id means; None where it means several.

        A generated id is unique in the installation: who chooses the same for a device of his own changes nothing.
        """
        generated = self.with_user_name(device_id)
        if generated is not None and generated.device_id == device_id:
            return generated
        chosen = self._by_chosen_id.get(device_id, ())
        return self._by_number[chosen[0]] if len(chosen) == 1 else None

    # ------------------------------------------------------------ changes

    def add(self, device: Device) -> None:
        """Take in a device, the newest of its account."""
        of_account = self.of(device.account_id)
        of_account.by_id[device.device_id] = device
        of_account.numbers.append(device.device_number)
        self._by_number[device.device_number] = device
        self._by_user_name[device.user_name] = device.device_number
        if device.device_id != device.user_name:
            self._by_chosen_id.setdefault(device.device_id, []).append(device.device_number)
        if device.certificate_fingerprint:
            self._by_fingerprint[device.certificate_fingerprint] = device.device_number

    def replace(self, device: Device) -> None:
        """Take a later record of a device: account, number, id and user name are the same."""
        previous = self._by_number[device.device_number]
        self._by_fingerprint.pop(previous.certificate_fingerprint, None)
        if device.certificate_fingerprint:
            self._by_fingerprint[device.certificate_fingerprint] = device.device_number
        self._by_number[device.device_number] = self.of(device.account_id).by_id[device.device_id] = device

    def remove(self, device_number: int) -> None:
        """Forget a device."""
        device = self._by_number.pop(device_number)
        of_account = self.of(device.account_id)
        del of_account.by_id[device.device_id]
        del of_account.numbers[bisect_left(of_account.numbers, device_number)]
        del self._by_user_name[device.user_name]
        self._by_fingerprint.pop(device.certificate_fingerprint, None)
        if device.device_id != device.user_name:
            self._forget_chosen(device)

    def _forget_chosen(self, device: Device) -> None:
        numbers = self._by_chosen_id[device.device_id]
        numbers.remove(device.device_number)
        if not numbers:
            del self._by_chosen_id[device.device_id]

    # ------------------------------------------------------------ on the way to disk

    def reserve(self, fingerprint: str, user_name: str) -> None:
        """Keep both for a new device (empty: none). Raises ``Conflict`` where one of them is taken."""
        if user_name in self._by_user_name or user_name in self._reserved_user_names:
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
        if fingerprint in self._by_fingerprint or fingerprint in self._reserved_fingerprints:
            raise Conflict("a device is bound to this certificate already")
        if fingerprint:
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
