"""An account's devices, taken in and given out in pages, for the operator's files.

Here belong both verbs. Not here: files and their lines (``broker.cli_devices``), and what a caller over HTTP may do.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from broker.accounts.deeds import about
from broker.accounts.device_description import DeviceDescription, OwnLogin, check_user_name
from broker.accounts.directory import Directory
from broker.accounts.records import Device
from broker.admin.clock import Clock
from broker.errors import BadRequest, BrokerError, Conflict, NotFound
from broker.policy.chosen_passwords import check_chosen
from broker.policy.credentials import CREDENTIAL_BYTES

PAGE_MAXIMUM = 1000
TEXTS = frozenset(one.name for one in fields(DeviceDescription)) - {"login"}
LOGIN = frozenset({"username", "password"})
KEPT = "password: a device that is there keeps its own; leave the column away to have one drawn for it"


class Transfer:
    """Devices of an account, by its name. An id that is there already is left as it is, so that a page may come twice.

    Raises ``NotFound`` for the account, ``BadRequest`` for a page that is none, ``Unavailable``.
    """

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    async def import_devices(
        self, *, account: str, devices: Sequence[Mapping[str, Any]], rotate: bool = False
    ) -> list[dict[str, Any]]:
        """Register devices in their order; what becomes of each is durable when this returns.

        A device has the fields of ``DeviceDescription``, ``active``, and where they are to be its own ``username`` and
        ``password``, which is hashed as what people choose. The answer to each is its login (``device_id``,
        ``username``, ``password``: empty for one of its own) with ``outcome`` ``created``, or ``rotated`` for one that
        was there and, with ``rotate``, got a new password; ``there`` without a password; or ``refused`` with ``code``
        and ``message``.
        """
        account_id = self._directory.accounts.named(account).account_id
        about(account, account_id)
        if not isinstance(devices, list) or not len(devices) <= PAGE_MAXIMUM:
            raise BadRequest(f"devices: expected a list of at most {PAGE_MAXIMUM}", field="devices")
        answers: list[dict[str, Any]] = [{} for _ in devices]
        wanted = [(place, *_described(one)) for place, one in enumerate(devices)]
        passwords = [str(one.get("password", "")) for one in devices]
        new = [(place, one, active) for place, one, active in wanted if self._there(account_id, one.device_id) is None]
        new_places = {place for place, _, _ in new}
        for place, one, _ in wanted:
            if place not in new_places:
                own = bool(passwords[place])
                answers[place] = await self._again(account_id, one.device_id, rotate=rotate, own=own)
        new = [(place, await self._with_password(one, passwords[place]), active) for place, one, active in new]
        at = iter(new)
        batch = self._directory.batch.create(account_id, [one for _, one, _ in new], self._clock.wall_s())
        async for part in batch:
            for outcome in part:
                place, _, active = next(at)
                answers[place] = await self._told(outcome, active=active)
        return answers

    async def export_devices(self, *, account: str, after: int = 0, limit: int = 100) -> dict[str, Any]:
        """Give a page of an account's devices, oldest first, behind the one with the number ``after``.

        ``next`` is the ``after`` of the next page; null at the end.
        """
        account_id = self._directory.accounts.named(account).account_id
        if type(after) is not int or type(limit) is not int or not 1 <= limit <= PAGE_MAXIMUM:
            raise BadRequest(f"limit: expected 1 to {PAGE_MAXIMUM}", field="limit", provided=limit)
        page = self._directory.devices.above(account_id, after, limit)
        following = page[-1].device_number if len(page) == limit else None
        return {"devices": [_shown(one) for one in page], "next": following}

    async def _with_password(self, description: DeviceDescription, password: str) -> DeviceDescription:
        """Let a device have a password that somebody has chosen; empty: none."""
        if not password:
            return description
        (hashed,) = await self._directory.chosen_passwords.hashed([password])
        login = OwnLogin(description.login.user_name, secrets.token_bytes(CREDENTIAL_BYTES), hashed)
        return replace(description, login=login)

    def _there(self, account_id: int, device_id: str) -> Device | None:
        if not device_id:
            return None
        try:
            return self._directory.devices.get(account_id, device_id)
        except NotFound:
            return None

    async def _again(self, account_id: int, device_id: str, *, rotate: bool, own: bool) -> dict[str, Any]:
        """Answer for a device that is there already."""
        devices = self._directory.devices
        try:
            if not rotate:
                return _login("there", devices.get(account_id, device_id))
            if own:
                raise Conflict(KEPT)
            device, password = await devices.rotate(account_id, device_id, 0, self._clock.wall_s())
        except (Conflict, NotFound) as error:  # or it has just been removed
            return _refused(error)
        return {**_login("rotated", device), "password": password}

    async def _told(self, outcome: tuple[Device, str] | BrokerError, *, active: bool) -> dict[str, Any]:
        if isinstance(outcome, BrokerError):
            return _refused(outcome)
        device, password = outcome
        if not active:
            await self._directory.devices.set_active(device.account_id, device.device_id, False, self._clock.wall_s())
        return {**_login("created", device), "password": password}


def _described(said: Mapping[str, Any]) -> tuple[DeviceDescription, bool]:
    """Read one device of a page. Raises ``BadRequest``."""
    if (
        not isinstance(said, dict)
        or not set(said) <= {*TEXTS, *LOGIN, "active"}
        or not {"name", "device_type"} <= set(said)
    ):
        raise BadRequest("devices: each has name, device_type and what else a description has", field="devices")
    texts = {name: value for name, value in said.items() if name != "active"}
    active = said.get("active", True)
    if not isinstance(active, bool) or not all(isinstance(value, str) for value in texts.values()):
        raise BadRequest("devices: active is true or false, all else is text", field="devices")
    user_name, password = texts.pop("username", ""), texts.pop("password", "")
    if user_name:
        check_user_name(user_name)
    if password:
        check_chosen(password)
    return DeviceDescription(**texts, login=OwnLogin(user_name)), active


def _login(outcome: str, device: Device) -> dict[str, Any]:
    return {"outcome": outcome, "device_id": device.device_id, "username": device.user_name}


def _refused(error: BrokerError) -> dict[str, Any]:
    return {"outcome": "refused", "code": error.code, "message": str(error)}


def _shown(device: Device) -> dict[str, Any]:
    return {
        "device_id": device.device_id,
        "name": device.name,
        "device_type": device.device_type,
        "description": device.description,
        "metadata_json": device.metadata_json,
        "active": device.active,
        "certificate_fingerprint": device.certificate_fingerprint,
    }
