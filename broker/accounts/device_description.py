"""What callers say about devices: new ones, and changes of others.

Here belong those values, and what in them cannot be used. Not here: the records that come of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from broker.accounts.certificates import check_fingerprint
from broker.accounts.records import Device
from broker.errors import BadRequest

TOPIC_LEVEL = re.compile(r"[^+#/\x00]{1,64}")
CHOSEN_ID = re.compile(r"[A-Za-z0-9_-]{3,64}")
"""What callers may choose as an id, but for ``RESERVED_IDS``; from inside the process it is any level of a topic."""
RESERVED_IDS = frozenset({"bulk"})


@dataclass(frozen=True, slots=True)
class OwnLogin:
    """A login that a new device brings along: ``digest`` is that of its user name and its password."""

    user_name: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class DeviceDescription:
    """What a caller says about a new device; an empty ``device_id`` lets one be generated.

    One that brings its ``login`` along has a user name that nobody else can have.
    """

    name: str
    device_type: str
    description: str = ""
    metadata_json: str = "{}"
    device_id: str = ""
    certificate_fingerprint: str = ""
    login: OwnLogin | None = None  # else one is drawn

    def of(self, number: int, account_id: int, device_id: str, user_name: str, digest: bytes, now_s: int) -> Device:
        """Give the device as it is registered."""
        return Device(
            device_number=number,
            account_id=account_id,
            device_id=device_id,
            user_name=user_name,
            digest=digest,
            name=self.name,
            device_type=self.device_type,
            description=self.description,
            metadata_json=self.metadata_json,
            active=True,
            created_at=now_s,
            updated_at=now_s,
            certificate_fingerprint=self.certificate_fingerprint,
        )


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """What a caller changes about a device; None leaves it. An empty ``certificate_fingerprint`` binds it to none."""

    name: str | None = None
    device_type: str | None = None
    description: str | None = None
    metadata_json: str | None = None
    active: bool | None = None
    certificate_fingerprint: str | None = None

    def of(self, device: Device, now_s: int) -> Device:
        """Give the device as it will be."""
        said = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(device, updated_at=now_s, **{name: value for name, value in said.items() if value is not None})


def check_description(description: DeviceDescription) -> None:
    """Raise ``BadRequest`` for an id that is no level of a topic, and for a fingerprint that is none."""
    check_fingerprint(description.certificate_fingerprint)
    if description.device_id and TOPIC_LEVEL.fullmatch(description.device_id) is None:
        expected = "1 to 64 characters, none of + # /"
        raise BadRequest(
            f"device_id: expected {expected}", field="device_id", provided=description.device_id, expected=expected
        )
