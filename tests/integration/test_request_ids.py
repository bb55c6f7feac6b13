"""Each request has an id: in its answer, in the log where it fails, and in the audit log; and what that log tells."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from api.table import ROUTES
from broker import control
from tests.integration.test_rest import NEW, TIMESTAMP, Caller, assert_error, run

DRAWN = re.compile(r"[0-9a-f]{32}")
AUDIT = "/v1/iot/audit"


@pytest.mark.parametrize("sent", ["a", "018f3c1e-6b0a-7cc3-98c4-dc0c0c07398f", "web:42/7@x=+_.", "x" * 128])
def test_a_well_formed_id_is_kept(sent: str) -> None:
    async def body(caller: Caller) -> None:
        for path in ("/v1/iot/devices", "/healthz", "/nothing"):
            assert (await caller.http.get(path, headers={"X-Request-Id": sent})).headers["x-request-id"] == sent

    run(body)


@pytest.mark.parametrize("sent", ["", " ", "-a", "a b", "a\tb", 'a"b', "a;b", "{a}", "é", "x" * 129, "a,b"])
def test_any_other_is_replaced_by_one_that_is_drawn(sent: str) -> None:
    async def body(caller: Caller) -> None:
        headers = [(b"x-request-id", sent.encode("latin-1"))]
        drawn = {(await caller.http.get("/healthz", headers=headers)).headers["x-request-id"] for _ in range(2)}
        assert len(drawn) == 2
        assert all(DRAWN.fullmatch(one) for one in drawn)
        twice = [(b"x-request-id", b"a"), (b"x-request-id", b"a")]
        assert DRAWN.fullmatch((await caller.http.get("/healthz", headers=twice)).headers["x-request-id"])

    run(body)


def test_every_refusal_has_an_id_and_no_body_does() -> None:
    async def body(caller: Caller) -> None:
        answers = [
            (await caller.http.get("/v1/iot/devices", headers={"Authorization": "Bearer x"}), 401),
            (await caller.http.get("/v1/iot/devices/nobody"), 404),
            (await caller.http.put("/v1/iot/devices"), 405),
            (await caller.http.post("/v1/iot/devices", json={}), 400),
        ]
        for answer, status in answers:
            assert answer.status_code == status
            assert DRAWN.fullmatch(answer.headers["x-request-id"])
            assert set(answer.json()) == {"error", "detail"}
            assert answer.headers["x-request-id"] not in answer.text

    run(body)


def test_a_failure_is_in_the_log_with_its_id_and_without_its_key(caplog: pytest.LogCaptureFixture) -> None:
    async def body(caller: Caller) -> None:
        caller.upper.store.fail(OSError("disk"))
        answer = await caller.http.post("/v1/iot/devices?search=secret", json=NEW, headers={"X-Request-Id": "mine"})
        assert_error(answer, 400, "INVALID_PARAMETER")
        answer = await caller.http.post("/v1/iot/devices", json=NEW, headers={"X-Request-Id": "mine"})
        assert_error(answer, 503, "UNAVAILABLE")
        told = [one.fields for one in caplog.records if hasattr(one, "fields")]
        assert told[-1] == {"request_id": "mine", "method": "POST", "path": "/v1/iot/devices"}
        assert caller.key not in caplog.text
        assert "secret" not in str(told)

    with caplog.at_level(logging.DEBUG):
        run(body)


def test_a_flood_of_requests_that_cannot_be_served_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def body(caller: Caller) -> None:
        caller.upper.admin.stop_serving()
        for _ in range(25):
            await caller.http.post("/v1/iot/devices", json=NEW)
        caller.upper.clock.pass_s(1)
        await caller.http.post("/v1/iot/devices", json=NEW)

    with caplog.at_level(logging.WARNING, "api"):
        run(body)
    told = [one.message for one in caplog.records if "could not be served" in one.message]
    assert len(told) == 12
    assert told[10] == "15 more requests could not be served"


# ------------------------------------------------------------ the audit log


def test_every_row_that_changes_something_is_noted_under_a_verb_of_its_own() -> None:
    verbs = [row.handler.__name__ for row in ROUTES if row.is_change]
    assert len(set(verbs)) == len(verbs)
    assert {"create_device", "change_device", "delete_device", "rotate_password"} <= set(verbs)


def test_changes_are_listed_newest_first_with_who_and_where_from_and_no_secret() -> None:
    async def body(caller: Caller) -> None:
        made = await caller.create(device_id="pump-1", description="hidden words")
        path = "/v1/iot/devices/pump-1"
        await caller.http.patch(path, json={"name": "New name", "status": "inactive"}, headers={"X-Request-Id": "r-2"})
        await caller.http.patch(path, json={})
        rotated = await caller.http.post(path + "/credentials/rotate", json={"overlap_seconds": 60})
        await caller.http.post(path + "/commands", json={"payload": 1})
        await caller.http.delete(path)
        await caller.http.delete(path)
        await caller.http.get(path)
        answer = await caller.http.get(AUDIT)
        told = answer.json()
        assert [one["action"] for one in told["entries"]] == [
            "delete_device",
            "rotate_password",
            "change_device",
            "create_device",
        ]
        assert {one["target"] for one in told["entries"]} == {"pump-1"}
        changed = told["entries"][2]
        assert (changed["fields"], changed["request_id"]) == (["name", "status"], "r-2")
        assert changed["actor"] == {"type": "key", "key_id": 1, "name": "default", "address": "127.0.0.1"}
        assert TIMESTAMP.fullmatch(changed["at"])
        assert (told["total"], told["limit"], told["offset"]) == (4, 50, 0)
        password = rotated.json()["mqtt_credentials"]["password"]
        for secret in (caller.key, made["mqtt_password"], password, "hidden words", "New name"):
            assert secret not in answer.text
            assert secret.encode() not in b"".join(value for _, value in caller.upper.store.load("audit"))
        page = (await caller.http.get(AUDIT + "?limit=1&offset=3")).json()
        assert [one["action"] for one in page["entries"]] == ["create_device"]

    run(body)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "offset=-1", "offset=100001", "since=1", "limit=1&limit=2"])
def test_a_wrong_page_is_refused(query: str) -> None:
    async def body(caller: Caller) -> None:
        assert_error(await caller.http.get(f"{AUDIT}?{query}"), 400, "INVALID_PARAMETER")

    run(body)


def test_of_the_operator_an_account_learns_that_it_was_the_operator_and_of_others_nothing() -> None:
    async def body(caller: Caller) -> None:
        operator = caller.upper.admin.operator
        await control.execute(operator, "accounts.create", {"name": "acme", "plan": "free"})
        made: dict[str, Any] = await control.execute(operator, "keys.create", {"account": "acme", "name": "theirs"})
        await control.execute(operator, "keys.list", {})
        await control.execute(operator, "accounts.set-plan", {"name": "default", "plan": "unlimited"})
        await control.execute(operator, "keys.revoke", {"key_id": made["key_id"]})
        (entry,) = (await caller.http.get(AUDIT)).json()["entries"]
        assert (entry["action"], entry["target"], entry["fields"]) == ("set_plan", "1", ["name", "plan"])
        assert entry["actor"] == {"type": "command_line", "key_id": None, "name": None, "address": None}
        assert DRAWN.fullmatch(entry["request_id"])
        theirs, _ = await caller.upper.admin.audit.page(2, 10, 0)
        assert [(one.verb, one.target) for one in theirs] == [
            ("revoke_key", str(made["key_id"])),
            ("create_key", str(made["key_id"])),
            ("create_account", "2"),
        ]
        assert made["api_key"].encode() not in b"".join(value for _, value in caller.upper.store.load("audit"))

    run(body)
