"""What the rules need of the native core, as a protocol: the shard implements it, tests may stand in its place.

Here belong the calls and the shape of a rare packet. Not here: any rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol, TypeAlias


class RareKind(IntEnum):
    """Why the core asks: the numbers are the core's."""

    CONNECT = 1
    PACKET = 2
    UPGRADE = 3
    REFUSED = 4
    CLOSED = 5
    TLS_FAILED = 6
    STORIES = 7
    PROXY_REFUSED = 8


class ProxyRefused(IntEnum):
    """Why a listener for proxies lets somebody not in: it is no trusted one, or begins with no PROXY header."""

    UNTRUSTED = 1
    MALFORMED = 2


RarePacket: TypeAlias = tuple[int, int, int, int, int, bytes]
"""Kind, handle, protocol version (4 or 5), reason code (REFUSED, CLOSED), number of the listener, whole packet.

In a packet's place: the HTTP request of an UPGRADE; in words, why TLS_FAILED; one byte of PROXY_REFUSED, a
``ProxyRefused``, and of REFUSED, a ``stories.Refused``, or nothing. STORIES belongs to no connection.
"""


class CoreFace(Protocol):
    """The part of ``broker._core.shard.Shard`` that the rules call; handles may have become invalid meanwhile."""

    def is_open(self, handle: int) -> bool:
        """Tell whether the handle still names a living connection."""
        ...

    def fail_connection(self, handle: int, reason_code: int) -> None:
        """Close with a reason code; nothing happens when it is already gone."""
        ...

    def reply(self, handle: int, packet: bytes) -> None:
        """Stage an encoded packet behind earlier promises and let the connection go on."""
        ...

    def admit(
        self,
        handle: int,
        account_id: int,
        principal_id: int,
        principal: str,
        device_id: str,
        publish: Sequence[str],
        subscribe: Sequence[str],
        *,
        durability: int = 2,
        limits: Sequence[int] = (),
        credential: bytes = b"",
    ) -> bool:
        """Let in the CONNECT that waits, by the grant of a known credential if one is named; else it is refused.

        False when it does not wait any more.
        """
        ...

    def subscribe(
        self,
        handle: int,
        topic_filter: bytes,
        qos: int,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifier: int = 0,
        retain_handling: int = 0,
    ) -> bool:
        """Add or replace a subscription; False at the session's limit. Its retained messages follow the reply."""
        ...

    def unsubscribe(self, handle: int, topic_filter: bytes) -> bool:
        """Remove a subscription; False when there was none."""
        ...

    def may_subscribe(self, handle: int, topic_filter: bytes) -> bool:
        """Whether the rights cover everything that the filter can match."""
        ...

    def valid_topic_filter(self, topic_filter: bytes) -> bool:
        """Whether this is a topic filter within the limits of levels and length."""
        ...
