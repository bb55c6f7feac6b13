"""Messages to devices against a real broker, with paho as the device: what it gets, and what is told of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.served import Login, Served
from tests.integration.test_paho import V5, VERSIONS, Connect, PahoClient, open_client

__all__ = ["open_client"]
WAIT_S = 20


def send(served: Served, device: Login, kind: str = "commands", query: str = "", **body: Any) -> dict[str, Any]:
    answer = served.call("POST", f"/devices/{device.device_id}/{kind}{query}", {"payload": "x", **body})
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def shown(served: Served, device: Login, message_id: str) -> dict[str, Any]:
    answer = served.call("GET", f"/devices/{device.device_id}/messages/{message_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def becomes(served: Served, device: Login, message_id: str, state: str) -> dict[str, Any]:
    """Wait until a message has come to a state."""
    until = time.monotonic() + WAIT_S
    while (found := shown(served, device, message_id))["state"] != state:
        assert time.monotonic() < until, found
        time.sleep(0.01)
    return found


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_device_gets_the_callers_payload_and_mqtt_5_where_to_answer(
    served: Served, open_client: Connect, device: Login, version: int, qos: int
) -> None:
    client = open_client(version, device)
    client.subscribe(device.topic("commands"), 2)
    sent = served.call(
        "POST", f"/devices/{device.device_id}/commands", {"payload": {"on": True}, "qos": qos, "expiry_seconds": 60}
    )
    assert sent.status_code == 202
    got = client.next_message()
    assert (got.topic, got.payload, got.qos, got.retain) == (device.topic("commands"), b'{"on":true}', qos, False)
    if version == V5:
        message_id = sent.json()["message_id"]
        assert got.properties.ResponseTopic == device.topic(f"events/commands/{message_id}")
        assert got.properties.CorrelationData == message_id.encode()
        assert got.properties.MessageExpiryInterval == 60


@VERSIONS
def test_a_device_that_comes_later_gets_the_newest_configuration_alone(
    served: Served, open_client: Connect, device: Login, version: int
) -> None:
    for number in range(3):
        assert served.call("POST", f"/devices/{device.device_id}/config", {"payload": number}).status_code == 202
        served.call("POST", f"/devices/{device.device_id}/firmware", {"payload": number})
    client = open_client(version, device)
    client.subscribe(device.topic("config"), 1)
    got = client.next_message()
    assert (got.topic, got.payload, got.retain) == (device.topic("config"), b"2", True)
    served.call("POST", f"/devices/{device.device_id}/config", {"payload_base64": ""})
    assert client.next_message().payload == b""  # cleared
    late = open_client(version, device, client_id="late")
    late.subscribe(device.topic("config"), 1)
    served.call("POST", f"/devices/{device.device_id}/config", {"payload": "next", "retain": False})
    got = late.next_message()
    assert (got.payload, got.retain) == (b'"next"', False)


def test_a_configuration_of_qos_0_is_on_disk_when_it_is_answered(serve: Callable[..., Served]) -> None:
    served = serve()
    device = served.register()
    served.call("POST", f"/devices/{device.device_id}/config", {"payload": 1, "qos": 0})
    served.kill()
    again = serve(data_dir=served.data_dir, api_key=served.api_key)
    assert again.call("GET", "/stats").json()["retained"]["count"] == 1


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_the_state_of_a_command_follows_its_way(
    served: Served, open_client: Connect, device: Login, version: int, qos: int
) -> None:
    nobody = send(served, device, qos=qos)
    assert (nobody["state"], nobody["reason"]) == ("dropped", "NO_SESSION")
    client = open_client(version, device, keep_s=3600, manual_ack=True)
    client.subscribe(device.topic("commands"), qos)
    sent = send(served, device, qos=qos)
    got = client.next_message()
    if qos == 1:  # paho sends its PUBREC by itself
        assert sent["state"] == shown(served, device, sent["message_id"])["state"] == "sent"
    client.client.ack(got.mid, got.qos)
    becomes(served, device, sent["message_id"], "acknowledged")
    client.kill()
    queued = send(served, device, qos=qos)
    short = send(served, device, qos=qos, expiry_seconds=1)
    assert (queued["state"], short["state"]) == ("queued", "queued")
    becomes(served, device, short["message_id"], "expired")
    client = open_client(version, device, keep_s=3600)
    client.next_message()
    becomes(served, device, queued["message_id"], "acknowledged")
    assert shown(served, device, short["message_id"])["reason"] == "MESSAGE_EXPIRED"
    assert client.messages.empty()


@VERSIONS
def test_a_configuration_waits_for_a_device_without_a_session(
    served: Served, open_client: Connect, device: Login, version: int
) -> None:
    first, second = send(served, device, "config"), send(served, device, "config")
    assert (first["state"], second["state"]) == ("queued", "queued")
    replaced = shown(served, device, first["message_id"])
    assert (replaced["state"], replaced["reason"]) == ("dropped", "REPLACED")
    client = open_client(version, device)
    client.subscribe(device.topic("config"), 1)
    client.next_message()
    becomes(served, device, second["message_id"], "acknowledged")


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_devices_answer_comes_back_to_who_waits(
    served: Served, open_client: Connect, device: Login, version: int, qos: int
) -> None:
    client = open_client(version, device)
    client.subscribe(device.topic("commands"), 1)
    answering = threading.Thread(target=answer_one, args=(client, device, version, qos))
    answering.start()
    sent = send(served, device, query="?wait=20", message_id="m-1", payload={"id": "m-1"})
    answering.join()
    assert (sent["state"], sent["response"]["payload"]) == ("answered", {"got": {"id": "m-1"}})
    assert shown(served, device, "m-1")["response"] == sent["response"]


def answer_one(client: PahoClient, device: Login, version: int, qos: int) -> None:
    """Answer the next command: by its response topic, or as one that is told only a payload."""
    got = client.next_message()
    topic = got.properties.ResponseTopic if version == V5 else device.topic("events/commands/m-1")
    client.publish(topic, b'{"got": ' + got.payload + b"}", qos)


def test_answers_cost_an_account_no_more_than_any_message(served: Served, open_client: Connect, device: Login) -> None:
    client = open_client(V5, device)
    client.subscribe(device.topic("commands"), 1)
    before = served.call("GET", f"/usage?device_id={device.device_id}").json()["summary"]["total_messages"]
    sent = send(served, device, message_id="m")
    client.next_message()
    client.publish(device.topic("events/commands/m"), b"done", 1)
    becomes(served, device, sent["message_id"], "answered")
    used = served.call("GET", f"/usage?device_id={device.device_id}").json()["summary"]["total_messages"]
    assert used - before == 2


@VERSIONS
def test_over_a_kill_what_waits_is_queued_and_then_seen_to_be_sent(serve: Callable[..., Served], version: int) -> None:
    served = serve()
    device = served.register()
    client = PahoClient(served, version, device.username, device.password, device.device_id, keep_s=3600)
    client.subscribe(device.topic("commands"), 1)
    answered = send(served, device, message_id="answered")
    client.next_message()
    client.publish(device.topic("events/commands/answered"), b"\x00", 1)  # acknowledged: it is on disk
    client.kill()
    queued = send(served, device)
    retained = send(served, device, "config")
    served.kill()
    again = serve(data_dir=served.data_dir, api_key=served.api_key)
    assert shown(again, device, queued["message_id"])["state"] == "queued"
    assert shown(again, device, retained["message_id"])["state"] == "queued"
    kept = shown(again, device, answered["message_id"])
    assert (kept["state"], kept["response"]["payload_base64"]) == ("answered", "AA==")
    client = PahoClient(again, version, device.username, device.password, device.device_id, keep_s=3600)
    try:
        client.next_message()
        becomes(again, device, queued["message_id"], "acknowledged")
        client.subscribe(device.topic("config"), 1)
        becomes(again, device, retained["message_id"], "acknowledged")
    finally:
        client.end()


def test_a_message_to_a_device_that_is_deleted_is_gone(served: Served, open_client: Connect) -> None:
    device = served.register()
    client = open_client(V5, device, keep_s=3600)
    client.subscribe(device.topic("commands"), 1)
    client.kill()
    sent = send(served, device)
    assert served.call("DELETE", f"/devices/{device.device_id}").status_code == 204
    assert served.call("GET", f"/devices/{device.device_id}/messages/{sent['message_id']}").status_code == 404
