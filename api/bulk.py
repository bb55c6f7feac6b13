"""Registering many devices with one request.

Here belongs the translation between bodies and outcomes. Not here: any rule of one device.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from api.device_bodies import DeviceBody
from api.errors import error_body
from api.handlers import new_device
from api.jsontext import escaped
from api.models import MqttCredentialsAnswer, NewDeviceAnswer, Nothing
from api.routes import ApiRequest, Streamed
from broker.admin import Outcome
from broker.errors import BrokerError, Unavailable

TURN_RESULTS = 5  # rendered between two turns of the loop
TURN_WRITTEN = 10  # times as many are written


def prepare() -> None:
    """Make the models of such a request now: made when the first one comes, they hold the loop."""
    for model in (Nothing, DeviceBody, MqttCredentialsAnswer, NewDeviceAnswer):
        model.model_rebuild()


async def create_devices(request: ApiRequest) -> Streamed:
    """Register up to 1,000 devices: each is answered by itself, in order, and a bad one spoils no other.

    All that was registered is durable before the answer begins. Each password is in this answer and in no other.
    """
    results: list[bytes] = []  # rendered as they come: of a thousand outcomes the garbage collector would make a pause
    refused: list[BrokerError] = []
    created = 0
    async for part in request.admin.registration.create_devices(request.account_id, request.body):
        for start in range(0, len(part), TURN_RESULTS):
            await asyncio.sleep(0)
            results.append(escaped([_result(one) for one in part[start : start + TURN_RESULTS]])[1:-1])
        errors = [one for one in part if isinstance(one, BrokerError)]
        created += len(part) - len(errors)
        refused += errors
    if created == 0:
        for error in refused:
            if isinstance(error, Unavailable):  # nothing was registered, and nothing of it is the caller's fault
                raise error
    return Streamed(_parts(results, created, len(refused)))


async def _parts(results: Sequence[bytes], created: int, failed: int) -> AsyncIterator[bytes]:
    separator = b'{"results":['
    for start in range(0, len(results), TURN_WRITTEN):
        yield separator + b",".join(results[start : start + TURN_WRITTEN])
        separator = b","
        await asyncio.sleep(0)
    yield b"]," + escaped({"created": created, "failed": failed})[1:]


def _result(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, BrokerError):
        status, body = error_body(outcome)
        return {"status": status, **body}
    return {"status": 201, "device": new_device(*outcome).model_dump()}
