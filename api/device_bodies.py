"""What requests say about a device: a new one, and changes of one.

Here belong those bodies, their ranges and refusals. Not here: answers and other bodies (``models``).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from api.jsontext import compact
from api.models import Body, DeviceType, never_null, refusal
from broker.admin import CHOSEN_ID as DEVICE_ID
from broker.admin import RESERVED_IDS as RESERVED_DEVICE_IDS

METADATA_MAXIMUM_BYTES = 16 * 1024
FINGERPRINT = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}")


def small(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return metadata that may be kept. Raises ``ValueError`` for more."""
    if metadata is not None and len(compact(metadata)) > METADATA_MAXIMUM_BYTES:
        raise ValueError(f"an object of at most {METADATA_MAXIMUM_BYTES} bytes as JSON")
    return metadata


def _plain_fingerprint(value: str) -> str:
    if FINGERPRINT.fullmatch(value) is None:
        raise ValueError("64 hexadecimal digits, with or without colons: the SHA-256 of a certificate")
    return value.replace(":", "").lower()


Fingerprint = Annotated[
    str, AfterValidator(_plain_fingerprint), Field(json_schema_extra={"pattern": f"^({FINGERPRINT.pattern})$"})
]


class RotationBody(Body):
    """POST /devices/{device_id}/credentials/rotate: how long the old password lets in beside the new one."""

    overlap_seconds: int = Field(0, ge=0, le=86_400)


class DeviceBody(Body):
    """POST /devices. ``device_type`` may stand for ``type``, with free text; a chosen ``device_id`` may go without."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [one], "properties": {one: {"type": "string"}}}
                for one in ("type", "device_type", "device_id")
            ]
        }
    )

    name: str = Field(min_length=3, max_length=100)
    type: DeviceType | None = None
    device_type: str | None = Field(None, min_length=1, max_length=64)
    description: str | None = Field(None, max_length=500)
    metadata: dict[str, Any] | None = None
    device_id: str | None = Field(
        None, json_schema_extra={"pattern": f"^{DEVICE_ID.pattern}$", "not": {"enum": [*RESERVED_DEVICE_IDS]}}
    )
    certificate_fingerprint: Fingerprint | None = None

    @field_validator("metadata")
    @classmethod
    def _metadata_is_small(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return small(value)

    @field_validator("device_id")
    @classmethod
    def _device_id_is_a_topic_level(cls, value: str | None) -> str | None:
        if value is not None and DEVICE_ID.fullmatch(value) is None:
            raise ValueError("3 to 64 letters, digits, dashes and underscores")
        if value in RESERVED_DEVICE_IDS:
            raise ValueError("an id that is not a reserved word")
        return value

    @model_validator(mode="after")
    def _has_one_type(self) -> DeviceBody:
        if self.type is None and self.device_type is None and self.device_id is None:
            raise refusal("type", "one of sensor, actuator, gateway, other")
        if self.type is not None and self.device_type not in (None, self.type):
            raise refusal("device_type", "the same as type, or nothing")
        return self

    @property
    def chosen_type(self) -> str:
        """The type, however it was spelled."""
        return self.type or self.device_type or "other"

    @property
    def metadata_json(self) -> str:
        """The metadata as JSON text."""
        return compact(self.metadata or {}).decode()


class DeviceChangeBody(Body):
    """PATCH /devices/{device_id}: what is named is changed; null empties a description, metadata or a binding."""

    name: str | None = Field(None, min_length=3, max_length=100, json_schema_extra=never_null)
    type: DeviceType | None = Field(None, json_schema_extra=never_null)
    device_type: str | None = Field(None, min_length=1, max_length=64, json_schema_extra=never_null)
    description: str | None = Field(None, max_length=500)
    status: Literal["active", "inactive"] | None = Field(None, json_schema_extra=never_null)
    is_active: bool | None = Field(None, json_schema_extra=never_null)
    metadata: dict[str, Any] | None = None
    certificate_fingerprint: Fingerprint | None = None

    @field_validator("name", "type", "device_type", "status", "is_active", mode="before")
    @classmethod
    def _cannot_be_emptied(cls, value: object) -> object:
        if value is None:
            raise ValueError("a value, or the field left out")
        return value

    @field_validator("metadata")
    @classmethod
    def _metadata_is_small(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return small(value)

    @model_validator(mode="after")
    def _says_one_thing(self) -> DeviceChangeBody:
        if self.type is not None and self.device_type not in (None, self.type):
            raise refusal("device_type", "the same as type, or nothing")
        if self.status is not None and self.is_active not in (None, self.status == "active"):
            raise refusal("is_active", "the same as status, or nothing")
        return self

    @property
    def chosen_type(self) -> str | None:
        """The type, however it was spelled; None leaves it."""
        return self.type or self.device_type

    @property
    def chosen_activity(self) -> bool | None:
        """Whether the device is to be active, however it was spelled; None leaves it."""
        return self.is_active if self.status is None else self.status == "active"

    @property
    def chosen_description(self) -> str | None:
        """The description, empty for null; None leaves it."""
        return self.description or "" if "description" in self.model_fields_set else None

    @property
    def metadata_json(self) -> str | None:
        """The metadata as JSON text; None leaves it."""
        return compact(self.metadata or {}).decode() if "metadata" in self.model_fields_set else None

    @property
    def chosen_fingerprint(self) -> str | None:
        """The certificate to be bound to, empty for none; None leaves it."""
        return self.certificate_fingerprint or "" if "certificate_fingerprint" in self.model_fields_set else None
