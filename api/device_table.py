"""The rows about devices: themselves and their passwords.

Here belong the rows. Not here: what a row is (``routes``) and what it does (``handlers``).
"""

from __future__ import annotations

from api import device_bodies, handlers, models
from api.routes import BASE_PATH, ApiRoute
from broker.errors import Conflict, NotFound, PayloadTooLarge, QuotaExceeded, Unavailable

DEVICES = BASE_PATH + "/devices"
DEVICE = DEVICES + "/{device_id}"

ROUTES = (
    ApiRoute(
        "GET",
        DEVICES,
        handlers.list_devices,
        "List devices",
        query=models.DevicesQuery,
        body=None,
        answer=models.DevicesAnswer,
        status=200,
        scope="devices:read",
    ),
    ApiRoute(
        "POST",
        DEVICES,
        handlers.create_device,
        "Register a device",
        query=models.Nothing,
        body=device_bodies.DeviceBody,
        answer=models.NewDeviceAnswer,
        status=201,
        errors=(QuotaExceeded, Conflict, PayloadTooLarge, Unavailable),
        scope="devices:write",
        idempotent=True,
    ),
    ApiRoute(
        "GET",
        DEVICE,
        handlers.get_device,
        "Show a device",
        query=models.Nothing,
        body=None,
        answer=models.DeviceDetailAnswer,
        status=200,
        errors=(NotFound,),
        scope="devices:read",
    ),
    ApiRoute(
        "PATCH",
        DEVICE,
        handlers.change_device,
        "Change a device",
        query=models.Nothing,
        body=device_bodies.DeviceChangeBody,
        answer=models.DeviceDetailAnswer,
        status=200,
        errors=(NotFound, Conflict, PayloadTooLarge, Unavailable),
        scope="devices:write",
    ),
    ApiRoute(
        "DELETE",
        DEVICE,
        handlers.delete_device,
        "Remove a device",
        query=models.Nothing,
        body=None,
        answer=None,
        status=204,
        errors=(NotFound, Unavailable),
        scope="devices:write",
    ),
    ApiRoute(
        "POST",
        DEVICE + "/credentials/rotate",
        handlers.rotate_password,
        "Give a device a new password",
        query=models.Nothing,
        body=device_bodies.RotationBody,
        answer=models.RotationAnswer,
        status=200,
        errors=(NotFound, Conflict, Unavailable),
        body_may_be_missing=True,
        scope="devices:write",
        idempotent=True,
    ),
    ApiRoute(
        "GET",
        BASE_PATH + "/credentials",
        handlers.credentials,
        "Tell where and as whom devices connect",
        query=models.CredentialsQuery,
        body=None,
        answer=models.CredentialsAnswer,
        status=200,
        scope="devices:read",
    ),
)
