"""The row about registering many devices at once.

Here belongs the row. Not here: what a row is (``routes``) and what it does (``bulk``). It stands before the rows with
an id in its place: ``bulk`` is a reserved word, no device has it.
"""

from __future__ import annotations

from api import bulk, bulk_models, models
from api.device_bodies import DeviceBody
from api.handlers import described
from api.routes import BASE_PATH, ApiRoute, Many
from broker.errors import PayloadTooLarge, Unavailable

DEVICES_MAXIMUM = 1000

ROUTES = (
    ApiRoute(
        "POST",
        BASE_PATH + "/devices/bulk",
        bulk.create_devices,
        "Register many devices",
        query=models.Nothing,
        body=DeviceBody,
        answer=bulk_models.BulkAnswer,
        status=200,
        errors=(PayloadTooLarge, Unavailable),
        scope="devices:write",
        many=Many("devices", DEVICES_MAXIMUM, kept=described),
    ),
)
