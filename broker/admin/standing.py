"""What is known of devices now: online, last seen, refused; and of their passwords, last used.

Here belongs what the core knows since the start, put together with what is on record from before. Not here: the records
(``broker.accounts``), and who asks (``service``, ``figures``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from broker.accounts.device_passwords import Password, used_key
from broker.accounts.directory import Directory
from broker.accounts.records import Device
from broker.admin.clock import NS_PER_S, Clock
from broker.admin.views import PasswordView
from broker.ports import OpenConnection, PresenceSource

REFUSAL_SHOWN_S = 24 * 3600


class DeviceStanding:
    """Asked for one device at a time; constant cost. Moments are whole seconds of UTC, None for never."""

    def __init__(self, directory: Directory, presence: PresenceSource, clock: Clock) -> None:
        self._devices = directory.devices
        self._presence = presence
        self._clock = clock

    def was_seen(self, device_number: int) -> bool:
        """Whether a device has opened or closed a connection since the start, with whichever password."""
        return self._presence.presence(device_number).last_seen_ns > 0

    def connection(self, device: Device) -> OpenConnection | None:
        """The connection that it has opened last and has still."""
        return self._presence.newest_connection(device.device_number)

    def last_seen(self, device: Device) -> int | None:
        """When a connection was last opened or closed: known to the core since the start, before that on record."""
        return self.seen(device)[0]

    def seen(self, device: Device) -> tuple[int | None, bool]:
        """When a connection was last opened or closed, and whether there is one."""
        presence = self._presence.presence(device.device_number)
        recorded = self._devices.sightings.last_seen_at(device.device_number)
        return latest(self._clock, presence.last_seen_ns, recorded), presence.connections > 0

    def status(self, device: Device) -> str:
        """``inactive``; ``error`` when it is offline and its last login within a day was refused; else ``active``."""
        if not device.active:
            return "inactive"
        return "error" if self.is_in_error(device.device_number) else "active"

    def is_in_error(self, device_number: int) -> bool:
        """Whether a device, if it is active, is in error."""
        refused_at = self._devices.sightings.refused_at(device_number)
        if refused_at is None or self._clock.monotonic_ns() / NS_PER_S - refused_at > REFUSAL_SHOWN_S:
            return False
        presence = self._presence.presence(device_number)
        return presence.connections == 0 and presence.last_seen_ns / NS_PER_S <= refused_at

    def passwords(self, device: Device) -> Sequence[PasswordView]:
        """The passwords that let it in, the newest first."""
        return [
            PasswordView(one.created_at, self._last_used(device, one), one.valid_until or None)
            for one in self._devices.passwords.of(device)
        ]

    def passwords_used(self, devices: Iterable[Device]) -> dict[bytes, int]:
        """When the passwords of devices were last used, by their ``used_key``; those that were used."""
        used: dict[bytes, int] = {}
        for device in devices:
            for one in self._devices.passwords.of(device):
                at = self._last_used(device, one)
                if at is not None:
                    used[used_key(device.device_number, one.digest)] = at
        return used

    def _last_used(self, device: Device, password: Password) -> int | None:
        recorded = self._devices.passwords.used_at(device, password.digest)
        return latest(self._clock, self._presence.credential_used_ns(password.digest), recorded)


def latest(clock: Clock, seen_ns: int, recorded: int) -> int | None:
    """Tell a moment that the core knows (monotonic; 0: not since the start), else the one on record (0: none)."""
    if seen_ns == 0:
        return recorded or None
    ago_ns = clock.monotonic_ns() - seen_ns
    moment = (clock.wall_ns() - ago_ns) // NS_PER_S  # of whole seconds the answer would change while nothing happens
    return recorded if abs(moment - recorded) <= 1 else moment  # the two clocks never agree to the second
