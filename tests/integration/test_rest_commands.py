"""Messages to devices over HTTP: what is published where, what becomes of it, answers, and every wrong request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

import api
from broker.accounts import messages as sent_messages
from broker.admin import awaited
from broker.ports import ServerMessage, TrackedKind
from broker.reasons import DropReason
from broker.storage.tables import TRACKED
from tests.integration.test_rest import TIMESTAMP, Caller, assert_error, run

ANSWERED = {"message_id", "topic", "state", "reason", "response"}
KINDS = pytest.mark.parametrize("kind", ["commands", "config", "firmware"])


def sent_of(caller: Caller) -> list[ServerMessage]:
    return [message for _, message in caller.upper.core.published]


@pytest.mark.parametrize(
    ("sent", "payload"),
    [
        ({"payload": {"on": True, "é": 1.5}}, '{"on":true,"é":1.5}'.encode()),
        ({"payload": "text", "qos": 0}, b'"text"'),
        ({"payload": "text", "qos": 2}, b'"text"'),
        ({"payload": None}, b"null"),
        ({"payload_base64": "AAEC/w==", "retain": False, "expiry_seconds": None}, b"\x00\x01\x02\xff"),
        ({"payload_base64": ""}, b""),
        ({"payload": 1, "retain": True, "expiry_seconds": 1}, b"1"),
        ({"payload": 1, "retain": None, "expiry_seconds": 31_536_000}, b"1"),
    ],
)
@KINDS
def test_a_message_is_published_to_the_devices_topic(kind: str, sent: dict[str, Any], payload: bytes) -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        answer = await caller.http.post(f"/v1/iot/devices/{device_id}/{kind}", json=sent)
        assert answer.status_code == 202, answer.text
        message_id, topic = answer.json()["message_id"], f"devices/{device_id}/{kind}"
        assert (answer.json()["topic"], set(answer.json())) == (topic, ANSWERED)
        (published,) = sent_of(caller)
        retain = kind == "config" if sent.get("retain") is None else sent["retain"]
        assert (published.topic_name, published.payload, published.qos) == (topic, payload, sent.get("qos", 1))
        assert (published.retain, published.expiry_s) == (retain, sent.get("expiry_seconds") or 0)
        assert published.response_topic == f"devices/{device_id}/events/commands/{message_id}"
        assert published.correlation_data == message_id.encode()
        second = await caller.http.post(f"/v1/iot/devices/{device_id}/{kind}", json=sent)
        assert second.json()["message_id"] != message_id

    run(body)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "payload"),
        ({"payload": 1, "payload_base64": "AA=="}, "payload"),
        ({"payload_base64": "A*=="}, "payload_base64"),
        ({"payload_base64": "AAA"}, "payload_base64"),
        ({"payload_base64": 3}, "payload_base64"),
        ({"payload": 1, "qos": 3}, "qos"),
        ({"payload": 1, "qos": "1"}, "qos"),
        ({"payload": 1, "qos": True}, "qos"),
        ({"payload": 1, "qos": None}, "qos"),
        ({"payload": 1, "retain": 1}, "retain"),
        ({"payload": 1, "retain": "true"}, "retain"),
        ({"payload": 1, "expiry_seconds": 0}, "expiry_seconds"),
        ({"payload": 1, "expiry_seconds": -1}, "expiry_seconds"),
        ({"payload": 1, "expiry_seconds": 31_536_001}, "expiry_seconds"),
        ({"payload": 1, "expiry_seconds": 1.5}, "expiry_seconds"),
        ({"payload": 1, "expiry_seconds": "60"}, "expiry_seconds"),
        ({"payload": "\ud800"}, "payload"),
        ({"payload": 1, "message_id": ""}, "message_id"),
        ({"payload": 1, "message_id": "a/b"}, "message_id"),
        ({"payload": 1, "message_id": "+"}, "message_id"),
        ({"payload": 1, "message_id": "a" * 65}, "message_id"),
        ({"payload": 1, "message_id": 7}, "message_id"),
        ({"payload": 1, "topic": "x"}, "topic"),
    ],
)
@KINDS
def test_a_wrong_message_is_refused_by_field(kind: str, sent: dict[str, Any], field: str) -> None:
    async def body(caller: Caller) -> None:
        device_id = (await caller.create())["device_id"]
        answer = await caller.http.post(f"/v1/iot/devices/{device_id}/{kind}", content=json.dumps(sent))
        assert_error(answer, 400, "INVALID_PARAMETER", field)
        assert caller.upper.core.published == []

    run(body)


@KINDS
def test_a_message_to_no_device_of_ones_own_is_not_found(kind: str) -> None:
    async def body(caller: Caller) -> None:
        operator = caller.upper.admin.operator
        await operator.create_account("other", "free")
        _, key = await operator.create_key("other", "default")
        device_id = (await caller.create())["device_id"]
        headers = {"Authorization": f"Bearer {key}"}
        theirs = await caller.http.post(f"/v1/iot/devices/{device_id}/{kind}", json={"payload": 1}, headers=headers)
        absent = await caller.http.post(f"/v1/iot/devices/iot_dev_x/{kind}", json={"payload": 1})
        assert_error(theirs, 404, "NOT_FOUND")
        assert theirs.json() == absent.json()
        assert caller.upper.core.published == []

    run(body)


def test_a_command_over_the_payload_limit_is_too_large_and_at_it_is_sent() -> None:
    async def body(caller: Caller) -> None:
        path = f"/v1/iot/devices/{(await caller.create())['device_id']}/commands"
        assert (await caller.http.post(path, json={"payload": "x" * (1_048_576 - 2)})).status_code == 202
        assert_error(await caller.http.post(path, json={"payload": "x" * (1_048_576 - 1)}), 413, "PAYLOAD_TOO_LARGE")

    run(body)


# ---------------------------------------------------------------- what becomes of them


class Sender:
    """One device, what is sent to it, and what the core tells of that."""

    def __init__(self, caller: Caller, device_id: str) -> None:
        self.caller = caller
        self.core = caller.upper.core
        self.device_id = device_id
        self.path = f"/v1/iot/devices/{device_id}"

    @property
    def number(self) -> int:
        return self.caller.upper.directory.devices.get(1, self.device_id).device_number

    async def send(self, kind: str = "commands", wait: int | None = None, **body: Any) -> dict[str, Any]:
        query = {} if wait is None else {"wait": str(wait)}
        answer = await self.caller.http.post(f"{self.path}/{kind}", json={"payload": 1, **body}, params=query)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def tell(self, kind: TrackedKind, reason: DropReason = DropReason.OUTBOX_FULL, number: int = 0) -> None:
        """Of the message that was sent last."""
        self.core.tell(sent_of(self.caller)[-1].tracking, kind, int(reason), number)

    async def shown(self, message_id: str) -> dict[str, Any]:
        answer = await self.caller.http.get(f"{self.path}/messages/{message_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


async def sender(caller: Caller) -> Sender:
    return Sender(caller, (await caller.create())["device_id"])


def test_the_way_of_a_command_is_told_with_its_times() -> None:
    async def body(caller: Caller) -> None:
        one, clock = await sender(caller), caller.upper.clock
        one.core.subscribers = 1
        sent = await one.send(expiry_seconds=600)
        assert (sent["state"], sent["reason"], sent["response"]) == ("sent", None, None)
        shown = await one.shown(sent["message_id"])
        assert {name: shown[name] for name in sent} == sent
        assert shown["created_at"] == shown["sent_at"]
        assert TIMESTAMP.fullmatch(shown["expires_at"])
        assert (shown["qos"], shown["acknowledged_at"], shown["answered_at"], shown["ended_at"]) == (
            1,
            None,
            None,
            None,
        )
        clock.pass_s(5)
        one.tell(TrackedKind.ACKNOWLEDGED)
        acknowledged = await one.shown(sent["message_id"])
        assert (acknowledged["state"], acknowledged["sent_at"]) == ("acknowledged", shown["sent_at"])
        assert acknowledged["acknowledged_at"] > shown["sent_at"]
        clock.pass_s(600)
        one.core.answer(one.number, sent["message_id"], b'{"ok": true}')
        answered = await one.shown(sent["message_id"])
        assert (answered["state"], answered["acknowledged_at"]) == ("answered", acknowledged["acknowledged_at"])
        at = answered["answered_at"]
        assert answered["response"] == {"at": at, "bytes": 12, "payload": {"ok": True}, "payload_base64": None}
        one.core.answer(one.number, sent["message_id"], b"again")
        assert (await one.shown(sent["message_id"])) == answered

    run(body)


@pytest.mark.parametrize(
    ("qos", "told", "state", "reason"),
    [
        (1, [], "dropped", "NO_SESSION"),
        (0, [(TrackedKind.REFUSED, DropReason.CLIENT_AWAY)], "dropped", "CLIENT_AWAY"),
        (0, [(TrackedKind.SENT_ONCE, 0)], "sent", None),
        (0, [(TrackedKind.SENT_ONCE, 0), (TrackedKind.REFUSED, DropReason.CLIENT_AWAY)], "sent", None),
        (1, [(TrackedKind.TAKEN, 0)], "queued", None),
        (1, [(TrackedKind.TAKEN, 0), (TrackedKind.REFUSED, DropReason.QUEUE_FULL)], "queued", None),
        (1, [(TrackedKind.TAKEN, 0), (TrackedKind.SENT, 0)], "sent", None),
        (1, [(TrackedKind.TAKEN, 0), (TrackedKind.DROPPED, DropReason.SESSION_ENDED)], "dropped", "SESSION_ENDED"),
        (
            1,
            [(TrackedKind.TAKEN, 0), (TrackedKind.SENT, 0), (TrackedKind.DROPPED, DropReason.NEGATIVE_ACK)],
            "dropped",
            "NEGATIVE_ACK",
        ),
        (1, [(TrackedKind.TAKEN, 0), (TrackedKind.DROPPED, DropReason.MESSAGE_EXPIRED)], "expired", "MESSAGE_EXPIRED"),
        (
            1,
            [(TrackedKind.TAKEN, 0), (TrackedKind.TAKEN, 0), (TrackedKind.DROPPED, DropReason.SESSION_ENDED)],
            "queued",
            None,
        ),
        (
            1,
            [
                (TrackedKind.TAKEN, 0),
                (TrackedKind.TAKEN, 0),
                (TrackedKind.ACKNOWLEDGED, 0),
                (TrackedKind.DROPPED, DropReason.SESSION_ENDED),
            ],
            "acknowledged",
            None,
        ),
        (1, [(TrackedKind.RETAINED, 0)], "queued", None),
        (1, [(TrackedKind.RETAINED, 0), (TrackedKind.RELEASED, 0)], "dropped", "REPLACED"),
        (1, [(TrackedKind.RETAINED, 0), (TrackedKind.SENT_ONCE, 0), (TrackedKind.RELEASED, 0)], "sent", None),
    ],
)
def test_the_state_is_the_best_that_any_session_has_come_to(
    qos: int, told: list[tuple[TrackedKind, DropReason]], state: str, reason: str | None
) -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        message_id = (await one.send(qos=qos))["message_id"]
        for kind, why in told:
            one.tell(kind, why)
        shown = await one.shown(message_id)
        assert (shown["state"], shown["reason"]) == (state, reason)
        assert (shown["ended_at"] is not None) == (state in ("dropped", "expired"))

    run(body)


def test_what_waits_beyond_its_time_has_expired() -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        sent = await one.send(expiry_seconds=60)
        one.tell(TrackedKind.TAKEN)
        caller.upper.clock.pass_s(60)
        assert (await one.shown(sent["message_id"]))["state"] == "queued"  # until it has for sure
        caller.upper.clock.pass_s(1)
        assert (await one.shown(sent["message_id"]))["state"] == "expired"
        kept = await one.send("config", expiry_seconds=60)
        assert kept["state"] == "queued"
        caller.upper.clock.pass_s(60)
        one.tell(TrackedKind.RELEASED)
        shown = await one.shown(kept["message_id"])
        assert (shown["state"], shown["reason"]) == ("expired", "MESSAGE_EXPIRED")

    run(body)


def test_what_is_dropped_on_the_disk_alone_is_known_by_its_number() -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        sent = await one.send()
        one.tell(TrackedKind.TAKEN, number=77)
        one.core.tell(0, TrackedKind.DROPPED, int(DropReason.SESSION_ENDED), 76)
        assert (await one.shown(sent["message_id"]))["state"] == "queued"
        one.core.tell(0, TrackedKind.DROPPED, int(DropReason.SESSION_ENDED), 77)
        assert (await one.shown(sent["message_id"]))["state"] == "dropped"

    run(body)


def test_a_callers_own_message_id_is_one_message_of_its_device() -> None:
    async def body(caller: Caller) -> None:
        one, other = await sender(caller), await sender(caller)
        assert (await one.send(message_id="boot-7"))["message_id"] == "boot-7"
        assert sent_of(caller)[-1].response_topic.endswith("/events/commands/boot-7")
        again = await caller.http.post(f"{one.path}/config", json={"payload": 2, "message_id": "boot-7"})
        assert_error(again, 409, "CONFLICT")
        assert len(sent_of(caller)) == 1
        await other.send(message_id="boot-7")

    run(body)


def test_messages_of_others_and_of_none_look_the_same() -> None:
    async def body(caller: Caller) -> None:
        one, other = await sender(caller), await sender(caller)
        message_id = (await one.send())["message_id"]
        absent = await caller.http.get(f"{other.path}/messages/{message_id}")
        assert_error(absent, 404, "NOT_FOUND")
        assert_error(await caller.http.get(f"{one.path}/messages/none"), 404, "NOT_FOUND")
        assert_error(await caller.http.get(f"/v1/iot/devices/none/messages/{message_id}"), 404, "NOT_FOUND")
        assert_error(await caller.http.get(f"{one.path}/messages/{message_id}?x=1"), 400, "INVALID_PARAMETER", "x")
        one.core.answer(other.number, message_id, b"not mine")
        assert (await one.shown(message_id))["state"] == "dropped"

    run(body)


def test_a_message_that_was_refused_is_none() -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        refused = await caller.http.post(f"{one.path}/commands", json={"payload": "x" * 1_048_576, "message_id": "m"})
        assert_error(refused, 413, "PAYLOAD_TOO_LARGE")
        assert_error(await caller.http.get(f"{one.path}/messages/m"), 404, "NOT_FOUND")
        await one.send(message_id="m")

    run(body)


# ---------------------------------------------------------------- kept


def test_states_survive_a_restart_and_what_died_with_the_process_is_told() -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        one.core.subscribers = 1
        answered, waiting, lost = [(await one.send())["message_id"] for _ in range(3)]
        tracking = {message.correlation_data.decode(): message.tracking for message in sent_of(caller)}
        one.core.answer(one.number, answered, b"\xff")
        await one.core.written()
        upper = caller.upper.restart()
        assert upper.core.heard == {1}
        transport = httpx.ASGITransport(api.application(upper.admin, upper.clock))
        headers = {"Authorization": f"Bearer {caller.key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://broker", headers=headers) as http:
            later = Sender(Caller(upper, caller.key, http), one.device_id)
            shown = await later.shown(answered)
            assert (shown["state"], shown["response"]["payload_base64"]) == ("answered", "/w==")
            assert (await later.shown(lost))["reason"] == "SESSION_ENDED"
            later.core.tell(tracking[waiting], TrackedKind.TAKEN)
            assert (await later.shown(waiting))["state"] == "sent"

    run(body)


def test_a_device_takes_its_messages_with_it() -> None:
    async def body(caller: Caller) -> None:
        one, other = await sender(caller), await sender(caller)
        message_id = (await one.send())["message_id"]
        kept = (await other.send())["message_id"]
        one.core.answer(one.number, message_id, b"x")
        await one.core.written()
        assert len(caller.upper.store.load(TRACKED)) == 3
        assert (await caller.http.delete(one.path)).status_code == 204
        one.tell(TrackedKind.SENT)
        await one.core.written()
        assert len(caller.upper.store.load(TRACKED)) == 1
        assert (await other.shown(kept))["message_id"] == kept

    run(body)


def test_of_each_device_and_account_the_newest_are_kept_and_none_for_longer_than_a_week(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sent_messages, "DEVICE_MESSAGES_MAXIMUM", 2)
    monkeypatch.setattr(sent_messages, "ACCOUNT_MESSAGES_MAXIMUM", 3)

    async def body(caller: Caller) -> None:
        one, other = await sender(caller), await sender(caller)
        ids = [(await one.send())["message_id"] for _ in range(3)]
        one.core.answer(one.number, ids[1], b"x")
        await one.core.written()
        assert (await caller.http.get(f"{one.path}/messages/{ids[0]}")).status_code == 404
        for _ in range(2):
            await other.send()
        assert (await caller.http.get(f"{one.path}/messages/{ids[1]}")).status_code == 404
        assert (await one.shown(ids[2]))["message_id"] == ids[2]
        await one.core.written()
        assert len(caller.upper.store.load(TRACKED)) == len(caller.upper.directory.messages) == 3
        caller.upper.clock.pass_s(sent_messages.KEPT_S)
        await caller.upper.admin.forget_old()
        await one.core.written()
        assert caller.upper.store.load(TRACKED) == []

    run(body)


def test_answers_of_an_account_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_messages, "ACCOUNT_ANSWERS_MAXIMUM_BYTES", 100)

    async def body(caller: Caller) -> None:
        one = await sender(caller)
        ids = [(await one.send())["message_id"] for _ in range(4)]
        for message_id in ids[:3]:
            one.core.answer(one.number, message_id, b"x" * 40)
        assert (await caller.http.get(f"{one.path}/messages/{ids[0]}")).status_code == 404
        assert (await one.shown(ids[1]))["response"]["bytes"] == 40
        one.core.answer(one.number, ids[3], None, 20_000)
        shown = (await one.shown(ids[3]))["response"]
        assert (shown["bytes"], shown["payload"], shown["payload_base64"]) == (20_000, None, None)
        await one.core.written()
        assert (await one.shown(ids[2]))["response"]["payload_base64"] is not None

    run(body)


# ---------------------------------------------------------------- waiting


def test_a_request_waits_for_the_answer() -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        one.core.subscribers = 1
        waiting = asyncio.create_task(one.send(wait=60, message_id="m"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        one.tell(TrackedKind.ACKNOWLEDGED)
        one.core.answer(one.number, "m", b"[1]")
        answered = await waiting
        assert (answered["state"], answered["response"]["payload"]) == ("answered", [1])
        assert (await one.shown("m"))["response"] == answered["response"]

    run(body)


def test_who_asks_again_gets_the_answer_from_before_the_wait_and_sends_nothing() -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        one.core.subscribers = 1

        async def post() -> httpx.Response:
            headers = {"Idempotency-Key": "k"}
            return await caller.http.post(
                f"{one.path}/commands?wait=60", json={"payload": 1, "message_id": "m"}, headers=headers
            )

        waiting = asyncio.create_task(post())
        await asyncio.sleep(0.05)
        again = await post()
        assert (again.json()["state"], again.headers["idempotency-replayed"]) == ("sent", "true")
        one.core.answer(one.number, "m", b"1")
        assert (await waiting).json()["state"] == "answered"
        assert (await post()).content == again.content
        assert len(sent_of(caller)) == 1

    run(body)


def test_a_request_waits_no_longer_than_it_said_nor_for_what_cannot_come() -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        assert (await one.send(wait=60))["state"] == "dropped"
        one.core.subscribers = 1
        assert (await one.send(wait=0))["state"] == "sent"
        waiting = asyncio.create_task(one.send(wait=60))
        await asyncio.sleep(0.02)
        one.tell(TrackedKind.DROPPED, DropReason.SESSION_ENDED)
        assert (await waiting)["reason"] == "SESSION_ENDED"
        assert (await one.send(wait=1))["state"] == "sent"

    run(body)


@pytest.mark.parametrize("wait", ["-1", "61", "x", "1.5"])
def test_a_wrong_wait_is_refused_and_nothing_is_sent(wait: str) -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        answer = await caller.http.post(f"{one.path}/commands?wait={wait}", json={"payload": 1})
        assert_error(answer, 400, "INVALID_PARAMETER", "wait")
        assert sent_of(caller) == []

    run(body)


def test_waiters_are_bounded_and_a_broker_that_stops_answers_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaited, "ACCOUNT_WAITERS_MAXIMUM", 2)

    async def body(caller: Caller) -> None:
        one = await sender(caller)
        one.core.subscribers = 1
        waiting = [asyncio.create_task(one.send(wait=60)) for _ in range(2)]
        await asyncio.sleep(0.02)
        answer = await caller.http.post(f"{one.path}/commands?wait=1", json={"payload": 1})
        assert_error(answer, 429, "RATE_LIMITED")
        assert answer.headers["retry-after"] == "1"
        assert len(sent_of(caller)) == 2
        assert (await one.send())["state"] == "sent"
        caller.upper.admin.stop_serving()
        assert [(await one)["state"] for one in waiting] == ["sent", "sent"]

    run(body)


def test_whoever_hangs_up_waits_no_more() -> None:
    async def body(caller: Caller) -> None:
        one = await sender(caller)
        one.core.subscribers = 1
        app = api.application(caller.upper.admin, caller.upper.clock)
        hung_up = asyncio.Event()
        parts = [{"type": "http.request", "body": b'{"payload":1}'}]

        async def receive() -> dict[str, Any]:
            if parts:
                return parts.pop()
            await hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(_message: Any) -> None:
            raise AssertionError("nobody is there")

        scope = {
            "type": "http", "method": "POST", "path": f"{one.path}/commands", "query_string": b"wait=60",
            "headers": [(b"authorization", f"Bearer {caller.key}".encode())], "client": ("127.0.0.1", 1),
        }  # fmt: skip
        serving = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
        await asyncio.sleep(0.02)
        places = caller.upper.admin.commands._awaited._of_account
        assert places.total() == 1
        hung_up.set()
        await asyncio.wait_for(serving, 5)
        assert places.total() == 0
        assert len(sent_of(caller)) == 1

    run(body)
