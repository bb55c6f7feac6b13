"""Requests that come again with the same Idempotency-Key: done once, answered alike, unreadable in the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import api
from broker.accounts import answers as kept_answers
from broker.errors import StoreError
from broker.storage.tables import ANSWERS, DEVICES
from tests.integration.served import Served
from tests.integration.test_rest import NEW, Caller, assert_error, run

DAY_S = 24 * 3600


def named(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def create(caller: Caller, key: str, **fields: Any) -> httpx.Response:
    return await caller.http.post("/v1/iot/devices", json={**NEW, **fields}, headers=named(key))


async def total(caller: Caller) -> int:
    count: int = (await caller.http.get("/v1/iot/devices")).json()["total"]
    return count


def test_a_lost_answer_does_not_lose_the_password() -> None:
    async def body(caller: Caller) -> None:
        first = await create(caller, "order-1")
        again = await create(caller, "order-1")
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
        assert (again.headers["idempotency-replayed"], "idempotency-replayed" in first.headers) == ("true", False)
        assert await total(caller) == 1
        other = await create(caller, "order-2")
        assert other.json()["device_id"] != first.json()["device_id"]

    run(body)


def test_what_is_the_same_request_is_said_by_its_fields_and_not_by_their_order() -> None:
    async def body(caller: Caller) -> None:
        first = await create(caller, "k")
        text = '{ "type" : "sensor",\n "name":"Temperature Sensor 01"}'
        again = await caller.http.post("/v1/iot/devices", content=text, headers=named("k"))
        assert again.content == first.content
        assert_error(await create(caller, "k", description="another"), 409, "CONFLICT")
        path = f"/v1/iot/devices/{first.json()['device_id']}"
        assert_error(await caller.http.post(f"{path}/credentials/rotate", headers=named("k")), 409, "CONFLICT")
        assert_error(await caller.http.post(f"{path}/commands", json=NEW, headers=named("k")), 400, "INVALID_PARAMETER")
        assert await total(caller) == 1

    run(body)


def test_a_rotation_is_done_once_with_a_body_or_without() -> None:
    async def body(caller: Caller) -> None:
        path = f"/v1/iot/devices/{(await caller.create())['device_id']}/credentials/rotate"
        first = await caller.http.post(path, headers=named("r"))
        again = await caller.http.post(path, json={}, headers=named("r"))
        assert first.status_code == 200
        assert again.content == first.content
        other = await caller.http.post(path, headers=named("r2"))
        assert other.json()["mqtt_credentials"]["password"] != first.json()["mqtt_credentials"]["password"]

    run(body)


@pytest.mark.parametrize("kind", ["commands", "config", "firmware"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_is_sent_once(kind: str, qos: int) -> None:
    async def body(caller: Caller) -> None:
        path = f"/v1/iot/devices/{(await caller.create())['device_id']}/{kind}"
        sent = [await caller.http.post(path, json={"payload": 1, "qos": qos}, headers=named("m")) for _ in range(3)]
        assert [one.status_code for one in sent] == [202] * 3
        assert len({one.content for one in sent}) == 1
        assert len(caller.upper.core.published) == 1

    run(body)


@pytest.mark.parametrize("key", ["", " ", "a b", "a" * 256, "é", "tab\tin"])
def test_a_key_that_is_none_is_refused_and_nothing_is_done(key: str) -> None:
    async def body(caller: Caller) -> None:
        headers = [(b"idempotency-key", key.encode("latin-1"))]
        answer = await caller.http.post("/v1/iot/devices", json=NEW, headers=headers)
        assert_error(answer, 400, "INVALID_PARAMETER", "Idempotency-Key")
        twice = [(b"idempotency-key", b"a"), (b"idempotency-key", b"a")]
        answer = await caller.http.post("/v1/iot/devices", json=NEW, headers=twice)
        assert_error(answer, 400, "INVALID_PARAMETER", "Idempotency-Key")
        assert await total(caller) == 0
        assert (await create(caller, "!~" + "a" * 253)).status_code == 201

    run(body)


def test_what_failed_may_be_tried_again() -> None:
    async def body(caller: Caller) -> None:
        assert_error(await create(caller, "k", name=""), 400, "INVALID_PARAMETER")
        caller.upper.store.fail(StoreError("no disk"))
        assert_error(await create(caller, "k"), 503, "UNAVAILABLE")
        caller.upper.store.fail(None)
        assert (await create(caller, "k", device_id="one")).status_code == 201
        assert_error(await create(caller, "other", device_id="one"), 409, "CONFLICT")
        assert (await create(caller, "other", device_id="two")).status_code == 201

    run(body)


def test_while_it_is_under_way_the_same_key_is_a_conflict() -> None:
    async def body(caller: Caller) -> None:
        caller.upper.store.delay()
        first = asyncio.create_task(create(caller, "k"))
        await asyncio.sleep(0.02)
        assert_error(await create(caller, "k"), 409, "CONFLICT")
        caller.upper.store.release()
        assert (await create(caller, "k")).content == (await first).content
        assert await total(caller) == 1

    run(body)


def test_whoever_hangs_up_while_it_is_written_finds_it_done() -> None:
    async def body(caller: Caller) -> None:
        path = f"/v1/iot/devices/{(await caller.create())['device_id']}"
        for request in (
            lambda: create(caller, "k"),
            lambda: caller.http.post(f"{path}/credentials/rotate", headers=named("k-r")),
            lambda: caller.http.post(f"{path}/commands", json={"payload": 1}, headers=named("k-m")),
        ):
            caller.upper.store.delay()
            first = asyncio.ensure_future(request())
            await asyncio.sleep(0.02)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            caller.upper.store.release()
            await asyncio.sleep(0.02)
            again = await request()
            assert again.is_success
            assert again.headers["idempotency-replayed"] == "true"
        assert await total(caller) == 2
        assert len(caller.upper.core.published) == 1

    run(body)


def test_another_callers_key_of_the_same_text_is_another_key() -> None:
    async def body(caller: Caller) -> None:
        operator = caller.upper.admin.operator
        _, second = await operator.create_key("default", "second")
        await operator.create_account("other", "free")
        _, foreign = await operator.create_key("other", "default")
        answers = [await create(caller, "k")]
        for key in (second, foreign):
            headers = {**named("k"), "Authorization": f"Bearer {key}"}
            answers.append(await caller.http.post("/v1/iot/devices", json=NEW, headers=headers))
        assert len({one.json()["device_id"] for one in answers}) == 3

    run(body)


def test_an_answer_is_kept_for_a_day_over_restarts_and_leaves_no_password_in_the_store() -> None:
    async def body(caller: Caller) -> None:
        first = await create(caller, "k")
        password = first.json()["mqtt_password"].encode()
        values = [value for _, value in caller.upper.store.load(ANSWERS)]
        assert len(values) == 1
        assert password not in values[0]
        assert first.json()["device_id"].encode() not in values[0]
        upper = caller.upper.restart()
        upper.clock.pass_s(DAY_S - 1)
        transport = httpx.ASGITransport(api.application(upper.admin, upper.clock))
        headers = {"Authorization": f"Bearer {caller.key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://broker", headers=headers) as http:
            later = Caller(upper, caller.key, http)
            assert (await create(later, "k")).content == first.content
            upper.clock.pass_s(1)
            assert (await create(later, "k")).content != first.content
            assert await total(later) == 2
            upper.clock.pass_s(DAY_S)
            await upper.admin.forget_old()
            assert upper.store.load(ANSWERS) == []

    run(body)


def test_of_very_many_answers_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_answers, "ACCOUNT_ANSWERS_MAXIMUM", 3)

    async def body(caller: Caller) -> None:
        made = [await create(caller, f"k{number}") for number in range(5)]
        assert len(caller.upper.store.load(ANSWERS)) == caller.upper.directory.answers.count(1) == 3
        assert (await create(caller, "k4")).content == made[4].content
        assert (await create(caller, "k2")).content == made[2].content
        assert (await create(caller, "k1")).content != made[1].content
        monkeypatch.setattr(kept_answers, "ACCOUNT_BYTES_MAXIMUM", 4000)
        await create(caller, "large", metadata={"x": "y" * 3000})
        assert caller.upper.directory.answers.count(1) == 1

    run(body)


def test_a_damaged_answer_is_said_and_the_work_not_done_again() -> None:
    async def body(caller: Caller) -> None:
        await create(caller, "k")
        ((key, value),) = caller.upper.store.load(ANSWERS)
        caller.upper.store._tables[ANSWERS][key] = value[:-1] + bytes((value[-1] ^ 1,))
        assert_error(await create(caller, "k"), 503, "UNAVAILABLE")
        assert len(caller.upper.store.load(DEVICES)) == 1

    run(body)


def test_a_real_broker_keeps_answers_over_kills(serve: Callable[..., Served]) -> None:
    served = serve()
    device = served.register()
    asked = [
        ("/devices", NEW, "create"),
        (f"/devices/{device.device_id}/credentials/rotate", {"overlap_seconds": 60}, "rotate"),
        (f"/devices/{device.device_id}/commands", {"payload": "x", "qos": 0}, "command"),
        (f"/devices/{device.device_id}/config", {"payload": "x"}, "config"),
    ]

    def ask(broker: Served) -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {served.api_key}"}
        return [
            broker.http.post("/v1/iot" + path, content=json.dumps(body), headers={**headers, "Idempotency-Key": key})
            for path, body, key in asked
        ]

    first = ask(served)
    assert [one.status_code for one in first] == [201, 200, 202, 202]
    served.kill()
    again = ask(serve(data_dir=served.data_dir, api_key=served.api_key))
    assert [one.content for one in again] == [one.content for one in first]
    assert all(one.headers["idempotency-replayed"] == "true" for one in again)
