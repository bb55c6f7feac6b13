"""Connections between clients and the broker: bytes on their way, cut at any point.

Here belong bytes and what is known of how far they came. Not here: what they mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulator.facts import NEVER

if TYPE_CHECKING:
    from tests.simulator.facts import Delivery, Message, Session, Will


class Link:
    """One connection. ``up`` is what its client has sent and the core has not seen; ``fed`` counts what it has.

    The client is done with it when it is no more the client's ``link``; the broker's side is open while ``is_open``.
    """

    __slots__ = (
        "accepted",
        "at_most_once",
        "clean",
        "client",
        "down",
        "expiry_s",
        "farewell_expiry_s",
        "farewell_sent",
        "farewell_t",
        "fed",
        "handle",
        "held",
        "is_open",
        "life",
        "raw",
        "sent",
        "sent_ran_ns",
        "sent_t",
        "session",
        "unpromised",
        "up",
        "version",
        "waiting",
        "will",
    )

    def __init__(self, client: int, handle: int, version: int, life: int) -> None:
        self.client = client
        self.handle = handle
        self.version = version
        self.life = life
        self.is_open = True
        self.up = bytearray()
        self.down = b""  # what the broker had written when it closed
        self.fed = 0
        self.held = False  # some of what was fed may not be parsed yet
        self.sent = 0
        self.raw = b""
        self.clean = False
        self.expiry_s = 0
        self.accepted = False
        self.session: Session | None = None
        self.will: Will | None = None
        self.sent_ran_ns = 0
        self.sent_t = 0
        self.unpromised = False
        self.farewell_sent = 0  # where its DISCONNECT ends, 0: none was sent
        self.farewell_t = NEVER  # when the core has surely taken it
        self.farewell_expiry_s: int | None = None
        self.waiting: list[tuple[int, Delivery | None]] = []  # where each acknowledgement ends; None: the farewell

        self.at_most_once: list[Message] = []  # retained ones of QoS 0, of which nobody says whether they arrived

    def send(self, data: bytes) -> int:
        """Put bytes on their way; returns where they end."""
        self.up += data
        self.sent += len(data)
        return self.sent

    def __repr__(self) -> str:
        return f"link {self.handle & 0xFFFF}.{self.handle >> 32} of client {self.client}"
