"""What happens to devices, as the core tells it: words and shapes that the upper floors share.

Here belong the kinds of events, their reasons and the story of one device. Not here: sentences about them
(``accounts.timeline_words``), and what becomes of a story. The numbers are the core's (``_core/model.pxd``).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias

from broker.reasons import DropReason

PROTOCOLS_OF_DOORS = ("mqtt", "mqtts", "ws", "wss", "inside")
"""By what a connection came in, in the order of the core's doors."""

VERSIONS = {4: "3.1.1", 5: "5.0"}
"""The versions of MQTT, by their number in CONNECT."""


class EventKind(IntEnum):
    """What has happened; from ``THROTTLED`` on, what may happen very often and is gathered."""

    CONNECTED = 1
    DISCONNECTED = 2
    TAKEN_OVER = 3
    REFUSED = 4
    THROTTLED = 5
    DENIED_PUBLISH = 6
    DENIED_SUBSCRIBE = 7
    QUOTA = 8


class Farewell(IntEnum):
    """How a connection ended, where no reason code of an error (0x80 and above) says it."""

    NORMAL = 0
    LOST = 1
    WITH_WILL = 4


class Refused(IntEnum):
    """Why a CONNECT was refused although its login is good."""

    FROM_ELSEWHERE = 1
    WILL_TOPIC = 2
    WILL_SIZE = 3
    DEVICE_CONNECTIONS = 4
    ACCOUNT_CONNECTIONS = 5
    DEVICE_SESSIONS = 6
    ACCOUNT_SESSIONS = 7
    BROKER_SESSIONS = 8
    DISK = 9
    PACKET_SIZE = 10


class Verdict(IntEnum):
    """What would be decided about a publish or a subscription."""

    ALLOWED = 0
    INVALID_TOPIC = 1
    QUOTA_USED_UP = 2
    PAYLOAD_TOO_LARGE = 3
    FORBIDDEN = 4
    RETAINED_FULL = 5


class Event(NamedTuple):
    """Something that has happened so many ``times``; all but the times are of the last one.

    ``reason`` is a ``Farewell`` or a reason code of DISCONNECTED, a ``Refused`` of REFUSED, else 0. Times are
    nanoseconds of UTC. ``address`` is the peer's, ``other`` that of the one that had to go; ``text`` is the client id,
    or the topic that was denied, and ends with three dots where it was cut.
    """

    kind: EventKind
    reason: int
    first_ns: int
    last_ns: int
    times: int
    version: int
    door: int
    resumed: bool
    address: str
    other: str
    text: str


class Story(NamedTuple):
    """What has happened to one device since its last story; ``lost`` events found no room."""

    account_id: int
    principal_id: int
    device_id: str
    was_online: bool
    is_online: bool
    events: Sequence[Event]
    drops: Sequence[tuple[DropReason, int]]
    lost: int


class StorySource(Protocol):
    """Where stories come from; each is given once."""

    def take_stories(self, at_most: int) -> Sequence[Story]:
        """Take up to so many stories; when some are left, whoever is called for them is called again."""
        ...

    def take_gathered(self, at_most: int) -> Sequence[Story]:
        """Take up to so many stories of devices of which alone something is known that may happen very often."""
        ...

    def gathered(self) -> int:
        """Tell how many devices have such a story now."""
        ...


class Announcer(Protocol):
    """Publishing the broker's own word into an account's topics, which nobody is billed for."""

    def announce(self, account_id: int, topic_name: str, payload: bytes) -> None:
        """Publish with QoS 1, or 0 while the disk takes nothing; a name that no topic can have is passed over."""
        ...


CoreEvent: TypeAlias = tuple[int, int, int, int, int, int, int, bool, str, str, str]
"""The fields of ``Event`` as the core has them."""

CoreStory: TypeAlias = tuple[int, int, str, bool, bool, list[CoreEvent], list[tuple[int, int]], int]
"""The fields of ``Story`` as the core has them."""

ConnectionRow: TypeAlias = tuple[
    int, int, int, str, str, str, int, int, int, str, int, int, int, int, int, int, int, int
]
"""The fields of ``ConnectionNow`` as the core has them."""

SessionRow: TypeAlias = tuple[int, int, str, str, str, int, int, int, int, int, int, bool, bool]
"""The fields of ``SessionNow`` as the core has them."""


class ConnectionNow(NamedTuple):
    """A network connection that was let in. Moments are nanoseconds of UTC; ``durability`` is a level's number."""

    handle: int
    account_id: int
    principal_id: int
    principal: str
    device_id: str
    client_id: str
    listener: int
    door: int
    version: int
    address: str
    connected_at_ns: int
    keep_alive_s: int
    session_expiry_interval_s: int
    subscriptions: int
    queued_messages: int
    outbound_inflight: int
    unsent_bytes: int
    durability: int


class SessionNow(NamedTuple):
    """A session. ``handle`` is its connection's, 0 while its client is away; ``ends_at_ns`` 0 unless that is known."""

    account_id: int
    principal_id: int
    principal: str
    device_id: str
    client_id: str
    handle: int
    session_expiry_interval_s: int
    ends_at_ns: int
    subscriptions: int
    queued_messages: int
    outbound_inflight: int
    on_disk: bool
    has_will: bool
