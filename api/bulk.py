"""Registering many devices with one request.

Here belongs the translation between bodies and outcomes. Not here: any rule of one device.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from api.device_bodies import DeviceBody
from api.errors import error_body
from api.handlers import described, new_device
from api.jsontext import escaped
from api.routes import ApiRequest, Streamed
from broker.admin import DeviceDescription, Outcome
from broker.errors import BadRequest, BrokerError, Unavailable

TURN_RESULTS = 5  # rendered between two turns of the loop


async def create_devices(request: ApiRequest) -> Streamed:
    """Register up to 1,000 devices: each is answered by itself, in order, and a bad one spoils no other.

    All that was registered is durable before the answer begins. Each password is in this answer and in no other.
    """
    outcomes: list[Outcome] = []
    slices = request.admin.registration.create_devices(request.account_id, _described(request.body))
    async for part in slices:
        outcomes += part
    refused = [one for one in outcomes if isinstance(one, BrokerError)]
    if len(refused) == len(outcomes):
        for error in refused:
            if isinstance(error, Unavailable):  # nothing was registered, and nothing of it is the caller's fault
                raise error
    return Streamed(_parts(outcomes, len(refused)))


def _described(bodies: Iterable[DeviceBody | BadRequest]) -> Iterator[DeviceDescription | BrokerError]:
    for body in bodies:
        yield body if isinstance(body, BrokerError) else described(body)


async def _parts(outcomes: Sequence[Outcome], failed: int) -> AsyncIterator[bytes]:
    separator = b'{"results":['
    for start in range(0, len(outcomes), TURN_RESULTS):
        part = [_result(one) for one in outcomes[start : start + TURN_RESULTS]]
        yield separator + escaped(part)[1:-1]
        separator = b","
        await asyncio.sleep(0)
    yield b"]," + escaped({"created": len(outcomes) - failed, "failed": failed})[1:]


def _result(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, BrokerError):
        status, body = error_body(outcome)
        return {"status": status, **body}
    return {"status": 201, "device": new_device(*outcome).model_dump()}
