"""A list shows each device as the model of its answer would, to the byte."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

import api
from api.models import DeviceAnswer
from tests.upper import Upper

DEEP: dict[str, Any] = {}
for _ in range(99):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize("metadata", [{}, {"ä": ["\u2028", 1.5, -0.0, 1e300, 2**70, None, True], "": {"b": []}}, DEEP])
def test_a_listed_device_is_written_as_its_model_writes_it(metadata: dict[str, Any]) -> None:
    async def body() -> bytes:
        upper = Upper()
        key = {"X-API-Key": await upper.bootstrap()}
        transport = httpx.ASGITransport(api.application(upper.admin, upper.clock))
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as http:
            given = {"name": 'd "ö"', "type": "sensor", "metadata": metadata}
            assert (await http.post("/v1/iot/devices", headers=key, json=given)).status_code == 201
            return (await http.get("/v1/iot/devices", headers=key)).content

    listed = asyncio.run(body())
    (device,) = json.loads(listed)["devices"]
    assert device["metadata"] == metadata
    assert list(device) == list(DeviceAnswer.model_fields)
    assert DeviceAnswer.model_validate(device, strict=True).model_dump_json().encode() in listed
