"""A device's passwords: the newest, and for an overlap the one before it; and when they were last used.

Here belong which of them let a device in at a moment, and their exchange. Not here: the device's other fields
(``device_description``), and where grants stand (``device_grants``).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from broker.accounts.ledger import Ledger
from broker.accounts.records import Device, decode_number, encode_number
from broker.ports import Change
from broker.storage.tables import PASSWORDS_USED, key_number, number_key

DIGEST_BYTES_OF_KEY = 8  # enough to tell one device's passwords apart


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new password for a device; the one before it lives on for ``overlap_s``, and the one before that ends."""

    digest: bytes
    overlap_s: int

    def of(self, device: Device, now_s: int) -> Device:
        """Give the device as it will be."""
        changed = replace(device, updated_at=now_s, digest=self.digest, password_created_at=now_s)
        if self.overlap_s == 0:
            return Retirement().of(changed, now_s)
        overlapping = replace(
            changed,
            previous_digest=device.digest,
            previous_created_at=created_at(device),
            previous_until=now_s + self.overlap_s,
        )
        return _without_ended(overlapping)


@dataclass(frozen=True, slots=True)
class Retirement:
    """The end of an overlap: what has ended stays on record no longer."""

    def of(self, device: Device, _now_s: int) -> Device:
        """Give the device with its newest password alone."""
        return _without_ended(replace(device, previous_digest=b"", previous_created_at=0, previous_until=0))


def _without_ended(device: Device) -> Device:
    """Let the hash of a chosen password go when that lets in no more."""
    if device.chosen_digest in (device.digest, device.previous_digest):
        return device
    return replace(device, chosen_hash="", chosen_digest=b"")


def created_at(device: Device) -> int:
    """When the newest password was made: with the device, unless it was exchanged since."""
    return device.password_created_at or device.created_at


@dataclass(frozen=True, slots=True)
class Password:
    """One password of a device: when it was made, and until when it lets in (0: no end is set)."""

    digest: bytes
    created_at: int
    valid_until: int = 0


class DevicePasswords:
    """Which passwords are valid now: an overlap ends when ``due`` is told so late a time, and stays ended.

    Also when each was last used, as far as it is recorded.
    """

    def __init__(self, ledger: Ledger, is_there: Callable[[int], bool]) -> None:
        """``is_there`` tells whether a number is a device's that is not being removed."""
        self._ledger = ledger
        self._is_there = is_there
        self._now_s = 0  # the latest that was told: a clock that is set back revives nothing
        self._ends: list[tuple[int, int]] = []  # a heap: when an overlap ends, and whose it is
        self._used: dict[bytes, int] = {}

    def load(self, now_s: int) -> None:
        """Read when passwords were last used; overlaps that have ended by now are over."""
        self._now_s = max(self._now_s, now_s)
        self._used = {key: decode_number(value) for key, value in self._ledger.rows(PASSWORDS_USED)}

    def note(self, device: Device) -> None:
        """Remember when the overlap of a device ends, if it has one."""
        if device.previous_until > self._now_s:
            heapq.heappush(self._ends, (device.previous_until, device.device_number))

    def due(self, now_s: int) -> Iterator[int]:
        """Give the numbers of devices with an overlap that may have ended since the last call."""
        self._now_s = max(self._now_s, now_s)
        while self._ends and self._ends[0][0] <= self._now_s:
            yield heapq.heappop(self._ends)[1]

    def of(self, device: Device) -> list[Password]:
        """Give the passwords that let a device in, the newest first."""
        valid = [Password(device.digest, created_at(device))]
        if device.previous_until > self._now_s:
            valid.append(Password(device.previous_digest, device.previous_created_at, device.previous_until))
        return valid

    def digests(self, device: Device) -> list[bytes]:
        """Give the digests of the passwords that let a device in."""
        return [one.digest for one in self.of(device)]

    # ------------------------------------------------------------ their use

    def used_at(self, device: Device, digest: bytes) -> int:
        """When a password was last used, as far as it is recorded; 0 for never."""
        return self._used.get(used_key(device.device_number, digest), 0)

    async def record_use(self, used: Mapping[bytes, int]) -> None:
        """Store when passwords, by their ``used_key``, were last used (seconds of UTC)."""
        news = {
            key: at for key, at in used.items() if self._is_there(key_number(key[:4])) and self._used.get(key) != at
        }
        if news:
            changes = [Change(PASSWORDS_USED, key, encode_number(at)) for key, at in news.items()]
            await self._ledger.commit(changes, lambda: self._used.update(news))

    def records(self, device: Device) -> list[tuple[str, bytes]]:
        """Give the table and the key of what there may be of its passwords on disk."""
        digests = (device.digest, device.previous_digest)
        return [(PASSWORDS_USED, used_key(device.device_number, one)) for one in digests if one]

    def forget(self, device: Device) -> None:
        """Forget a device that was removed, with its records."""
        for _, key in self.records(device):
            self._used.pop(key, None)

    def forget_ended(self, before: Device, after: Device) -> list[Change]:
        """Give what takes the use of passwords off the disk that a change of their device ends."""
        ended = {before.digest, before.previous_digest} - {after.digest, after.previous_digest, b""}
        keys = [used_key(before.device_number, digest) for digest in ended]
        return [Change(PASSWORDS_USED, key, None) for key in keys if self._used.pop(key, None) is not None]


def used_key(device_number: int, digest: bytes) -> bytes:
    """Under which the use of a password is recorded."""
    return number_key(device_number) + digest[:DIGEST_BYTES_OF_KEY]
