"""What callers say about devices: new ones, and changes of others.

Here belong those values, and what in them cannot be used. Not here: the records that come of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from broker.accounts.certificates import check_fingerprint
from broker.accounts.records import Device
from broker.errors import BadRequest
from broker.policy.credentials import APPLICATION_USER_NAME, CLAIM_ID_PREFIX, DEVICE_ID_PREFIX

TOPIC_LEVEL = re.compile(r"[^+#/\x00]{1,64}")
CHOSEN_ID = re.compile(r"[A-Za-z0-9_-]{3,64}")
"""What callers may choose as an id, but for ``RESERVED_IDS``; from inside the process it is any level of a topic."""
RESERVED_IDS = frozenset({"bulk"})
USER_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}")
USER_NAME_EXPECTED = (
    f"1 to 128 characters, none of them a control; not {APPLICATION_USER_NAME}, and not beginning with "
    f"{DEVICE_ID_PREFIX} or {CLAIM_ID_PREFIX}"
)


@dataclass(frozen=True, slots=True)
class OwnLogin:
    """What a new device brings along of its login; what is empty is drawn.

    ``digest`` is that of its user name and its password. ``chosen_hash`` is that of a password which somebody has
    chosen; ``digest`` then stands for it alone.
    """

    user_name: str = ""
    digest: bytes = b""
    chosen_hash: str = ""


@dataclass(frozen=True, slots=True)
class DeviceDescription:
    """What a caller says about a new device; an empty ``device_id`` lets one be generated.

    ``login`` is what it brings along of one.
    """

    name: str
    device_type: str
    description: str = ""
    metadata_json: str = "{}"
    device_id: str = ""
    certificate_fingerprint: str = ""
    login: OwnLogin = OwnLogin()

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
            chosen_hash=self.login.chosen_hash,
            chosen_digest=digest if self.login.chosen_hash else b"",
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


def check_user_name(user_name: str) -> str:
    """Return a user name that an operator has chosen. Raises ``BadRequest`` for what could be somebody else's."""
    reserved = user_name == APPLICATION_USER_NAME or user_name.startswith((DEVICE_ID_PREFIX, CLAIM_ID_PREFIX))
    if USER_NAME.fullmatch(user_name) is None or reserved:
        raise BadRequest(
            f"username: expected {USER_NAME_EXPECTED}",
            field="username",
            provided=user_name,
            expected=USER_NAME_EXPECTED,
        )
    return user_name


def check_description(description: DeviceDescription) -> None:
    """Raise ``BadRequest`` for an id that is no level of a topic, and for a fingerprint that is none."""
    check_fingerprint(description.certificate_fingerprint)
    if description.device_id and TOPIC_LEVEL.fullmatch(description.device_id) is None:
        expected = "1 to 64 characters, none of + # /"
        raise BadRequest(
            f"device_id: expected {expected}", field="device_id", provided=description.device_id, expected=expected
        )
