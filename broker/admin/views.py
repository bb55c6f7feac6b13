"""What the outside gets to see: frozen snapshots, with the contract's words and times in whole seconds of UTC.

Here belong values only. Not here: how they come about (``service``, ``operator``), and their JSON (``api``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True, slots=True)
class PasswordView:
    """One of a device's passwords, never itself: ``last_used`` is None for never, ``valid_until`` for no end."""

    created_at: int
    last_used: int | None
    valid_until: int | None


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device as it is now; ``last_seen`` is None until its first connect, ``metadata_json`` the text of an object.

    ``certificate_fingerprint`` is empty when it is bound to none. ``passwords`` are those that let it in, the newest
    first; they and the last three, of the connection that it has opened last, are left out in lists.
    """

    device_id: str
    name: str
    description: str
    device_type: str
    status: str
    metadata_json: str
    created_at: int
    updated_at: int
    last_seen: int | None
    online: bool
    username: str
    certificate_fingerprint: str
    passwords: Sequence[PasswordView] = ()
    connected_at: int | None = None
    protocol: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class MqttCredentials:
    """How a new device logs in, and where; the password cannot be seen again."""

    username: str
    password: str = field(repr=False)
    client_id: str
    broker: str
    port: int
    protocol: str


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices a list is about; empty strings match all. ``search`` looks into name and description."""

    status: str = ""
    device_type: str = ""
    search: str = ""


@dataclass(frozen=True, slots=True)
class DevicePage:
    """Part of an account's devices, newest first, and how many match in all."""

    devices: Sequence[DeviceView]
    total: int


@dataclass(frozen=True, slots=True)
class DeviceLogin:
    """How an existing device logs in; never its password."""

    device_id: str
    name: str
    username: str
    client_id: str
    status: str


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """Where an account's devices connect; ``ports`` by protocol, best first in ``protocols``' order of the contract."""

    broker: str
    ports: dict[str, int]
    protocols: Sequence[str]
    mqtt_versions: Sequence[str]


@dataclass(frozen=True, slots=True)
class CredentialsInfo:
    """Where and as whom an account's devices connect; ``logins`` comes in slices, so that many hold nobody up."""

    connection: ConnectionInfo
    logins: AsyncIterator[Sequence[DeviceLogin]]
    total: int


@dataclass(frozen=True, slots=True)
class MetricsText:
    """The broker's figures as text of a type that ``content_type`` names."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as the operator sees it; messages and bytes are what it has used of this month, in both directions."""

    account_id: int
    name: str
    plan: str
    durability: str
    queue_full_policy: str
    suspended: bool
    devices: int
    messages_this_month: int
    bytes_this_month: int
    created_at: int


@dataclass(frozen=True, slots=True)
class QuotaView:
    """What an account's plan allows and what it has used of it this month; bytes count both directions."""

    plan: str
    devices_maximum: int
    messages_per_month: int
    bytes_per_month: int
    payload_maximum_bytes: int
    device_messages_per_s: int
    devices: int
    messages: int
    bytes: int
    ends_at: int


@dataclass(frozen=True, slots=True)
class UsedDay:
    """What was used on a day of UTC, and how many devices did something on it."""

    day: date
    messages: int
    bytes: int
    active_devices: int


@dataclass(frozen=True, slots=True)
class UsedByDevice:
    """What a device has used."""

    device_id: str
    name: str
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class UsageView:
    """What was used in a period of days, both ends included; ``days`` are newest first, ``top`` most messages first.

    ``active_devices`` may have been deleted since; of ``total_devices`` and ``top`` are those that there are now.
    """

    start: date
    end: date
    messages: int
    bytes: int
    active_devices: int
    total_devices: int
    days: Sequence[UsedDay]
    top: Sequence[UsedByDevice]


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """An account's devices by what they are, as of a moment; free texts as types are told up to a number of them."""

    total: int
    active: int
    inactive: int
    error: int
    online: int
    by_type: dict[str, int]
    persistent_sessions: int
    queued_messages: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class StatsView:
    """An account at this moment; ``devices`` may be of a second ago where there are very many."""

    devices: DeviceCounts
    connections: int
    connections_peak_today: int
    connections_by_protocol: dict[str, int]
    messages_today: int
    bytes_today: int
    messages_this_month: int
    bytes_this_month: int
    messages_per_s_in: float
    messages_per_s_out: float
    retained_count: int
    retained_bytes: int
