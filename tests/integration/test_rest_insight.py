"""Timelines, the policy check, connections and sessions as a caller sees them: answers, and every wrong field."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import connections
from api.app import validated
from api.connections_models import ConnectionsQuery
from api.connections_table import ROUTES as ADMIN_ROUTES
from api.routes import ApiRequest, key_kind
from api.table import ROUTES
from broker.accounts.timeline_records import Entry
from broker.accounts.timeline_words import WORDS
from broker.admin import PolicyQuestion
from broker.errors import BadRequest, NotFound
from broker.ports import Grant
from broker.stories import ConnectionNow, SessionNow, Verdict
from tests.integration.test_rest import Caller, assert_error, run
from tests.upper import NOW_S, FakeCore, Upper

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def number_of(caller: Caller, device_id: str) -> int:
    return caller.upper.directory.devices.get(1, device_id).device_number


# ---------------------------------------------------------------- the timeline


def test_an_entry_is_told_in_words_with_what_to_do() -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        entry = Entry("denied_publish", NOW_S * 1000, NOW_S * 1000 + 900, 3, "mqtts 5.0", "192.0.2.7", text="a/b")
        caller.upper.directory.devices.timeline.note(number_of(caller, device_id), entry)
        answer = await caller.http.get(f"/v1/iot/devices/{device_id}/timeline")
        assert answer.json() == {
            "device_id": device_id,
            "events": [
                {
                    "id": 1,
                    "at": "2025-11-05T10:30:00Z",
                    "first_at": "2025-11-05T10:30:00Z",
                    "count": 3,
                    "code": "denied_publish",
                    "message": "A message to a/b was refused: the device may not publish there.",
                    "remedy": "Publish below devices/{device_id}/telemetry, events or status.",
                    "protocol": "mqtts",
                    "mqtt_version": "5.0",
                    "address": "192.0.2.7",
                    "other_address": None,
                    "client_id": None,
                    "topic": "a/b",
                }
            ],
            "limit": 50,
            "next_before": None,
        }

    run(body)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1.5", "limit"),
        ("limit=x", "limit"),
        ("before=0", "before"),
        ("before=-1", "before"),
        ("before=2025-11-05", "before"),
        ("before=99999999999999999", "before"),
        ("offset=1", "offset"),
        ("limit=1&limit=2", "limit"),
    ],
)
def test_a_wrong_parameter_of_a_timeline_is_refused_by_name(query: str, field: str) -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        assert_error(
            await caller.http.get(f"/v1/iot/devices/{device_id}/timeline?{query}"), 400, "INVALID_PARAMETER", field
        )

    run(body)


def test_another_account_s_device_has_no_timeline_and_no_rights_here() -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        await caller.upper.admin.operator.create_account("other", "free")
        _, key = await caller.upper.admin.operator.create_key("other", "app")
        theirs = {"Authorization": f"Bearer {key}"}
        question = {"device_id": device_id, "action": "publish", "topic": "a"}
        found = [
            await caller.http.get(f"/v1/iot/devices/{device_id}/timeline", headers=theirs),
            await caller.http.post("/v1/iot/policy/check", json=question, headers=theirs),
            await caller.http.post("/v1/iot/policy/check", json={**question, "device_id": "nobody"}, headers=theirs),
        ]
        for answer in found:
            assert_error(answer, 404, "NOT_FOUND")
        assert found[1].json() == found[2].json()

    run(body)


def test_every_code_of_the_table_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").split("## Timeline")[1].split("\n## ")[0]
    documented = set(re.findall(r"`([a-z_0-9]+)`", text))
    assert set(WORDS) <= documented


# ---------------------------------------------------------------- may it?


class JudgingCore(FakeCore):
    """A core that says what it is told to say, and remembers what it was asked."""

    verdict = (Verdict.ALLOWED, 0)

    def judge(self, grant: Grant, topic: str, *, publishes: bool, retain: bool, payload_bytes: int) -> tuple[int, int]:
        self.asked = (grant.principal, topic, publishes, retain, payload_bytes)
        return self.verdict


def judged(
    body: Callable[[Caller, JudgingCore], Awaitable[None]], verdict: tuple[Verdict, int] = (Verdict.ALLOWED, 0)
) -> None:
    async def whole(caller: Caller) -> None:
        core = caller.upper.core
        core.__class__ = JudgingCore
        assert isinstance(core, JudgingCore)
        core.verdict = verdict
        await body(caller, core)

    run(whole)


async def check(caller: Caller, **question: Any) -> dict[str, Any]:
    answer = await caller.http.post("/v1/iot/policy/check", json=question)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_what_is_allowed_names_the_pattern_that_allows() -> None:
    async def body(caller: Caller, core: JudgingCore) -> None:
        device_id = (await caller.create())["device_id"]
        topic = f"devices/{device_id}/telemetry"
        said = await check(
            caller, device_id=device_id, action="publish", topic=topic, qos=1, retain=True, payload_bytes=5
        )
        assert core.asked == (device_id, topic, True, True, 5)
        assert (said["allowed"], said["reason_code"], said["mqtt_reason_code"]) == (True, "allowed", None)
        assert said["rule"] == "devices/{device_id}/telemetry/#"
        assert len(said["patterns"]) == 3

    judged(body)


@pytest.mark.parametrize(
    ("verdict", "rule", "code", "mqtt"),
    [
        (Verdict.INVALID_TOPIC, "topic_syntax", "invalid_topic", 0x90),
        (Verdict.QUOTA_USED_UP, "monthly_quota", "quota_exceeded", 0x97),
        (Verdict.PAYLOAD_TOO_LARGE, "payload_maximum", "payload_too_large", 0x97),
        (Verdict.FORBIDDEN, "no_pattern", "forbidden_topic", 0x87),
        (Verdict.RETAINED_FULL, "retained_maximum", "retained_full", 0x97),
    ],
)
def test_what_is_not_allowed_names_the_rule_and_what_a_client_is_told(
    verdict: Verdict, rule: str, code: str, mqtt: int
) -> None:
    async def body(caller: Caller, _core: JudgingCore) -> None:
        device_id = (await caller.create())["device_id"]
        said = await check(caller, device_id=device_id, action="publish", topic="a")
        assert (said["allowed"], said["rule"], said["reason_code"], said["mqtt_reason_code"]) == (
            False,
            rule,
            code,
            mqtt,
        )
        if verdict == Verdict.FORBIDDEN:
            assert all(pattern in said["reason"] for pattern in said["patterns"])

    judged(body, (verdict, -1))


def test_a_refusing_pattern_is_the_rule() -> None:
    async def body(caller: Caller, core: JudgingCore) -> None:
        said = await check(caller, key_name="default", action="publish", topic="devices/x/presence")
        assert core.asked[0] == "default"
        assert (said["allowed"], said["rule"]) == (False, "!devices/+/presence")

    judged(body, (Verdict.FORBIDDEN, 0))


def test_an_inactive_device_and_a_suspended_account_are_the_rule() -> None:
    async def body(caller: Caller, _core: JudgingCore) -> None:
        device_id = (await caller.create())["device_id"]
        await caller.http.patch(f"/v1/iot/devices/{device_id}", json={"status": "inactive"})
        said = await check(caller, device_id=device_id, action="subscribe", topic="a")
        assert (said["allowed"], said["rule"], said["reason_code"]) == (False, "device_status", "device_inactive")
        await caller.upper.admin.operator.set_suspended("default", True)
        found = await caller.upper.admin.policies.check(1, PolicyQuestion("publish", "a", device_id))
        assert (found.allowed, found.reason_code) == (False, "account_suspended")

    judged(body)


GOOD = {"device_id": "dev", "action": "publish", "topic": "a"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"device_id": None}, "device_id"),
        ({"key_name": "app"}, "device_id"),
        ({"device_id": 3}, "device_id"),
        ({"device_id": ""}, "device_id"),
        ({"device_id": "d" * 65}, "device_id"),
        ({"action": "delete"}, "action"),
        ({"action": None}, "action"),
        ({"topic": None}, "topic"),
        ({"topic": ["a"]}, "topic"),
        ({"topic": "a" * 65_536}, "topic"),
        ({"topic": "ä" * 40_000}, "topic"),
        ({"qos": 3}, "qos"),
        ({"qos": "1"}, "qos"),
        ({"qos": True}, "qos"),
        ({"retain": 1}, "retain"),
        ({"payload_bytes": -1}, "payload_bytes"),
        ({"payload_bytes": 1.5}, "payload_bytes"),
        ({"action": "subscribe", "retain": True}, "retain"),
        ({"action": "subscribe", "payload_bytes": 1}, "payload_bytes"),
        ({"payload": "x"}, "payload"),
    ],
)
def test_a_wrong_question_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    async def body(caller: Caller) -> None:
        assert_error(
            await caller.http.post("/v1/iot/policy/check", json={**GOOD, **change}), 400, "INVALID_PARAMETER", field
        )

    run(body)


@pytest.mark.parametrize("missing", ["device_id", "action", "topic"])
def test_a_question_lacks_nothing(missing: str) -> None:
    async def body(caller: Caller) -> None:
        question = {name: value for name, value in GOOD.items() if name != missing}
        assert_error(await caller.http.post("/v1/iot/policy/check", json=question), 400, "INVALID_PARAMETER", missing)

    run(body)


def test_a_topic_that_is_no_text_is_refused() -> None:
    async def body(caller: Caller) -> None:
        answer = await caller.http.post(
            "/v1/iot/policy/check", content=b'{"device_id":"dev","action":"publish","topic":"\\ud800"}'
        )
        assert_error(answer, 400, "INVALID_PARAMETER", "topic")

    run(body)


ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.lists(st.integers(), max_size=2))


@given(
    st.dictionaries(
        st.sampled_from(["device_id", "key_name", "action", "topic", "qos", "retain", "payload_bytes", "x"]), ANYTHING
    )
)
@settings(max_examples=40)
def test_any_question_has_one_of_the_documented_answers(question: dict[str, Any]) -> None:
    async def body(caller: Caller) -> None:
        answer = await caller.http.post("/v1/iot/policy/check", json=question)
        assert answer.status_code in (200, 400, 404), answer.text

    run(body)


# ---------------------------------------------------------------- connections and sessions


CONNECTION = ConnectionNow(
    (7 << 32) | 3, 1, 5, "dev", "dev", "client/ä", 0, 1, 5, "192.0.2.7", NOW_S * 10**9, 60, 0, 1, 2, 3, 4, 2
)  # fmt: skip
SESSION = SessionNow(1, 5, "dev", "dev", "client/ä", 0, 600, NOW_S * 10**9, 1, 2, 3, True, False)


class ConnectedCore(FakeCore):
    """A core with some connections and sessions."""

    rows: ClassVar = [CONNECTION._replace(handle=(1 << 32) | slot, account_id=1 + slot % 2) for slot in range(10)]
    ended: list[Any]

    def connections(self, cursor: int, at_most: int, account_id: int | None) -> tuple[list[ConnectionNow], int]:
        looked = self.rows[cursor : cursor + 2]  # a page may be shorter than was asked for
        behind = cursor + len(looked)
        found = [row for row in looked if account_id in (None, row.account_id)]
        return found[:at_most], behind if behind < len(self.rows) else 0

    def connection(self, handle: int) -> ConnectionNow | None:
        return next((row for row in self.rows if row.handle == handle), None)

    def disconnect(self, handle: int) -> None:
        self.ended = [handle]

    def sessions_of(self, principal_id: int) -> list[SessionNow]:
        return [SESSION] if principal_id == 5 else []

    def sessions(self, cursor: int, at_most: int, account_id: int | None) -> tuple[list[SessionNow], int]:
        return [SESSION], 0

    async def end_session(self, principal_id: int, client_id: str) -> bool:
        self.ended = [principal_id, client_id]
        return (principal_id, client_id) == (5, SESSION.client_id)


def operated(body: Callable[[Upper, ConnectedCore], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        upper.core.__class__ = ConnectedCore
        assert isinstance(upper.core, ConnectedCore)
        await body(upper, upper.core)

    asyncio.run(whole())


def ask(upper: Upper, path: dict[str, str] | None = None, **query: str) -> ApiRequest:
    return ApiRequest(upper.admin, 0, path or {}, validated(ConnectionsQuery, query), None)


def test_pages_of_connections_are_filled_and_followed() -> None:
    async def body(upper: Upper, _core: ConnectedCore) -> None:
        seen: list[str] = []
        cursor = 0
        while True:
            page = await connections.list_connections(ask(upper, limit="3", cursor=str(cursor), account="default"))
            seen += [one.id for one in page.connections]
            assert len(page.connections) <= 3
            if page.next_cursor is None:
                break
            cursor = page.next_cursor
        assert len(seen) == len(set(seen)) == 5

    operated(body)


def test_a_connection_is_shown_and_closed_by_its_id() -> None:
    async def body(upper: Upper, core: ConnectedCore) -> None:
        place = {"connection_id": "0000000100000004"}
        shown = await connections.get_connection(ask(upper, place))
        assert (shown.id, shown.account, shown.device_id, shown.protocol) == (
            place["connection_id"],
            "default",
            "dev",
            "mqtts",
        )
        assert (shown.connected_at, shown.listener, shown.durability) == ("2025-11-05T10:30:00Z", "mqtt", "synced")
        await connections.disconnect(ask(upper, place))
        assert core.ended == [(1 << 32) | 4]
        other = await connections.get_connection(ask(upper, {"connection_id": "0000000100000001"}))
        assert other.account is None  # of an account without a name here

    operated(body)


@pytest.mark.parametrize(
    "name", ["", "0", "x", "0000000100000FFF", "000000010000000G", " 000000100000004", "-1", "9" * 40]
)
def test_an_id_that_is_none_is_not_found(name: str) -> None:
    async def body(upper: Upper, _core: ConnectedCore) -> None:
        for handler in (connections.get_connection, connections.disconnect):
            with pytest.raises(NotFound):
                await handler(ask(upper, {"connection_id": name}))

    operated(body)


def test_a_session_is_shown_and_ended_by_its_id() -> None:
    async def body(upper: Upper, core: ConnectedCore) -> None:
        (listed,) = (await connections.list_sessions(ask(upper))).sessions
        shown = await connections.get_session(ask(upper, {"session_id": listed.id}))
        assert shown == listed
        assert (shown.client_id, shown.connection_id, shown.ends_at) == ("client/ä", None, "2025-11-05T10:30:00Z")
        await connections.end_session(ask(upper, {"session_id": listed.id}))
        assert core.ended == [5, "client/ä"]

    operated(body)


@pytest.mark.parametrize(
    "name", ["", "5", "5.", "5.@@", "5.Y2xpZW50L8Ok=", "05.Y2xpZW50L8Ok", "-5.YQ", "6.Y2xpZW50L8Ok", "99999999999.YQ"]
)
def test_a_session_id_that_is_none_is_not_found(name: str) -> None:
    async def body(upper: Upper, _core: ConnectedCore) -> None:
        for handler in (connections.get_session, connections.end_session):
            with pytest.raises(NotFound):
                await handler(ask(upper, {"session_id": name}))

    operated(body)


@pytest.mark.parametrize(
    "query", [{"account": "nobody"}, {"device_id": "nobody"}, {"account": "default", "device_id": "x"}]
)
def test_who_does_not_exist_has_no_connections(query: dict[str, str]) -> None:
    async def body(upper: Upper, _core: ConnectedCore) -> None:
        for handler in (connections.list_connections, connections.list_sessions):
            with pytest.raises(NotFound):
                await handler(ask(upper, **query))

    operated(body)


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "101"}, {"cursor": "-1"}, {"cursor": "4294967296"}, {"page": "1"}]
)
def test_a_wrong_parameter_of_a_list_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        validated(ConnectionsQuery, query)


def test_nothing_of_the_operator_s_is_served_without_his_key() -> None:
    assert all(key_kind(route.path) == "admin" for route in ADMIN_ROUTES)
    assert {route.path for route in ADMIN_ROUTES} <= {route.path for route in ROUTES}
