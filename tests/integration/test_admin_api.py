"""``/v1/admin``: accounts, plans, keys and the audit log with an admin key, and nothing of it with any other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import api
from api.routes import ADMIN_PATH
from api.table import ROUTES
from broker import control
from broker.policy.key_rights import SCOPES
from tests.integration import wire
from tests.integration.served import Served
from tests.integration.test_rest import TIMESTAMP, Caller, assert_error, at_once, run
from tests.integration.wire import V5, Client
from tests.upper import NOW_S, Upper

ADMIN = "/v1/admin"
ADMIN_ROUTES = [row for row in ROUTES if row.path.startswith(ADMIN_PATH)]
LATER = "2099-01-31T12:00:00Z"


class Operating:
    """Somebody with an admin key, beside the caller whose account is looked after."""

    def __init__(self, caller: Caller, key_id: int, key: str) -> None:
        self.caller = caller
        self.key_id = key_id
        self.key = key

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return await self.caller.http.request(method, ADMIN + path, json=body, headers=headers, **more)

    async def make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.ask("POST", path, body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made


def operating(body: Callable[[Operating], Awaitable[None]]) -> None:
    async def whole(caller: Caller) -> None:
        view, key = await caller.upper.admin.admin_keys.create("ops")
        await body(Operating(caller, view.key_id, key))

    run(whole)


def path_of(path: str) -> str:
    return path.replace("{account_id}", "1").replace("{key_id}", "1")


# ------------------------------------------------------------ which key opens what


def test_every_row_needs_an_admin_key_and_an_accounts_key_is_none() -> None:
    async def body(one: Operating) -> None:
        http = one.caller.http
        for row in ADMIN_ROUTES:
            for headers in ({"Authorization": ""}, {"Authorization": f"Bearer {one.caller.key}"}, {"X-API-Key": "x"}):
                answer = await http.request(row.method, path_of(row.path), headers=headers, content=b"{}")
                assert_error(answer, 401, "AUTH_FAILED")
        for path in ("", "/", "/nothing", "/accounts/1/", "/%61ccounts/1/x"):
            answer = await http.get(ADMIN + path)
            assert_error(answer, 401, "AUTH_FAILED")  # no stranger learns which paths there are
            assert_error(await one.ask("GET", path), 404, "NOT_FOUND")
        assert (await http.get("/v1/%61dmin/plans")).status_code == 401

    operating(body)


def test_an_admin_key_is_no_key_of_an_account_nor_of_mqtt() -> None:
    async def body(one: Operating) -> None:
        headers = {"Authorization": f"Bearer {one.key}"}
        for path in ("/devices", "/quota", "/audit", "/nothing"):
            assert_error(await one.caller.http.get("/v1/iot" + path, headers=headers), 401, "AUTH_FAILED")
        for user_name in ("apikey", "admin", "ops"):
            assert one.caller.upper.directory.grant_for(user_name, one.key.encode()) is None

    operating(body)


def test_an_admin_key_ends_by_revocation_and_at_its_moment_and_says_when_it_was_used() -> None:
    async def body(one: Operating) -> None:
        upper = one.caller.upper
        view, short = await upper.admin.admin_keys.create("short", NOW_S + 10)
        assert one.key not in str(view)
        headers = {"Authorization": f"Bearer {short}"}
        assert (await one.caller.http.get(ADMIN + "/plans", headers=headers)).status_code == 200
        upper.clock.pass_s(10)
        assert_error(await one.caller.http.get(ADMIN + "/plans", headers=headers), 401, "AUTH_FAILED")
        await upper.admin.persist_seen()
        for floors in (upper, upper.reloaded()):
            shown = {key.name: key for key in await floors.admin.admin_keys.all()}
            assert (shown["short"].last_used_at, shown["short"].is_valid) == (NOW_S, False)
            assert (shown["ops"].last_used_at, shown["ops"].is_valid) == (None, True)
        assert (await one.ask("DELETE", f"/admin-keys/{view.key_id}")).status_code == 403
        assert_error(await one.ask("DELETE", "/admin-keys/999"), 404, "NOT_FOUND")
        told = (await one.ask("GET", "/admin-keys")).json()["admin_keys"]
        assert [(key["name"], key["status"]) for key in told] == [("ops", "valid"), ("short", "expired")]
        assert (await one.ask("DELETE", f"/admin-keys/{one.key_id}")).status_code == 204
        assert_error(await one.ask("GET", "/plans"), 401, "AUTH_FAILED")
        assert not upper.reloaded().directory.admin_keys.find(one.key, 0)

    operating(body)


def test_the_rate_of_an_admin_key_is_its_own() -> None:
    async def body(one: Operating) -> None:
        for _ in range(1200):
            answer = await one.ask("GET", "/plans")
        assert (answer.status_code, answer.headers["x-ratelimit-remaining"]) == (200, "0")
        assert_error(await one.ask("GET", "/plans"), 429, "RATE_LIMITED")
        assert (await one.caller.http.get("/v1/iot/devices")).status_code == 200

    operating(body)


# ------------------------------------------------------------ accounts


def test_an_account_is_made_shown_changed_listed_and_suspended() -> None:
    async def body(one: Operating) -> None:
        made = await one.make("/accounts", {"name": "acme", "plan": "free", "queue_full_policy": "refuse"})
        assert TIMESTAMP.fullmatch(made.pop("created_at"))
        assert made == {
            "account_id": 2,
            "name": "acme",
            "plan": "free",
            "durability": "synced",
            "queue_full_policy": "refuse",
            "suspended": False,
            "devices": 0,
            "messages_this_month": 0,
            "bytes_this_month": 0,
        }
        key = (await one.make("/keys", {"account_id": 2, "name": "main"}))["api_key"]
        headers = {"Authorization": f"Bearer {key}"}
        change = {"plan": "unlimited", "durability": "relaxed", "suspended": True, "queue_full_policy": "default"}
        changed = await one.ask("PATCH", "/accounts/2", change)
        assert {name: changed.json()[name] for name in change} == change
        assert_error(await one.caller.http.get("/v1/iot/devices", headers=headers), 403, "INSUFFICIENT_PERMISSIONS")
        assert (await one.ask("PATCH", "/accounts/2", {"suspended": False})).json()["plan"] == "unlimited"
        assert (await one.caller.http.get("/v1/iot/devices", headers=headers)).status_code == 200
        assert (await one.ask("PATCH", "/accounts/2", {})).json() == (await one.ask("GET", "/accounts/2")).json()
        listed = (await one.ask("GET", "/accounts?limit=1&offset=1")).json()
        assert [account["name"] for account in listed["accounts"]] == ["acme"]
        assert (listed["total"], listed["limit"], listed["offset"]) == (2, 1, 1)

    operating(body)


def test_a_change_of_several_things_is_one_commit() -> None:
    async def body(one: Operating) -> None:
        store = one.caller.upper.store
        store.delay()
        asking = asyncio.create_task(one.ask("PATCH", "/accounts/1", {"plan": "free", "suspended": True}))
        await asyncio.sleep(0.02)
        assert not asking.done()
        store.commit(1)
        account = one.caller.upper.reloaded().directory.accounts.get(1)
        assert (account.plan, account.suspended) == ("free", True)
        store.release()
        assert (await asking).status_code == 200

    operating(body)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": 3}, "name"),
        ({"name": "a", "plan": "golden"}, "plan"),
        ({"name": "a", "plan": None}, "plan"),
        ({"name": "a", "durability": "eternal"}, "durability"),
        ({"name": "a", "queue_full_policy": "panic"}, "queue_full_policy"),
        ({"name": "a", "suspended": True}, "suspended"),
        ({"name": "a", "account_id": 9}, "account_id"),
    ],
)
def test_a_wrong_account_is_refused_by_field_and_nothing_is_stored(sent: dict[str, Any], field: str) -> None:
    async def body(one: Operating) -> None:
        before = {table: one.caller.upper.store.load(table) for table in ("accounts", "counters", "audit")}
        assert_error(await one.ask("POST", "/accounts", sent), 400, "INVALID_PARAMETER", field)
        assert {table: one.caller.upper.store.load(table) for table in before} == before

    operating(body)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"plan": "golden"}, "plan"),
        ({"plan": None}, "plan"),
        ({"suspended": 1}, "suspended"),
        ({"suspended": None}, "suspended"),
        ({"durability": ""}, "durability"),
        ({"queue_full_policy": "panic", "plan": "free"}, "queue_full_policy"),
        ({"name": "other"}, "name"),
    ],
)
def test_a_wrong_change_is_refused_by_field_and_changes_nothing(sent: dict[str, Any], field: str) -> None:
    async def body(one: Operating) -> None:
        before = (await one.ask("GET", "/accounts/1")).json()
        assert_error(await one.ask("PATCH", "/accounts/1", sent), 400, "INVALID_PARAMETER", field)
        assert (await one.ask("GET", "/accounts/1")).json() == before

    operating(body)


def test_a_name_is_given_once() -> None:
    async def body(one: Operating) -> None:
        assert_error(await one.ask("POST", "/accounts", {"name": "default"}), 409, "CONFLICT")

    operating(body)


@pytest.mark.parametrize("number", ["0", "99", "-1", "01", "1.0", "x", "%20", "9" * 30, "\u0661", "default"])
def test_what_is_no_number_of_anything_is_not_found(number: str) -> None:
    async def body(one: Operating) -> None:
        for path in (f"/accounts/{number}", f"/keys/{number}"):
            assert_error(await one.ask("GET", path), 404, "NOT_FOUND")
        for path in (f"/keys/{number}", f"/admin-keys/{number}"):
            assert_error(await one.ask("DELETE", path), 404, "NOT_FOUND")
        assert_error(await one.ask("PATCH", f"/accounts/{number}", {"plan": "free"}), 404, "NOT_FOUND")

    operating(body)


def test_the_plans_are_those_that_accounts_can_be_on() -> None:
    async def body(one: Operating) -> None:
        plans = {plan["name"]: plan for plan in (await one.ask("GET", "/plans")).json()["plans"]}
        assert set(plans) == {"free", "professional", "unlimited"}
        assert plans["professional"]["max_devices"] == 1000
        assert plans["professional"]["max_messages_per_month"] == 10_000_000
        for name in plans:
            assert (await one.ask("PATCH", "/accounts/1", {"plan": name})).json()["plan"] == name

    operating(body)


# ------------------------------------------------------------ keys


def test_a_key_is_made_shown_once_listed_and_revoked() -> None:
    async def body(one: Operating) -> None:
        rights = {"scopes": ["usage:read", "publish"], "patterns": ["b", "devices/{device_id}/commands"]}
        made = await one.make("/keys", {"account_id": 1, "name": "app", **rights, "expires_at": LATER})
        api_key = made.pop("api_key")
        assert made["scopes"] == ["publish", "usage:read"]
        assert made["patterns"] == rights["patterns"]
        assert (made["status"], made["expires_at"], made["last_used_at"]) == ("valid", LATER, None)
        assert (made["account"], made["account_id"]) == ("default", 1)
        headers = {"Authorization": f"Bearer {api_key}"}
        assert (await one.caller.http.get("/v1/iot/quota", headers=headers)).status_code == 200
        assert (await one.caller.http.get("/v1/iot/devices", headers=headers)).status_code == 403
        path = f"/keys/{made['key_id']}"
        shown = (await one.ask("GET", path)).json()
        assert TIMESTAMP.fullmatch(shown.pop("last_used_at"))
        assert shown == {name: value for name, value in made.items() if name != "last_used_at"}
        listed = await one.ask("GET", "/keys?account_id=1&limit=1")
        assert [key["key_id"] for key in listed.json()["keys"]] == [made["key_id"]]
        assert listed.json()["total"] == 2
        assert api_key not in listed.text
        for _ in range(2):  # again is no error
            assert (await one.ask("DELETE", path)).status_code == 204
        assert (await one.ask("GET", path)).json()["status"] == "revoked"
        assert_error(await one.caller.http.get("/v1/iot/quota", headers=headers), 401, "AUTH_FAILED")

    operating(body)


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        ({"name": "a"}, 400, "account_id"),
        ({"account_id": 1}, 400, "name"),
        ({"account_id": "1", "name": "a"}, 400, "account_id"),
        ({"account_id": True, "name": "a"}, 400, "account_id"),
        ({"account_id": 0, "name": "a"}, 400, "account_id"),
        ({"account_id": 2**31, "name": "a"}, 400, "account_id"),
        ({"account_id": 99, "name": "a"}, 404, None),
        ({"account_id": 1, "name": " a"}, 400, "name"),
        ({"account_id": 1, "name": "a", "scopes": []}, 400, "scopes"),
        ({"account_id": 1, "name": "a", "scopes": ["root"]}, 400, "scopes"),
        ({"account_id": 1, "name": "a", "scopes": "publish"}, 400, "scopes"),
        ({"account_id": 1, "name": "a", "scopes": [1]}, 400, "scopes.0"),
        ({"account_id": 1, "name": "a", "scopes": list(SCOPES) * 9}, 400, "scopes"),
        ({"account_id": 1, "name": "a", "patterns": None}, 400, "patterns"),
        ({"account_id": 1, "name": "a", "patterns": ["!a"]}, 400, "patterns"),
        ({"account_id": 1, "name": "a", "patterns": ["a#"]}, 400, "patterns"),
        ({"account_id": 1, "name": "a", "patterns": ["x" * 257]}, 400, "patterns"),
        ({"account_id": 1, "name": "a", "patterns": [f"{one}" for one in range(33)]}, 400, "patterns"),
        ({"account_id": 1, "name": "a", "patterns": ["\ud800"]}, 400, "patterns"),
        ({"account_id": 1, "name": "a", "expires_at": "2020-01-01T00:00:00Z"}, 400, "expires_at"),
        ({"account_id": 1, "name": "a", "expires_at": "2030-02-30T00:00:00Z"}, 400, "expires_at"),
        ({"account_id": 1, "name": "a", "expires_at": "2030-01-01"}, 400, "expires_at"),
        ({"account_id": 1, "name": "a", "expires_at": "9999-12-31T23:59:59Z"}, 400, "expires_at"),
        ({"account_id": 1, "name": "a", "expires_at": NOW_S + 60}, 400, "expires_at"),
        ({"account_id": 1, "name": "a", "key": "mine"}, 400, "key"),
        ({"account_id": 1, "name": "default", "scopes": ["publish"]}, 409, None),
    ],
)
def test_a_wrong_key_is_refused_and_nothing_is_stored(sent: dict[str, Any], status: int, field: str | None) -> None:
    async def body(one: Operating) -> None:
        before = {table: one.caller.upper.store.load(table) for table in ("keys", "counters", "audit")}
        answer = await raw(one, sent)
        code = {400: "INVALID_PARAMETER", 404: "NOT_FOUND", 409: "CONFLICT"}[status]
        assert_error(answer, status, code, field)
        assert {table: one.caller.upper.store.load(table) for table in before} == before

    operating(body)


async def raw(one: Operating, sent: Any) -> httpx.Response:
    """Send what httpx would not encode: lone surrogates, escaped."""
    headers = {"Authorization": f"Bearer {one.key}"}
    return await one.caller.http.post(ADMIN + "/keys", content=json.dumps(sent), headers=headers)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["account_id", "name", "scopes", "patterns", "expires_at", "plan", "durability", "suspended"]
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=5).map(json.dumps) | st.binary(max_size=30)


@settings(max_examples=60)
@given(st.sampled_from([("POST", "/accounts"), ("PATCH", "/accounts/1"), ("POST", "/keys")]), BODIES)
def test_any_body_is_taken_or_refused_in_our_words(where: tuple[str, str], sent: str | bytes) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        _, key = await upper.admin.admin_keys.create("ops")
        transport = httpx.ASGITransport(api.application(upper.admin, upper.clock, sleep=at_once))
        async with httpx.AsyncClient(transport=transport, base_url="http://broker", headers={"X-API-Key": key}) as http:
            answer = await http.request(where[0], ADMIN + where[1], content=sent)
        if answer.status_code >= 300:
            assert answer.status_code in {400, 404, 409}, answer.text
            assert answer.json()["error"]["message"] == answer.json()["detail"] != ""
            assert upper.store.load("audit") == []

    asyncio.run(whole())


# ------------------------------------------------------------ the audit log


def test_an_admin_key_reads_all_changes_and_each_names_who_did_it() -> None:
    async def body(one: Operating) -> None:
        await one.make("/accounts", {"name": "acme"})
        made = await one.make("/keys", {"account_id": 2, "name": "main"})
        await one.caller.create(device_id="pump-1")
        await one.ask("PATCH", "/accounts/2", {"suspended": True, "plan": "free"})
        await one.ask("PATCH", "/accounts/2", {})
        await one.ask("DELETE", f"/keys/{made['key_id']}")
        answer = await one.ask("GET", "/audit")
        told = [(entry["account_id"], entry["action"], entry["target"]) for entry in answer.json()["entries"]]
        assert told == [
            (2, "revoke_key", str(made["key_id"])),
            (2, "change_account", "2"),
            (1, "create_device", "pump-1"),
            (2, "create_key", str(made["key_id"])),
            (2, "create_account", "2"),
        ]
        actor = {"type": "admin_key", "key_id": one.key_id, "name": "ops", "address": "127.0.0.1"}
        assert answer.json()["entries"][1]["actor"] == actor
        assert answer.json()["entries"][1]["fields"] == ["plan", "suspended"]
        for secret in (one.key, made["api_key"], one.caller.key):
            assert secret not in answer.text
        theirs = (await one.ask("GET", "/audit?account_id=2&limit=1&offset=3")).json()
        assert ([entry["action"] for entry in theirs["entries"]], theirs["total"]) == (["create_account"], 4)
        await one.ask("DELETE", f"/admin-keys/{one.key_id}")
        entries, _ = await one.caller.upper.admin.audit.page(0, 10, 0)
        assert [(entry.verb, entry.target) for entry in entries] == [("revoke_admin_key", str(one.key_id))]

    operating(body)


def test_the_log_of_no_account_and_wrong_pages_are_refused() -> None:
    async def body(one: Operating) -> None:
        assert (await one.ask("GET", "/audit?account_id=0")).json()["total"] == 0
        assert_error(await one.ask("GET", "/audit?account_id=99"), 404, "NOT_FOUND")
        assert_error(await one.ask("GET", "/keys?account_id=99"), 404, "NOT_FOUND")
        for query in ("account_id=x", "account_id=-1", "limit=0", "offset=100001", "who=me"):
            assert_error(await one.ask("GET", f"/audit?{query}"), 400, "INVALID_PARAMETER")

    operating(body)


# ------------------------------------------------------------ on a real broker


def test_the_command_line_makes_an_admin_key_and_with_it_an_account_is_made_and_cut(
    serve: Callable[..., Served],
) -> None:
    broker = serve()
    made = broker.cli("admin-keys", "create", "ops", "--expires-at", LATER)
    admin_key = made.stdout.strip()
    assert admin_key.startswith("iot_admin_")
    headers = {"X-API-Key": admin_key}
    account = broker.http.post(ADMIN + "/accounts", json={"name": "acme"}, headers=headers).json()["account_id"]
    created = broker.http.post(ADMIN + "/keys", json={"account_id": account, "name": "app"}, headers=headers).json()
    with Client(broker.port()) as client, Client(broker.port()) as other:
        client.login("apikey", created["api_key"])
        other.login("apikey", broker.api_key)
        assert broker.http.patch(f"{ADMIN}/accounts/{account}", json={"suspended": True}, headers=headers).json()[
            "suspended"
        ]
        client.expect_closed(0x98)
        other.ping()
    with Client(broker.port()) as client:
        client.send(wire.connect(V5, "c", "apikey", admin_key))
        client.expect_refused(0x87)
    (listed,) = asyncio.run(control.call(broker.data_dir, "admin-keys.list", {}))
    assert listed["last_used_at"]
    asyncio.run(control.call(broker.data_dir, "admin-keys.revoke", {"key_id": listed["key_id"]}))
    assert broker.http.get(ADMIN + "/plans", headers=headers).status_code == 401
    assert admin_key not in broker.log + broker.output
    assert created["api_key"] not in broker.log
    assert "verb=create_account" in broker.log
