"""The bodies, queries and answers of the API as the contract spells them.

Here belong fields, ranges and their refusals. Not here: bodies about devices (``device_bodies``) and messages to them
(``command_models``), what a request does (``handlers``). A field that is not named here is refused by name.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

DeviceType = Literal["sensor", "actuator", "gateway", "other"]
DeviceStatus = Literal["active", "inactive", "error"]


OFFSET_MAXIMUM = 10**18 - 1  # of as many digits as a whole number may have


# ``defer_build``: a model is made when it is first used, since all of them together are a sixth of a start's time.


class Body(BaseModel):
    """Base of request bodies: exact types, and no field that is not named."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Query(BaseModel):
    """Base of query strings: every value arrives as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Answer(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(frozen=True, defer_build=True)


def never_null(schema: dict[str, Any]) -> None:
    """Describe a field that may be left out, and is never null when it is there."""
    (schema_of_value,) = [one for one in schema.pop("anyOf") if one != {"type": "null"}]
    schema.pop("default", None)
    schema |= schema_of_value


def refusal(field: str, expected: str) -> PydanticCustomError:
    """Make the refusal of one field by a rule about several."""
    return PydanticCustomError("refused", "{expected}", {"field": field, "expected": expected})


def _whole_number(value: object) -> object:
    """Take decimal digits alone; without this, `1_0`, `+1` and ` 1` would do."""
    if isinstance(value, str):
        if re.fullmatch(r"[0-9]{1,18}", value) is None:
            raise ValueError("a whole number")
        return int(value)
    return value


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]


class Nothing(Query):
    """The query of a route that takes none."""


class PageQuery(Query):
    """Which part of a list."""

    limit: Annotated[WholeNumber, Field(ge=1, le=100)] = 50
    offset: Annotated[WholeNumber, Field(ge=0, le=OFFSET_MAXIMUM)] = 0


class DevicesQuery(PageQuery):
    """Which devices; ``device_type`` is ``type`` with free text."""

    status: DeviceStatus | None = None
    type: DeviceType | None = None
    device_type: str | None = Field(None, max_length=64)
    search: str | None = Field(None, max_length=200)


class CredentialsQuery(Query):
    """All devices, unless a limit is given."""

    limit: Annotated[WholeNumber, Field(ge=1, le=100)] | None = None
    offset: Annotated[WholeNumber, Field(ge=0, le=OFFSET_MAXIMUM, description="Only beside a `limit`")] = 0

    @model_validator(mode="after")
    def _offset_belongs_to_a_page(self) -> CredentialsQuery:
        if self.limit is None and "offset" in self.model_fields_set:
            raise refusal("offset", "a limit beside it")
        return self


class DeviceAnswer(Answer):
    """A device; ``device_type``, ``is_active`` and ``mqtt_username`` are the newer generation's spellings."""

    device_id: str
    name: str
    description: str
    type: str
    status: DeviceStatus
    metadata: dict[str, Any]
    created_at: str
    updated_at: str
    last_seen: str | None
    online: bool
    device_type: str
    is_active: bool
    mqtt_username: str
    certificate_fingerprint: str | None


class MqttCredentialsAnswer(Answer):
    """How a new device logs in, and where; the password is shown this once."""

    username: str
    password: str = Field(repr=False)
    client_id: str
    broker: str
    port: int
    protocol: str


class NewDeviceAnswer(DeviceAnswer):
    """A device that was registered just now."""

    mqtt_credentials: MqttCredentialsAnswer
    mqtt_password: str = Field(repr=False)


class PasswordAnswer(Answer):
    """One of a device's passwords, never itself; ``valid_until`` is null where no end is set."""

    created_at: str
    last_used: str | None
    valid_until: str | None


class DeviceDetailAnswer(DeviceAnswer):
    """A device with its passwords, the newest first: two while one overlaps the other; and how it is connected.

    The last three are of the connection that it has opened last and has still; null while it is offline, and an
    ``address`` for who comes by a Unix socket.
    """

    passwords: list[PasswordAnswer]
    connected_at: str | None
    protocol: str | None
    address: str | None


class RotationAnswer(Answer):
    """How a device logs in from now on; ``previous_valid_until`` is the end of its old password, past or to come."""

    mqtt_credentials: MqttCredentialsAnswer
    previous_valid_until: str


class DevicesAnswer(Answer):
    """Part of an account's devices, newest first; ``total`` is how many match in all."""

    devices: list[DeviceAnswer]
    total: int
    limit: int
    offset: int


class DeviceLoginAnswer(Answer):
    """How an existing device logs in; never its password."""

    device_id: str
    name: str
    username: str
    client_id: str
    status: DeviceStatus


class CredentialsAnswer(Answer):
    """Where and as whom the devices connect; the last three only when a limit was given."""

    broker: str
    ports: dict[str, int]
    protocols: list[str]
    mqtt_versions: list[str]
    devices: list[DeviceLoginAnswer]
    total: int | None = None
    limit: int | None = None
    offset: int | None = None


class HealthAnswer(Answer):
    """Whether the broker lives, or takes requests."""

    status: str


class NotReadyAnswer(HealthAnswer):
    """Why the broker should get no new work, or what is wrong though it may."""

    reason: str
