"""How a device stands at this moment: online, its status, when it was last seen.

Here belongs what follows from its record and the core's presence together. Not here: the record (``accounts``), and who
asks (``service``, ``figures``).
"""

from __future__ import annotations

from broker.accounts.directory import Directory
from broker.accounts.records import Device
from broker.admin.clock import NS_PER_S, Clock
from broker.ports import PresenceSource

REFUSAL_SHOWN_S = 24 * 3600


class DeviceStanding:
    """Asked for one device at a time; constant cost."""

    def __init__(self, directory: Directory, presence: PresenceSource, clock: Clock) -> None:
        self._directory = directory
        self._presence = presence
        self._clock = clock

    def online(self, device: Device) -> bool:
        """Whether it has a connection."""
        return self._presence.presence(device.device_number).connections > 0

    def last_seen(self, device: Device) -> int | None:
        """When a connection was last opened or closed: known to the core since the start, before that on record."""
        seen_ns = self._presence.presence(device.device_number).last_seen_ns
        if seen_ns == 0:
            return self._directory.devices.last_seen_at(device.device_number) or None
        recorded = self._directory.devices.last_seen_at(device.device_number)
        ago_s = (self._clock.monotonic_ns() - seen_ns) / NS_PER_S
        moment = round(self._clock.wall_s() - ago_s)
        return recorded if abs(moment - recorded) <= 1 else moment  # the two clocks never agree to the second

    def status(self, device: Device) -> str:
        """``active``, ``inactive``, or ``error``: active, and offline since a login was refused."""
        if not device.active:
            return "inactive"
        refused_at = self._directory.devices.refused_at(device.device_number)
        if refused_at is None or self._clock.monotonic_ns() / NS_PER_S - refused_at > REFUSAL_SHOWN_S:
            return "active"
        presence = self._presence.presence(device.device_number)
        offline_since = presence.connections == 0 and presence.last_seen_ns / NS_PER_S <= refused_at
        return "error" if offline_since else "active"
