"""The REST API as a caller sees it: the printed answers, every refusal, and the limits of its bodies and rates."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import api
from api.paths import ODD
from api.routes import LARGE_BODY_BYTES, ApiRoute
from api.table import ROUTES
from broker.accounts.device_description import DeviceDescription
from broker.ports import Presence
from tests.upper import NOW_S, Upper

NEW = {"name": "Temperature Sensor 01", "type": "sensor"}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Caller:
    """A client with a key on a fresh installation."""

    def __init__(self, upper: Upper, key: str, http: httpx.AsyncClient) -> None:
        self.upper = upper
        self.key = key
        self.http = http

    async def create(self, **fields: Any) -> dict[str, Any]:
        answer = await self.http.post("/v1/iot/devices", json={**NEW, **fields})
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body


Body = Callable[[Caller], Awaitable[None]]


async def at_once(_delay_s: float) -> None:
    """Let who guesses wait no longer than a turn of the loop."""
    await asyncio.sleep(0)


def run(body: Body, upper: Upper | None = None) -> None:
    async def whole() -> None:
        floors = upper or Upper()
        key = await floors.bootstrap()
        transport = httpx.ASGITransport(api.application(floors.admin, floors.clock, sleep=at_once))
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://broker", headers=headers) as http:
            await body(Caller(floors, key, http))

    asyncio.run(whole())


def assert_error(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert body["error"]["code"] == code
    assert body["error"]["message"] == body["detail"] != ""
    if field is not None:
        assert body["error"]["details"]["field"] == field
        assert set(body["error"]["details"]) == {"field", "provided", "expected"}
    assert answer.headers["x-ratelimit-limit"] == "1000"


def printed_json(document: str, first_key: str) -> dict[str, Any]:
    """The JSON object of the printed text that begins with a key."""
    start = document.index("{\n" + f'"{first_key}"')
    value: dict[str, Any] = json.JSONDecoder().raw_decode(document[start:])[0]
    return value


def assert_same_shape(printed: Any, answered: Any, place: str = "answer") -> None:
    """Every printed field is there, with the printed type."""
    assert type(answered) is type(printed), place
    if isinstance(printed, dict):
        for name, value in printed.items():
            assert name in answered, f"{place}.{name}"
            assert_same_shape(value, answered[name], f"{place}.{name}")
    if isinstance(printed, list) and printed:
        assert answered, place
        assert_same_shape(printed[0], answered[0], f"{place}[0]")


def test_registering_answers_every_printed_field_with_its_type(platform_documents: Path) -> None:
    document = (platform_documents / "iot-platform-overview.txt").read_text(encoding="utf-8")

    async def body(caller: Caller) -> None:
        request = printed_json(document, "name")
        answered = await caller.create(**request)
        assert_same_shape(printed_json(document, "device_id"), answered)
        assert (answered["name"], answered["type"], answered["status"]) == (request["name"], "sensor", "active")
        assert answered["metadata"] == request["metadata"]
        assert TIMESTAMP.fullmatch(answered["created_at"])

    run(body)


def test_credentials_answer_every_printed_field_and_no_password(platform_documents: Path) -> None:
    document = (platform_documents / "mqtt-credentials.txt").read_text(encoding="utf-8")

    async def body(caller: Caller) -> None:
        created = await caller.create()
        answer = await caller.http.get("/v1/iot/credentials")
        printed = printed_json(document, "broker")
        printed["ports"] = {"mqtt": 1883}
        assert_same_shape(printed, answer.json())
        assert set(answer.json()) == set(printed)
        assert set(answer.json()["devices"][0]) == set(printed["devices"][0])
        assert created["mqtt_password"] not in answer.text

    run(body)


def test_a_new_device_has_credentials_that_are_granted() -> None:
    async def body(caller: Caller) -> None:
        created = await caller.create(description="Living room", metadata={"location": "living_room"})
        login = created["mqtt_credentials"]
        assert re.fullmatch(r"iot_dev_[a-z2-7]{12,}", created["device_id"])
        assert login["username"] == login["client_id"] == created["device_id"] == created["mqtt_username"]
        assert re.fullmatch(r"[A-Za-z0-9_-]{32,}", login["password"])
        assert (login["broker"], login["port"], login["protocol"]) == ("localhost", 1883, "mqtt")
        assert created["mqtt_password"] == login["password"]
        grant = caller.upper.directory.grant_for(login["username"], login["password"].encode())
        assert grant is not None
        assert grant.device_id == created["device_id"]
        assert grant in caller.upper.core.grants.values()

    run(body)


def test_a_device_is_shown_with_the_fields_of_the_contract_and_nothing_secret() -> None:
    async def body(caller: Caller) -> None:
        created = await caller.create()
        shown = (await caller.http.get(f"/v1/iot/devices/{created['device_id']}")).json()
        assert set(created) - set(shown) == {"mqtt_credentials", "mqtt_password"}
        assert (shown["description"], shown["metadata"], shown["last_seen"], shown["online"]) == ("", {}, None, False)
        assert shown["created_at"] == shown["updated_at"] == "2025-11-05T10:30:00Z"
        assert (shown["device_type"], shown["is_active"]) == ("sensor", True)

    run(body)


def test_presence_is_shown_as_online_and_last_seen() -> None:
    async def body(caller: Caller) -> None:
        created = await caller.create()
        device = caller.upper.directory.devices.with_user_name(created["mqtt_username"])
        assert device is not None
        clock = caller.upper.clock
        caller.upper.core.present[device.device_number] = Presence(1, clock.monotonic_ns())
        clock.pass_s(90)
        shown = (await caller.http.get(f"/v1/iot/devices/{created['device_id']}")).json()
        assert (shown["online"], shown["last_seen"]) == (True, "2025-11-05T10:30:00Z")

    run(body)


def test_devices_are_listed_newest_first_in_stable_pages() -> None:
    async def body(caller: Caller) -> None:
        ids = [(await caller.create(name=f"device {number}"))["device_id"] for number in range(7)]
        whole = (await caller.http.get("/v1/iot/devices")).json()
        assert [device["device_id"] for device in whole["devices"]] == ids[::-1]
        assert (whole["total"], whole["limit"], whole["offset"]) == (7, 50, 0)
        page = (await caller.http.get("/v1/iot/devices?limit=3&offset=5&status=&type=&search=")).json()
        assert [device["device_id"] for device in page["devices"]] == ids[:2][::-1]
        assert (page["total"], page["limit"], page["offset"]) == (7, 3, 5)
        assert (await caller.http.get("/v1/iot/devices?offset=7")).json()["devices"] == []

    run(body)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("type=gateway", ["Gate"]),
        ("device_type=custom", ["Odd one"]),
        ("search=GATE", ["Gate", "Sensor"]),
        ("search=gate&type=sensor", ["Sensor"]),
        ("status=active&limit=1&offset=1", ["Gate"]),
        ("status=inactive", []),
        ("status=error", []),
        ("search=%C3%9Cber", ["Odd one"]),
    ],
)
def test_devices_are_filtered_by_status_type_and_search(query: str, names: list[str]) -> None:
    async def body(caller: Caller) -> None:
        await caller.create(name="Sensor", description="behind the gate")
        await caller.create(name="Gate", type="gateway")
        odd = {"name": "Odd one", "device_type": "custom", "description": "über"}
        assert (await caller.http.post("/v1/iot/devices", json=odd)).status_code == 201
        listed = (await caller.http.get(f"/v1/iot/devices?{query}")).json()
        assert [device["name"] for device in listed["devices"]] == names

    run(body)


def test_a_deleted_device_is_gone_and_its_credential_dead() -> None:
    async def body(caller: Caller) -> None:
        created = await caller.create()
        path = f"/v1/iot/devices/{created['device_id']}"
        answer = await caller.http.delete(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert_error(await caller.http.get(path), 404, "NOT_FOUND")
        assert_error(await caller.http.delete(path), 404, "NOT_FOUND")
        password = created["mqtt_password"].encode()
        assert caller.upper.directory.grant_for(created["mqtt_username"], password) is None
        assert len(caller.upper.core.removed) == 1

    run(body)


FINGERPRINT = "0123456789abcdef" * 4
COLONS = ":".join(FINGERPRINT[at : at + 2] for at in range(0, 64, 2)).upper()


async def patched(caller: Caller, device_id: str, **fields: Any) -> dict[str, Any]:
    answer = await caller.http.patch(f"/v1/iot/devices/{device_id}", json=fields)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    assert shown == (await caller.http.get(f"/v1/iot/devices/{device_id}")).json()
    return shown


def test_a_change_changes_what_it_names_and_nothing_else() -> None:
    async def body(caller: Caller) -> None:
        created = await caller.create(description="old", metadata={"a": 1, "b": 2})
        created = {name: value for name, value in created.items() if not name.startswith("mqtt_c")}
        del created["mqtt_password"]
        device_id = created["device_id"]
        created["passwords"] = [{"created_at": created["created_at"], "last_used": None, "valid_until": None}]
        created |= {"connected_at": None, "protocol": None, "address": None}
        assert await patched(caller, device_id) == created
        caller.upper.clock.pass_s(5)
        for said, shown in (
            ({"name": "New"}, {"name": "New"}),
            ({"description": "new"}, {"description": "new"}),
            ({"description": None}, {"description": ""}),
            ({"type": "gateway"}, {"type": "gateway", "device_type": "gateway"}),
            ({"device_type": "lorawan"}, {"type": "lorawan", "device_type": "lorawan"}),
            ({"metadata": {"b": 3}}, {"metadata": {"b": 3}}),
            ({"metadata": None}, {"metadata": {}}),
            ({"certificate_fingerprint": COLONS}, {"certificate_fingerprint": FINGERPRINT}),
            ({"certificate_fingerprint": None}, {"certificate_fingerprint": None}),
            ({"status": "inactive"}, {"status": "inactive", "is_active": False}),
            ({"is_active": True, "status": "active"}, {"status": "active", "is_active": True}),
            ({"is_active": False}, {"status": "inactive", "is_active": False}),
            ({"status": "active", "name": "All"}, {"status": "active", "is_active": True, "name": "All"}),
        ):
            created = {**created, **shown, "updated_at": "2025-11-05T10:30:05Z"}
            assert await patched(caller, device_id, **said) == created
        assert caller.upper.reloaded().directory.devices.get(1, device_id).name == "All"

    run(body)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "ab"}, "name"),
        ({"name": None}, "name"),
        ({"type": "lorawan"}, "type"),
        ({"type": None}, "type"),
        ({"type": "sensor", "device_type": "gateway"}, "device_type"),
        ({"device_type": ""}, "device_type"),
        ({"description": "x" * 501}, "description"),
        ({"status": "error"}, "status"),
        ({"status": None}, "status"),
        ({"status": "active", "is_active": False}, "is_active"),
        ({"is_active": 1}, "is_active"),
        ({"metadata": {"x": "y" * 16384}}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"device_id": "another"}, "device_id"),
        ({"certificate_fingerprint": ""}, "certificate_fingerprint"),
        ({"certificate_fingerprint": FINGERPRINT[1:]}, "certificate_fingerprint"),
        ({"certificate_fingerprint": "g" + FINGERPRINT[1:]}, "certificate_fingerprint"),
        ({"certificate_fingerprint": COLONS[:-3] + COLONS[-2:]}, "certificate_fingerprint"),
        ({"certificate_fingerprint": FINGERPRINT + "\n"}, "certificate_fingerprint"),
        ({"certificate_fingerprint": 1}, "certificate_fingerprint"),
    ],
)
def test_a_wrong_change_is_refused_by_its_field_and_changes_nothing(change: dict[str, Any], field: str) -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        before = caller.upper.directory.devices.get(1, device_id)
        answer = await caller.http.patch(f"/v1/iot/devices/{device_id}", json={"description": "new", **change})
        assert_error(answer, 400, "INVALID_PARAMETER", field)
        assert caller.upper.directory.devices.get(1, device_id) == before

    run(body)


def test_a_device_that_is_registered_with_a_certificate_shows_it_and_nobody_else_gets_it() -> None:
    async def body(caller: Caller) -> None:
        upper = caller.upper
        one = await caller.create(certificate_fingerprint=COLONS)
        assert one["certificate_fingerprint"] == FINGERPRINT
        two = await caller.create(certificate_fingerprint=None)
        assert two["certificate_fingerprint"] is None
        other = await upper.directory.accounts.create("other", upper.clock.wall_s())
        _, key = await upper.directory.keys.create(other.account_id, "other", upper.clock.wall_s())
        theirs = {"Authorization": f"Bearer {key}"}
        bound = {"certificate_fingerprint": FINGERPRINT}
        answer = await caller.http.post("/v1/iot/devices", json={**NEW, **bound}, headers=theirs)
        assert_error(answer, 409, "CONFLICT")
        assert one["device_id"] not in answer.text
        path = f"/v1/iot/devices/{two['device_id']}"
        assert_error(await caller.http.patch(path, json=bound), 409, "CONFLICT")
        assert_error(await caller.http.patch(path, json=bound, headers=theirs), 404, "NOT_FOUND")
        await patched(caller, one["device_id"], certificate_fingerprint=None)
        assert (await patched(caller, two["device_id"], **bound))["certificate_fingerprint"] == FINGERPRINT

    run(body)


def test_a_change_is_durable_before_it_is_answered_and_refused_when_it_cannot_be() -> None:
    async def body(caller: Caller) -> None:
        path = f"/v1/iot/devices/{(await caller.create())['device_id']}"
        caller.upper.store.delay()
        changing = asyncio.create_task(caller.http.patch(path, json={"name": "New"}))
        await asyncio.sleep(0.01)
        assert not changing.done()
        assert (await caller.http.get(path)).json()["name"] == NEW["name"]
        caller.upper.store.release()
        assert (await changing).json()["name"] == "New"
        caller.upper.store.fail(OSError("no"), 1)
        assert_error(await caller.http.patch(path, json={"name": "Newer"}), 503, "UNAVAILABLE")
        assert (await caller.http.get(path)).json()["name"] == "New"
        caller.upper.admin.stop_serving()
        assert_error(await caller.http.patch(path, json={"name": "Newer"}), 503, "UNAVAILABLE")

    run(body)


def test_another_accounts_device_looks_like_none() -> None:
    async def body(caller: Caller) -> None:
        created = await caller.create()
        await caller.upper.admin.operator.create_account("other", "free")
        _, other = await caller.upper.admin.operator.create_key("other", "k")
        theirs = {"X-API-Key": other, "Authorization": f"bearer {other}"}
        path = f"/v1/iot/devices/{created['device_id']}"
        for answer in (
            await caller.http.get(path, headers=theirs),
            await caller.http.delete(path, headers=theirs),
            await caller.http.post(path + "/commands", json={"payload": 1}, headers=theirs),
        ):
            assert_error(answer, 404, "NOT_FOUND")
        assert (await caller.http.get("/v1/iot/devices", headers=theirs)).json()["total"] == 0
        assert (await caller.http.get(path)).status_code == 200

    run(body)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"name": "ab"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 17}, "name"),
        ({"name": "lone \ud800 surrogate"}, "name"),
        ({"type": "toaster"}, "type"),
        ({"type": None}, "type"),
        ({"device_type": "gateway"}, "device_type"),
        ({"description": "x" * 501}, "description"),
        ({"description": 3}, "description"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"x": "y" * 16 * 1024}}, "metadata"),
        ({"metadata": {"x": "\ud800"}}, "metadata"),
        ({"colour": "red"}, "colour"),
        ({"device_id": "bulk"}, "device_id"),
        ({"device_id": "a/b"}, "device_id"),
        ({"device_id": "+++"}, "device_id"),
        ({"device_id": "ab"}, "device_id"),
        ({"device_id": "x" * 65}, "device_id"),
        ({"device_id": "line\n"}, "device_id"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(change: dict[str, Any], field: str) -> None:
    async def body(caller: Caller) -> None:
        text = json.dumps({**NEW, **change})
        assert_error(await caller.http.post("/v1/iot/devices", content=text), 400, "INVALID_PARAMETER", field)
        assert (await caller.http.get("/v1/iot/devices")).json()["total"] == 0

    run(body)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"name": "abc", "name": "abcd", "type": "sensor"}',
        '{"name": "abc", "type": "sensor", "metadata": {"x": NaN}}',
        '{"name": "abc", "type": "sensor", "metadata": {"x": -Infinity}}',
        '{"name": "abc", "type": "sensor", "metadata": {"x": 1e999}}',
        '{"name": "abc", "type": "sensor", "metadata": {"x": %s}}' % ("9" * 5000),
        '{"name": "abc", "type": "sensor", "metadata": ' + '{"a":' * 9_000 + "1" + "}" * 9_001,
        b"\xff\xfe",
        '{"name": "abc"}'.encode("utf-16"),
    ],
)
def test_what_is_not_one_json_object_is_refused(text: str | bytes) -> None:
    async def body(caller: Caller) -> None:
        assert_error(await caller.http.post("/v1/iot/devices", content=text), 400, "INVALID_PARAMETER")

    run(body)


def test_values_at_their_limits_are_taken() -> None:
    async def body(caller: Caller) -> None:
        room = 16 * 1024 - len('{"x":""}')
        await caller.create(name="x" * 100, description="y" * 500, metadata={"x": "z" * room})
        await caller.create(name="abc", description=None, metadata=None)
        created = await caller.create(device_id="My-own_id")
        assert created["device_id"] == created["mqtt_credentials"]["client_id"] == "My-own_id"
        assert created["mqtt_username"].startswith("iot_dev_")
        assert_error(await caller.http.post("/v1/iot/devices", json={**NEW, "device_id": "My-own_id"}), 409, "CONFLICT")
        without_type = await caller.http.post("/v1/iot/devices", json={"name": "abc", "device_id": "other"})
        assert without_type.json()["type"] == "other"

    run(body)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%2B5", "limit"),
        ("limit=5.0", "limit"),
        ("offset=-1", "offset"),
        ("offset=" + "9" * 30, "offset"),
        ("status=broken", "status"),
        ("type=toaster", "type"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
        ("search=" + "x" * 201, "search"),
    ],
)
def test_a_wrong_query_is_refused_and_never_clamped(query: str, field: str) -> None:
    async def body(caller: Caller) -> None:
        assert_error(await caller.http.get(f"/v1/iot/devices?{query}"), 400, "INVALID_PARAMETER", field)

    run(body)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wayscloud_iot_prod_YOUR_API_KEY"},
        {"Authorization": "Basic {key}"},
        {"Authorization": "{key}"},
        {"Authorization": "Bearer {key}x"},
        {"Authorization": "Basic x", "X-API-Key": "{key}"},
    ],
)
def test_without_a_valid_key_there_is_one_answer(headers: dict[str, str]) -> None:
    async def body(caller: Caller) -> None:
        filled = {name: value.replace("{key}", caller.key) for name, value in headers.items()}
        answer = await caller.http.get("/v1/iot/devices", headers=filled)
        assert_error(answer, 401, "AUTH_FAILED")
        assert answer.json()["detail"] == "a valid API key is required"
        assert answer.headers["www-authenticate"] == "Bearer"

    run(body)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_scheme_is_taken_in_any_case(scheme: str) -> None:
    async def body(caller: Caller) -> None:
        headers = {"Authorization": f"{scheme} {caller.key}"}
        assert (await caller.http.get("/v1/iot/devices", headers=headers)).status_code == 200

    run(body)


def test_x_api_key_is_taken() -> None:
    async def body(caller: Caller) -> None:
        del caller.http.headers["authorization"]
        answer = await caller.http.get("/v1/iot/devices", headers={"X-API-Key": caller.key})
        assert answer.status_code == 200

    run(body)


def test_a_revoked_key_is_refused_and_its_devices_stay() -> None:
    async def body(caller: Caller) -> None:
        created = await caller.create()
        (key,) = await caller.upper.admin.operator.list_keys()
        await caller.upper.admin.operator.revoke_key(key.key_id)
        assert_error(await caller.http.get("/v1/iot/devices"), 401, "AUTH_FAILED")
        password = created["mqtt_password"].encode()
        assert caller.upper.directory.grant_for(created["mqtt_username"], password) is not None

    run(body)


@pytest.mark.parametrize(("ends", "status"), [("key", 401), ("account", 403)])
def test_whose_key_ends_while_the_body_comes_has_changed_nothing(ends: str, status: int) -> None:
    async def body(caller: Caller) -> None:
        operator = caller.upper.admin.operator

        async def parts() -> AsyncIterator[bytes]:
            yield json.dumps(NEW).encode()[:-1]
            if ends == "key":
                (key,) = await operator.list_keys()
                await operator.revoke_key(key.key_id)
            else:
                await operator.set_suspended("default", True)
            yield b"}"

        answer = await caller.http.post("/v1/iot/devices", content=parts())
        assert answer.status_code == status
        assert caller.upper.directory.devices.count(1) == 0

    run(body)


def test_a_suspended_account_is_refused() -> None:
    async def body(caller: Caller) -> None:
        await caller.upper.admin.operator.set_suspended("default", True)
        assert_error(await caller.http.get("/v1/iot/devices"), 403, "INSUFFICIENT_PERMISSIONS")

    run(body)


def test_the_plans_number_of_devices_is_the_limit() -> None:
    async def body(caller: Caller) -> None:
        await caller.upper.admin.operator.set_plan("default", "free")
        for _ in range(100):
            await caller.create()
        assert_error(await caller.http.post("/v1/iot/devices", json=NEW), 403, "QUOTA_EXCEEDED")
        await caller.upper.admin.operator.set_plan("default", "unlimited")
        await caller.create()

    run(body)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/nothing", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/devices/", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/devices/x%2Fy", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot%2Fdevices", 404, "NOT_FOUND", None),
        ("GET", "/v1%2fiot/devices", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/devices%0A", 404, "NOT_FOUND", None),
        ("GET", "/healthz%0a", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/devices%00", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/devices%3Flimit=1", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/quota/%2e%2e/devices", 404, "NOT_FOUND", None),
        ("GET", "//v1/iot/devices", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot//devices", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/devices;x", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/devices%20", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/devices/%c0%af", 404, "NOT_FOUND", None),
        ("GET", "/v1/iot/devices/%ff%fe", 404, "NOT_FOUND", None),
        ("GET", "/V1/iot/devices", 404, "NOT_FOUND", None),
        ("PUT", "/v1/iot/devices", 405, "METHOD_NOT_ALLOWED", "GET, HEAD, POST"),
        ("OPTIONS", "/v1/iot/devices/x", 405, "METHOD_NOT_ALLOWED", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/v1/iot/devices/x/commands", 405, "METHOD_NOT_ALLOWED", "POST"),
        ("POST", "/healthz", 405, "METHOD_NOT_ALLOWED", "GET, HEAD"),
    ],
)
def test_unknown_paths_and_methods_answer_in_the_same_shape(
    method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    async def body(caller: Caller) -> None:
        answer = await caller.http.request(method, path)
        assert_error(answer, status, code)
        assert answer.headers.get("allow") == allow

    run(body)


def test_a_letter_means_the_same_with_its_percent_sign() -> None:
    async def body(caller: Caller) -> None:
        assert (await caller.http.get("/v1/iot/%64evices")).status_code == 200
        assert all(ODD.search(cut) for cut in (b"/%zz", b"/%", b"/%4"))
        for code in range(256):
            plain = chr(code).isascii() and (chr(code).isalnum() or chr(code) in "-._~")
            for sent in (f"/%{code:02x}", f"/%{code:02X}"):
                assert bool(ODD.search(sent.encode())) != plain, sent

    run(body)


def test_below_the_base_path_the_key_comes_before_the_path() -> None:
    async def body(caller: Caller) -> None:
        del caller.http.headers["authorization"]
        assert_error(await caller.http.get("/v1/iot/nothing"), 401, "AUTH_FAILED")
        assert_error(await caller.http.get("/v1/iotx"), 404, "NOT_FOUND")

    run(body)


def test_health_needs_no_key_and_readiness_follows_the_broker() -> None:
    async def body(caller: Caller) -> None:
        del caller.http.headers["authorization"]
        assert (await caller.http.get("/healthz")).json() == {"status": "ok"}
        assert (await caller.http.get("/readyz")).status_code == 200
        caller.upper.admin.stop_serving()
        answer = await caller.http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "reason": "it is starting or stopping"}
        assert (await caller.http.get("/healthz")).status_code == 200

    run(body)


def test_a_stopping_broker_refuses_changes() -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        caller.upper.admin.stop_serving()
        path = f"/v1/iot/devices/{device_id}"
        assert_error(await caller.http.post("/v1/iot/devices", json=NEW), 503, "UNAVAILABLE")
        assert_error(await caller.http.delete(path), 503, "UNAVAILABLE")
        assert_error(await caller.http.post(path + "/commands", json={"payload": 1}), 503, "UNAVAILABLE")

    run(body)


def test_a_failing_store_is_told_and_nothing_is_granted() -> None:
    async def body(caller: Caller) -> None:
        before = dict(caller.upper.core.grants)
        caller.upper.store.fail(OSError("disk"))
        assert_error(await caller.http.post("/v1/iot/devices", json=NEW), 503, "UNAVAILABLE")
        assert caller.upper.core.grants == before
        caller.upper.store.fail(None)
        assert (await caller.http.get("/v1/iot/devices")).json()["total"] == 0
        await caller.create()

    run(body)


def test_no_success_is_answered_before_it_is_durable() -> None:
    async def body(caller: Caller) -> None:
        caller.upper.store.delay()
        waiting = asyncio.create_task(caller.http.post("/v1/iot/devices", json=NEW))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert len(caller.upper.core.grants) == 1
        caller.upper.store.release()
        assert (await waiting).status_code == 201
        assert len(caller.upper.core.grants) == 2

    run(body)


BODIES = [row for row in ROUTES if row.body is not None and row.path.startswith("/v1/iot")]


@pytest.mark.parametrize("row", BODIES, ids=lambda row: row.path)
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_its_limit_is_refused_while_it_streams(row: ApiRoute, *, announced: bool) -> None:
    async def parts(read: list[int]) -> AsyncIterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield b" " * 8_192

    async def body(caller: Caller) -> None:
        read: list[int] = []
        maximum = row.request_maximum_bytes
        headers = {"content-length": str(maximum + 1)} if announced else {}
        path = row.path.format(device_id="x", webhook_id="x", authority_id="x")
        answer = await caller.http.request(row.method, path, content=parts(read), headers=headers)
        assert_error(answer, 413, "PAYLOAD_TOO_LARGE")
        assert str(maximum) in answer.text
        assert len(read) <= (0 if announced else maximum // 8_192 + 1)

    run(body)


def test_a_body_at_its_limit_is_read() -> None:
    async def body(caller: Caller) -> None:
        text = json.dumps(NEW)
        answer = await caller.http.post("/v1/iot/devices", content=text + " " * (64 * 1024 - len(text)))
        assert answer.status_code == 201
        path = f"/v1/iot/devices/{answer.json()['device_id']}/commands"
        sent = await caller.http.post(path, content='{"payload":1' + " " * (LARGE_BODY_BYTES - 13) + "}")
        assert sent.status_code == 202

    run(body)


def test_twelve_hundred_requests_at_once_then_one_every_sixty_milliseconds() -> None:
    async def body(caller: Caller) -> None:
        answer = await caller.http.get("/v1/iot/devices")
        assert answer.headers["x-ratelimit-remaining"] == "1199"
        for _ in range(1199):
            answer = await caller.http.get("/v1/iot/devices?limit=1")
        assert (answer.status_code, answer.headers["x-ratelimit-remaining"]) == (200, "0")
        refused = await caller.http.get("/v1/iot/devices")
        assert_error(refused, 429, "RATE_LIMITED")
        assert refused.headers["retry-after"] == "1"
        assert int(refused.headers["x-ratelimit-reset"]) == caller.upper.clock.wall_s() + 72
        assert (await caller.http.get("/healthz")).status_code == 200
        _, other = await caller.upper.admin.operator.create_key("default", "second")
        fresh = await caller.http.get("/v1/iot/devices", headers={"Authorization": f"Bearer {other}"})
        assert fresh.status_code == 200
        caller.upper.clock.pass_s(1)
        assert (await caller.http.get("/v1/iot/devices")).status_code == 200

    run(body)


def test_guessing_keys_is_limited_by_address_and_takes_nothing_from_good_keys() -> None:
    async def body(caller: Caller) -> None:
        guess = {"Authorization": "Bearer guess"}
        for _ in range(1200):
            answer = await caller.http.get("/v1/iot/devices", headers=guess)
            assert answer.status_code == 401
        assert_error(await caller.http.get("/v1/iot/devices", headers=guess), 429, "RATE_LIMITED")
        assert (await caller.http.get("/v1/iot/devices")).status_code == 200

    run(body)


def test_credentials_list_all_devices_and_are_paged_only_on_request() -> None:
    async def body(caller: Caller) -> None:
        ids = [(await caller.create())["device_id"] for _ in range(1000)]
        whole = (await caller.http.get("/v1/iot/credentials")).json()
        assert [device["device_id"] for device in whole["devices"]] == ids[::-1]
        assert "total" not in whole
        page = (await caller.http.get("/v1/iot/credentials?limit=2&offset=1")).json()
        assert [device["device_id"] for device in page["devices"]] == ids[-3:-1][::-1]
        assert (page["total"], page["limit"], page["offset"]) == (1000, 2, 1)
        assert_error(await caller.http.get("/v1/iot/credentials?offset=1"), 400, "INVALID_PARAMETER", "offset")
        empty = (await caller.http.get("/v1/iot/credentials?limit=2&offset=1000")).json()
        assert empty["devices"] == []

    run(body)


def test_a_failure_of_ours_is_a_500_without_its_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(caller: Caller) -> None:
        def broken(*arguments: object) -> None:
            raise RuntimeError("secret detail")

        monkeypatch.setattr(caller.upper.directory.devices, "page_numbers", broken)
        answer = await caller.http.get("/v1/iot/devices")
        assert_error(answer, 500, "INTERNAL_ERROR")
        assert "secret detail" not in answer.text

    run(body)
    assert "secret detail" in caplog.text


def test_no_answer_may_be_kept_by_a_cache() -> None:
    async def body(caller: Caller) -> None:
        for path in ("/v1/iot/devices", "/v1/iot/nothing", "/healthz"):
            assert (await caller.http.get(path)).headers["cache-control"] == "no-store"

    run(body)


def test_an_answer_that_breaks_off_in_the_middle_is_no_success(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(caller: Caller) -> None:
        async def broken(account_id: int, size: int) -> AsyncIterator[list[Any]]:
            yield []
            raise RuntimeError("in the middle")

        monkeypatch.setattr(caller.upper.directory.devices, "slices", broken)
        with pytest.raises(ConnectionAbortedError):
            await caller.http.get("/v1/iot/credentials")

    run(body)
    assert "in the middle" in caplog.text


def test_more_parameters_than_any_route_has_are_refused_before_they_are_parsed() -> None:
    async def body(caller: Caller) -> None:
        query = "&".join(f"x{number}=1" for number in range(21))
        assert_error(await caller.http.get(f"/v1/iot/devices?{query}"), 400, "INVALID_PARAMETER")

    run(body)


def test_websockets_are_closed_and_the_lifespan_is_answered() -> None:
    async def body(caller: Caller) -> None:
        app = api.application(caller.upper.admin)
        sent: list[str] = []
        asked = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(asked)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app({"type": "websocket", "path": "/"}, receive, send)
        await app({"type": "lifespan"}, receive, send)
        assert sent == ["websocket.close", "lifespan.startup.complete", "lifespan.shutdown.complete"]

    run(body)


def test_more_requests_at_once_than_the_limit_are_refused_in_the_documented_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.admission.REQUESTS_AT_ONCE_MAXIMUM", 0)

    async def body(caller: Caller) -> None:
        assert_error(await caller.http.get("/v1/iot/devices"), 503, "UNAVAILABLE")
        monkeypatch.setattr("api.admission.REQUESTS_AT_ONCE_MAXIMUM", 1)
        assert (await caller.http.get("/v1/iot/devices")).status_code == 200
        assert (await caller.http.get("/v1/iot/devices")).status_code == 200

    run(body)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_however_deep_a_body_is_it_is_taken_or_refused_and_what_was_taken_is_shown() -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        for depth in (1, 99, 100, 101, 255, 300, *range(900, 1000, 3)):
            fits = {"metadata": depth < 100, "payload": depth <= 100}
            for name, path, text in (
                ("metadata", "", f'{{"name": "deep", "type": "sensor", "metadata": {{"a": {nested(depth)}}}}}'),
                ("payload", f"/{device_id}/commands", f'{{"payload": {nested(depth)}}}'),
            ):
                key = {"Idempotency-Key": f"{name}-{depth}"}
                answer = await caller.http.post(f"/v1/iot/devices{path}", content=text, headers=key)
                if fits[name]:
                    assert answer.is_success, (depth, name, answer.text)
                else:
                    assert_error(answer, 400, "INVALID_PARAMETER")
        shown = await caller.http.get("/v1/iot/devices")
        assert shown.status_code == 200
        assert shown.json()["total"] == 3

    run(body)


def test_a_list_with_metadata_that_an_earlier_version_took_is_answered() -> None:
    async def body(caller: Caller) -> None:
        deep = '{"a":' + nested(300) + "}"
        description = DeviceDescription("Deep", "sensor", metadata_json=deep, device_id="deep")
        await caller.upper.directory.devices.create(1, description, NOW_S)
        for path in ("", "/deep"):
            assert (await caller.http.get(f"/v1/iot/devices{path}")).status_code == 200

    run(body)


def test_many_brackets_are_not_deep() -> None:
    async def body(caller: Caller) -> None:
        metadata = {"a": [[], {}] * 500, "b": "[" * 500}
        made = await caller.create(metadata=metadata)
        assert made["metadata"] == metadata

    run(body)
