"""Whatever a body or a query holds, the API answers it in its own words: never a 500, never another shape."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

import api
from broker.accounts.device_description import DeviceDescription
from tests.upper import Upper

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "name",
        "type",
        "device_type",
        "description",
        "metadata",
        "device_id",
        "payload",
        "payload_base64",
        "qos",
        "retain",
        "status",
        "is_active",
        "certificate_fingerprint",
    ]
)
BODIES = (
    st.dictionaries(FIELDS, JSON_VALUES, max_size=5).map(json.dumps)
    | st.fixed_dictionaries(
        {"name": st.text(min_size=3, max_size=9), "type": st.just("sensor"), "metadata": JSON_VALUES}
    ).map(json.dumps)
    | JSON_VALUES.map(json.dumps)
    | st.binary(max_size=50)
)
QUERIES = st.dictionaries(
    st.sampled_from(["limit", "offset", "status", "type", "search", "x"]),
    st.text(max_size=5),
    max_size=3,
)


def answered(method: str, path: str, **arguments: Any) -> httpx.Response:
    async def whole() -> httpx.Response:
        upper = Upper()
        headers = {"X-API-Key": await upper.bootstrap()}
        await upper.directory.devices.create(1, DeviceDescription("Sensor", "sensor", device_id="the-one"), 1)
        transport = httpx.ASGITransport(api.application(upper.admin, upper.clock), raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://broker", headers=headers) as http:
            return await http.request(method, path, **arguments)

    return asyncio.run(whole())


def assert_in_our_words(answer: httpx.Response, success: int) -> None:
    body = answer.json()
    if answer.status_code != success:
        assert answer.status_code in {400, 409}, answer.text
        assert body["error"]["message"] == body["detail"] != ""
        assert body["error"]["code"] in {"INVALID_PARAMETER", "CONFLICT"}


@given(BODIES)
def test_any_body_of_a_new_device_is_taken_or_refused(body: str | bytes) -> None:
    assert_in_our_words(answered("POST", "/v1/iot/devices", content=body), 201)


@given(BODIES)
def test_any_change_of_a_device_is_taken_or_refused(body: str | bytes) -> None:
    assert_in_our_words(answered("PATCH", "/v1/iot/devices/the-one", content=body), 200)


@given(BODIES)
def test_any_body_of_a_command_is_taken_or_refused(body: str | bytes) -> None:
    assert_in_our_words(answered("POST", "/v1/iot/devices/the-one/commands", content=body), 202)


@given(QUERIES)
def test_any_query_is_taken_or_refused(query: dict[str, str]) -> None:
    assert_in_our_words(answered("GET", "/v1/iot/devices", params=query), 200)
