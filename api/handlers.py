"""One function for each route: one call of ``admin``, and its answer in the contract's words.

Here belongs the translation between models and snapshots. Not here: any rule, and any HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from pydantic_core import to_json

from api.device_bodies import DeviceBody, DeviceChangeBody, RotationBody
from api.jsontext import compact, kept_object
from api.models import (
    CredentialsQuery,
    DeviceDetailAnswer,
    DevicesQuery,
    HealthAnswer,
    MqttCredentialsAnswer,
    NewDeviceAnswer,
    NotReadyAnswer,
    PasswordAnswer,
    RotationAnswer,
)
from api.routes import ApiRequest, Streamed, Text, WithStatus
from broker.admin import (
    CredentialsInfo,
    DeviceChange,
    DeviceDescription,
    DeviceFilter,
    DeviceLogin,
    DeviceView,
    MqttCredentials,
    PasswordView,
    maybe_moment_text,
    moment_text,
)

TURN_DEVICES = 10  # rendered between two turns of the loop


async def create_device(request: ApiRequest) -> NewDeviceAnswer:
    """Register a device; the answer is the only one that ever carries its password."""
    made = await request.admin.create_device(request.account_id, described(request.body), request.keeping(_new_device))
    return _new_device(made)


def described(body: DeviceBody) -> DeviceDescription:
    """Give what a body says about a new device."""
    return DeviceDescription(
        name=body.name,
        device_type=body.chosen_type,
        description=body.description or "",
        metadata_json=body.metadata_json,
        device_id=body.device_id or "",
        certificate_fingerprint=body.certificate_fingerprint or "",
    )


def new_device(view: DeviceView, credentials: MqttCredentials) -> NewDeviceAnswer:
    """Show a device that was registered just now."""
    return NewDeviceAnswer(
        **_device_fields(view),
        mqtt_credentials=MqttCredentialsAnswer(**asdict(credentials)),
        mqtt_password=credentials.password,
    )


async def list_devices(request: ApiRequest) -> Text:
    """List devices, newest first; rendered a few at a time."""
    query: DevicesQuery = request.query
    which = DeviceFilter(query.status or "", query.type or query.device_type or "", query.search or "")
    page = await request.admin.list_devices(request.account_id, query.limit, query.offset, which)
    rendered: list[bytes] = []
    for start in range(0, len(page.devices), TURN_DEVICES):
        if start:
            await asyncio.sleep(0)
        part = page.devices[start : start + TURN_DEVICES]
        for view in part:
            request.give_way()
            rendered.append(to_json(_device_fields(view)))  # the fields of a DeviceAnswer, in a quarter of its time
    paging = compact({"total": page.total, "limit": query.limit, "offset": query.offset})
    return Text(b'{"devices":[' + b",".join(rendered) + b"]," + paging[1:], "application/json")


async def get_device(request: ApiRequest) -> DeviceDetailAnswer:
    """Show one device."""
    return _detail(await request.admin.get_device(request.account_id, request.path["device_id"]))


async def change_device(request: ApiRequest) -> DeviceDetailAnswer:
    """Change one device."""
    body: DeviceChangeBody = request.body
    change = DeviceChange(
        name=body.name,
        device_type=body.chosen_type,
        description=body.chosen_description,
        metadata_json=body.metadata_json,
        active=body.chosen_activity,
        certificate_fingerprint=body.chosen_fingerprint,
    )
    return _detail(await request.admin.change_device(request.account_id, request.path["device_id"], change))


async def delete_device(request: ApiRequest) -> None:
    """Remove one device."""
    await request.admin.delete_device(request.account_id, request.path["device_id"])


async def rotate_password(request: ApiRequest) -> RotationAnswer:
    """Give one device a new password; the answer is the only one that ever carries it."""
    body: RotationBody = request.body
    rotated = await request.admin.rotate_password(
        request.account_id, request.path["device_id"], body.overlap_seconds, request.keeping(_rotated)
    )
    return _rotated(rotated)


async def credentials(request: ApiRequest) -> Streamed:
    """Tell where and as whom the devices connect."""
    query: CredentialsQuery = request.query
    info = await request.admin.credentials_info(request.account_id, query.limit, query.offset)
    paging: dict[str, Any] = {}
    if query.limit is not None:
        paging = {"total": info.total, "limit": query.limit, "offset": query.offset}
    return Streamed(_credentials_parts(info, paging))


async def health(_request: ApiRequest) -> HealthAnswer:
    """Tell that the process lives."""
    return HealthAnswer(status="ok")


async def readiness(request: ApiRequest) -> HealthAnswer | WithStatus:
    """Tell whether requests are taken, and why not, or what somebody has to know though they are."""
    if reason := request.admin.not_ready_because:
        return WithStatus(503, NotReadyAnswer(status="not ready", reason=reason))
    if reason := request.admin.degraded_because:
        return WithStatus(200, NotReadyAnswer(status="degraded", reason=reason))
    return HealthAnswer(status="ready")


async def metrics(request: ApiRequest) -> Text:
    """Tell the broker's figures to its operator."""
    told = request.admin.metrics(from_loopback=request.from_loopback)
    return Text(told.body, told.content_type)


def _new_device(made: tuple[DeviceView, MqttCredentials]) -> NewDeviceAnswer:
    return new_device(*made)


def _rotated(rotated: tuple[MqttCredentials, int]) -> RotationAnswer:
    credentials, previous_until = rotated
    return RotationAnswer(
        mqtt_credentials=MqttCredentialsAnswer(**asdict(credentials)), previous_valid_until=moment_text(previous_until)
    )


def _device_fields(view: DeviceView) -> dict[str, Any]:
    return {
        "device_id": view.device_id,
        "name": view.name,
        "description": view.description,
        "type": view.device_type,
        "status": view.status,
        "metadata": kept_object(view.metadata_json),
        "created_at": moment_text(view.created_at),
        "updated_at": moment_text(view.updated_at),
        "last_seen": maybe_moment_text(view.last_seen),
        "online": view.online,
        "device_type": view.device_type,
        "is_active": view.status != "inactive",
        "mqtt_username": view.username,
        "certificate_fingerprint": view.certificate_fingerprint or None,
    }


def _detail(view: DeviceView) -> DeviceDetailAnswer:
    return DeviceDetailAnswer(
        **_device_fields(view),
        passwords=[_password(one) for one in view.passwords],
        connected_at=maybe_moment_text(view.connected_at),
        protocol=view.protocol or None,
        address=view.address or None,
    )


def _password(view: PasswordView) -> PasswordAnswer:
    return PasswordAnswer(
        created_at=moment_text(view.created_at),
        last_used=maybe_moment_text(view.last_used),
        valid_until=maybe_moment_text(view.valid_until),
    )


def _login_fields(login: DeviceLogin) -> dict[str, str]:
    return {
        "device_id": login.device_id,
        "name": login.name,
        "username": login.username,
        "client_id": login.client_id,
        "status": login.status,
    }


async def _credentials_parts(info: CredentialsInfo, paging: dict[str, Any]) -> AsyncIterator[bytes]:
    """Write the answer slice by slice: an account may have very many devices."""
    head = compact(asdict(info.connection))
    yield head[:-1] + b',"devices":['
    separator = b""
    async for logins in info.logins:
        if logins:
            yield separator + compact([_login_fields(login) for login in logins])[1:-1]
            separator = b","
    tail = compact(paging)
    yield b"]" + (b"," + tail[1:] if paging else b"}")
