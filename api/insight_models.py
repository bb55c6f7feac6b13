"""Queries, bodies and answers about what has happened to devices, and about what they may do.

Here belong fields, ranges and their refusals. Not here: sentences and rules (``broker.admin``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from api.models import Answer, Body, Query, WholeNumber, refusal

TOPIC_MAXIMUM_BYTES = 65_535
PAYLOAD_MAXIMUM_BYTES = 2**28


class TimelineQuery(Query):
    """Which part of a timeline: ``before`` is the ``next_before`` of the answer before."""

    limit: Annotated[WholeNumber, Field(ge=1, le=100)] = 50
    before: Annotated[WholeNumber, Field(ge=1, le=2**53)] | None = None


class TimelineEntryAnswer(Answer):
    """What has happened ``count`` times from ``first_at`` to ``at``; the rest is of the last time."""

    id: int
    at: str
    first_at: str
    count: int
    code: str
    message: str
    remedy: str | None
    protocol: str | None
    mqtt_version: str | None
    address: str | None
    other_address: str | None
    client_id: str | None
    topic: str | None


class TimelineAnswer(Answer):
    """Entries of one device, newest first; ``next_before`` is null when there are no older ones."""

    device_id: str
    events: list[TimelineEntryAnswer]
    limit: int
    next_before: int | None


class PolicyCheckBody(Body):
    """POST /policy/check: who, by ``device_id`` or ``key_name``, and what; ``topic`` is a filter to subscribe to."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": [one],
                    "properties": {one: {"type": "string"}, other: {"type": "null"}},
                }
                for one, other in (("device_id", "key_name"), ("key_name", "device_id"))
            ],
            "if": {"properties": {"action": {"const": "subscribe"}}},
            "then": {"properties": {"retain": {"const": False}, "payload_bytes": {"const": 0}}},
        }
    )

    device_id: str | None = Field(None, min_length=1, max_length=64)
    key_name: str | None = Field(None, min_length=1, max_length=64)
    action: Literal["publish", "subscribe"]
    topic: str = Field(max_length=TOPIC_MAXIMUM_BYTES)
    qos: int = Field(0, ge=0, le=2)
    retain: bool = False
    payload_bytes: int = Field(0, ge=0, le=PAYLOAD_MAXIMUM_BYTES)

    @field_validator("topic")
    @classmethod
    def _fits_into_a_packet(cls, value: str) -> str:
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise ValueError("text without lone surrogates") from error
        if size > TOPIC_MAXIMUM_BYTES:
            raise ValueError(f"at most {TOPIC_MAXIMUM_BYTES} bytes")
        return value

    @model_validator(mode="after")
    def _is_about_one(self) -> PolicyCheckBody:
        if (self.device_id is None) == (self.key_name is None):
            raise refusal("device_id", "device_id or key_name, and not both")
        if self.action == "subscribe" and (self.retain or self.payload_bytes):
            raise refusal("retain" if self.retain else "payload_bytes", "nothing: a subscription has none")
        return self


class PolicyCheckAnswer(Answer):
    """Whether it would get through, and the rule that decides; ``patterns`` are all that there are for the action."""

    allowed: bool
    rule: str
    reason: str
    reason_code: str
    mqtt_reason_code: int | None
    patterns: list[str]
