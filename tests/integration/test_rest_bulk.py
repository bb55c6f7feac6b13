"""Bulk registration: each item is answered by itself, in order; what is told as made is durable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

import api
from api.bulk_table import DEVICES_MAXIMUM
from api.errors import error_body
from broker.admin.registration import Registration
from broker.errors import StoreError
from tests.integration.test_rest import NEW, Caller, assert_error, run
from tests.upper import Upper

BULK = "/v1/iot/devices/bulk"


async def bulk(caller: Caller, devices: Any) -> httpx.Response:
    return await caller.http.post(BULK, json={"devices": devices})


def test_items_are_answered_in_order_and_a_bad_one_spoils_no_other() -> None:
    async def body(caller: Caller) -> None:
        await caller.create(device_id="taken")
        items: list[Any] = [
            NEW,
            {**NEW, "device_id": "taken"},
            {**NEW, "name": "ab"},
            {"name": "a chosen id", "device_id": "boiler-7"},
            "no object",
            {**NEW, "colour": "red"},
            {**NEW, "device_id": "boiler-7"},
            {**NEW, "device_id": "bulk"},
        ]
        answer = await bulk(caller, items)
        assert answer.status_code == 200
        told = answer.json()
        assert [one["status"] for one in told["results"]] == [201, 409, 400, 201, 400, 400, 409, 400]
        assert (told["created"], told["failed"]) == (2, 6)
        fields = [one.get("error", {}).get("details", {}).get("field") for one in told["results"]]
        assert fields == [None, None, "name", None, None, "colour", None, "device_id"]
        assert told["results"][4]["detail"] == "each of devices has to be a JSON object"
        for one in told["results"]:
            assert set(one) == ({"status", "device"} if one["status"] == 201 else {"status", "error", "detail"})
        assert told["results"][1]["detail"] == told["results"][1]["error"]["message"]
        first, chosen = told["results"][0]["device"], told["results"][3]["device"]
        alone = await caller.create()
        assert set(first) == set(alone)
        assert set(first["mqtt_credentials"]) == set(alone["mqtt_credentials"])
        assert len(first["mqtt_password"]) >= 40
        assert chosen["device_id"] == "boiler-7"
        assert chosen["mqtt_username"] != "boiler-7"
        listed = (await caller.http.get("/v1/iot/devices")).json()
        assert listed["total"] == 4

    run(body)


def test_what_is_told_as_made_is_there_after_a_crash() -> None:
    async def body(caller: Caller) -> None:
        told = (await bulk(caller, [{**NEW, "name": f"Device {number}"} for number in range(100)])).json()
        assert told["created"] == 100
        again = caller.upper.restart()
        found = {device.device_id for device in again.directory.devices.page(1, 1000, 0)}
        assert {one["device"]["device_id"] for one in told["results"]} == found
        assert len({one["device"]["mqtt_password"] for one in told["results"]}) == 100

    run(body)


def test_few_commits_hold_many_devices() -> None:
    async def body(caller: Caller) -> None:
        submitted: list[int] = []
        submit = caller.upper.store.submit

        def counting(ticket: int, *rest: Any) -> None:
            submitted.append(ticket)
            submit(ticket, *rest)

        caller.upper.store.submit = counting  # type: ignore[method-assign]
        assert (await bulk(caller, [NEW] * DEVICES_MAXIMUM)).json()["created"] == DEVICES_MAXIMUM
        assert 0 < len(submitted) <= 50

    run(body)


def test_the_plan_s_number_of_devices_ends_the_list_and_not_the_request() -> None:
    async def body(caller: Caller) -> None:
        await caller.upper.directory.set_plan(1, "free")
        told = (await bulk(caller, [NEW] * 103)).json()
        assert [one["status"] for one in told["results"]] == [201] * 100 + [403] * 3
        assert told["results"][-1]["error"]["code"] == "QUOTA_EXCEEDED"

    run(body)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("", None),
        ("[]", None),
        ("7", None),
        ("{}", "devices"),
        ('{"devices": []}', "devices"),
        ('{"devices": {}}', "devices"),
        ('{"devices": null}', "devices"),
        ('{"devices": [{}], "more": 1}', "more"),
        ('{"more": 1, "devices": [{}]}', "more"),
        ('{"devices": [{}], "devices": [{}]}', None),
        ('{"devices": [{"name": 1, "name": 2}]}', None),
        ('{"devices": [NaN]}', None),
        ('{"devices": [1e999]}', None),
        ('{"devices": [{}]', None),
        ('{"devices": [{},]}', None),
        ('{"devices": [{}],}', None),
        ('{"devices": [{}]} x', None),
        ('{"devices": [{} {}]}', None),
        ('{"devices" [{}]}', None),
        ("{devices: [{}]}", None),
        ('{"devices": [' + "[" * 100_000 + "]}", None),
    ],
)
def test_a_body_that_is_no_such_list_is_refused_whole(content: str, field: str | None) -> None:
    async def body(caller: Caller) -> None:
        answer = await caller.http.post(BULK, content=content)
        assert_error(answer, 400, "INVALID_PARAMETER", field)
        assert caller.upper.directory.devices.count(1) == 0

    run(body)


def test_one_item_more_than_allowed_is_refused_and_nothing_is_made() -> None:
    async def body(caller: Caller) -> None:
        answer = await bulk(caller, [NEW] * (DEVICES_MAXIMUM + 1))
        assert_error(answer, 400, "INVALID_PARAMETER", "devices")
        assert answer.json()["error"]["details"]["provided"] == f"{DEVICES_MAXIMUM + 1} items"
        assert caller.upper.directory.devices.count(1) == 0
        assert_error(await caller.http.post(BULK, content=b" " * 3 * 1024 * 1024), 413, "PAYLOAD_TOO_LARGE")

    run(body)


def test_text_that_is_none_is_quoted_in_the_refusal_of_its_item() -> None:
    async def body(caller: Caller) -> None:
        answer = await caller.http.post(BULK, content='{"devices": [{"name": "\\ud800 and more", "type": "sensor"}]}')
        assert answer.json()["results"][0]["status"] == 400

    run(body)


def test_nothing_is_told_as_made_while_the_disk_takes_nothing() -> None:
    async def body(caller: Caller) -> None:
        caller.upper.store.fail(StoreError("no disk"))
        assert_error(await bulk(caller, [NEW] * 3), 503, "UNAVAILABLE")
        caller.upper.store.fail(None)
        assert caller.upper.directory.devices.count(1) == 0
        assert (await bulk(caller, [{**NEW, "device_id": "boiler-7"}])).json()["created"] == 1

    run(body)


def test_an_error_among_many_is_the_one_of_a_request_for_it_alone() -> None:
    async def body(caller: Caller) -> None:
        for item in ({**NEW, "name": 7}, {**NEW, "device_id": "a/b"}, {"type": "sensor"}, {**NEW, "metadata": []}):
            alone = await caller.http.post("/v1/iot/devices", json=item)
            (among,) = (await bulk(caller, [item])).json()["results"]
            assert among == {"status": alone.status_code, **alone.json()}

    run(body)


def test_errors_of_a_list_and_of_a_request_have_one_shape() -> None:
    status, told = error_body(StoreError("x"))
    assert (status, set(told), told["error"]["code"]) == (503, {"error", "detail"}, "UNAVAILABLE")


def test_others_have_their_turns_while_a_thousand_devices_are_registered() -> None:
    """Read, registered and rendered a few at a time: a body of a megabyte takes hundreds of turns of the loop."""

    async def body(caller: Caller) -> None:
        metadata = {f"key {number}": "x" * 50 for number in range(15)}
        devices = [{**NEW, "name": f"Device {number}", "metadata": metadata} for number in range(DEVICES_MAXIMUM)]
        content = json.dumps({"devices": devices}).encode()
        assert len(content) > 1_000_000
        counting = asyncio.create_task(turns())
        answer = await caller.http.post(BULK, content=content)
        counting.cancel()
        assert answer.json()["created"] == DEVICES_MAXIMUM
        assert await counting > 3 * DEVICES_MAXIMUM / 32

    run(body)


def test_of_an_account_one_list_is_worked_on_however_many_come(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []
    under_way = 0
    create_devices = Registration.create_devices

    async def watched(self: Registration, *arguments: Any) -> AsyncIterator[Any]:
        nonlocal under_way
        under_way += 1
        inside.append(under_way)
        async for part in create_devices(self, *arguments):
            yield part
        under_way -= 1

    monkeypatch.setattr(Registration, "create_devices", watched)

    async def body(caller: Caller) -> None:
        devices = [{**NEW, "name": f"Device {number}"} for number in range(40)]
        answers = await asyncio.gather(*(bulk(caller, devices) for _ in range(5)))
        assert [one.json()["created"] for one in answers] == [40] * 5

    run(body)
    assert inside == [1] * 5


async def turns() -> int:
    """Count the loop's turns until it is enough."""
    count = 0
    try:
        while True:
            await asyncio.sleep(0)
            count += 1
    except asyncio.CancelledError:
        return count


def test_the_application_answers_bulk_alike_with_any_server() -> None:
    async def body() -> None:
        upper = Upper()
        key = await upper.bootstrap()
        transport = httpx.ASGITransport(api.application(upper.admin, upper.clock))
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as http:
            assert (await http.post(BULK, json={"devices": [NEW]})).status_code == 401
            assert (await http.get(BULK, headers={"X-API-Key": key})).status_code == 405

    asyncio.run(body())
