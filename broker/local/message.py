"""Messages as the embedding program sees them.

Here belong the value that a subscription gives and the names of what a publisher may add. Not here: bytes on a wire.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, cast


class PublishProperties(TypedDict, total=False):
    """What MQTT 5 lets a publisher add to a message (section 3.3.2.3); every one may be left out.

    ``message_expiry_interval`` is in seconds; ``payload_format_indicator`` is 1 for UTF-8 text; ``user_property`` is a
    sequence of pairs, in which a name may occur twice.
    """

    payload_format_indicator: int
    message_expiry_interval: int
    content_type: str
    response_topic: str
    correlation_data: bytes
    user_property: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a subscription received it.

    ``qos`` is that of the delivery: the lower one of the publisher's and the subscription's. ``retain`` is True for a
    message that was there before the subscription. ``properties`` are MQTT 5's, by their names in snake_case; empty
    for what a client of 3.1.1 sent.
    """

    topic_name: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Mapping[str, object] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The payload as UTF-8. Raises ``UnicodeDecodeError`` where it is not."""
        return self.payload.decode()

    def json(self) -> Any:
        """The payload as JSON. Raises ``ValueError`` where it is not."""
        return json.loads(self.payload)

    @property
    def content_type(self) -> str | None:
        """What the publisher calls the payload's form, e.g. ``application/json``; None when it said nothing."""
        return cast("str | None", self.properties.get("content_type"))

    @property
    def response_topic(self) -> str | None:
        """Where the publisher awaits an answer; None when it awaits none."""
        return cast("str | None", self.properties.get("response_topic"))

    @property
    def correlation_data(self) -> bytes | None:
        """What an answer has to carry, so that the publisher knows which question it answers."""
        return cast("bytes | None", self.properties.get("correlation_data"))

    @property
    def user_properties(self) -> tuple[tuple[str, str], ...]:
        """Pairs of name and value in the publisher's order; a name may occur twice."""
        return cast("tuple[tuple[str, str], ...]", self.properties.get("user_property", ()))

    @property
    def message_expiry_interval_s(self) -> int | None:
        """Seconds that were left when the message was delivered; None for one that never expires."""
        return cast("int | None", self.properties.get("message_expiry_interval"))
