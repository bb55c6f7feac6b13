"""Messages to devices over HTTP: what is published where, and every wrong body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.ports import ServerMessage
from tests.integration.test_rest import Caller, assert_error, run

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
        assert (answer.json()["topic"], set(answer.json())) == (topic, {"message_id", "topic", "state"})
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
