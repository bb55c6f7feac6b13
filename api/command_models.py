"""The bodies and answers of messages to devices: commands, configuration, firmware.

Here belong their fields, ranges and refusals. Not here: what a request does (``commands``).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from api.jsontext import RawJson, compact
from api.models import Answer, Body, Query, WholeNumber, refusal

EXPIRY_MAXIMUM_S = 31_536_000  # a year
WAIT_MAXIMUM_S = 60
BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

MessageState = Literal["queued", "sent", "acknowledged", "answered", "expired", "dropped"]


class MessageBody(Body):
    """POST /devices/{device_id}/commands and its like: any JSON value as ``payload``, or bytes as ``payload_base64``.

    What is null is as if it were not there, but for the payload: null is JSON.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["payload"], "properties": {"payload_base64": {"type": "null"}}},
                {
                    "required": ["payload_base64"],
                    "properties": {"payload_base64": {"type": "string"}},
                    "not": {"required": ["payload"]},
                },
            ]
        }
    )

    payload: Any = None
    payload_base64: str | None = Field(None, json_schema_extra={"pattern": BASE64, "contentEncoding": "base64"})
    qos: int = Field(1, ge=0, le=2)
    retain: bool | None = None
    expiry_seconds: int | None = Field(None, ge=1, le=EXPIRY_MAXIMUM_S)
    message_id: str | None = Field(None, json_schema_extra={"pattern": f"^{MESSAGE_ID.pattern}$"})

    @field_validator("message_id")
    @classmethod
    def _message_id_is_a_topic_level(cls, value: str | None) -> str | None:
        if value is not None and MESSAGE_ID.fullmatch(value) is None:
            raise ValueError("1 to 64 letters, digits, dashes and underscores")
        return value

    @field_validator("payload_base64")
    @classmethod
    def _is_base64(cls, value: str | None) -> str | None:
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("base64 with the standard alphabet and padding") from error
        return value

    @model_validator(mode="after")
    def _has_one_payload(self) -> MessageBody:
        if ("payload" in self.model_fields_set) == (self.payload_base64 is not None):
            raise refusal("payload", "payload or payload_base64, and not both")
        return self

    def payload_bytes(self) -> bytes:
        """Give the application message: a JSON value as compact text, or the decoded bytes.

        Raises ``ValueError`` for JSON text that UTF-8 cannot carry.
        """
        if self.payload_base64 is not None:
            return base64.b64decode(self.payload_base64)
        return self.payload.text if isinstance(self.payload, RawJson) else compact(self.payload)


class SendQuery(Query):
    """How long the request waits for the device's answer."""

    wait: Annotated[WholeNumber, Field(ge=0, le=WAIT_MAXIMUM_S)] = 0


class ResponseAnswer(Answer):
    """What the device has answered: JSON text as ``payload``, anything else as ``payload_base64``.

    Both are null where it has more bytes than are kept.
    """

    at: str
    bytes: int
    payload: Any = None
    payload_base64: str | None = None


class MessageAnswer(Answer):
    """What has become of a message; ``reason`` where it was dropped or has expired."""

    message_id: str
    topic: str
    state: MessageState
    reason: str | None
    response: ResponseAnswer | None


class MessageDetailAnswer(MessageAnswer):
    """The same, with its times; null for never."""

    qos: int
    created_at: str
    expires_at: str | None
    sent_at: str | None
    acknowledged_at: str | None
    answered_at: str | None
    ended_at: str | None
