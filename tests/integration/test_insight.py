"""Presence, timelines and the policy check of a real broker with real clients, over restarts and a kill."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest

from broker.admin import Which
from broker.errors import NotFound
from broker.testing import BrokerUnderTest
from broker.testing.harness import Device
from tests.integration.served import Served
from tests.integration.test_rest import TIMESTAMP
from tests.integration.wire import V5, Client
from tests.support.paho import leave, stop


def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Wait until something is true, and give it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
    return found


def connected(port: int, username: str, password: str, client_id: str, version: int = paho.MQTTv5) -> paho.Client:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version)
    client.username_pw_set(username, password)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


def asked(broker: BrokerUnderTest, method: str, path: str, body: Any = None) -> Any:
    answer = httpx.request(
        method, f"{broker.http_url}/v1/iot{path}", json=body, headers={"X-API-Key": broker.api_key}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def codes(broker: BrokerUnderTest, device: Device) -> list[str]:
    events = asked(broker, "GET", f"/devices/{device.device_id}/timeline")["events"]
    return [event["code"] for event in events]


@pytest.fixture(scope="module")
def broker() -> Any:
    with BrokerUnderTest() as running:
        yield running


# ---------------------------------------------------------------- presence


def test_an_application_hears_who_comes_and_goes(broker: BrokerUnderTest) -> None:
    device = broker.register_device()
    heard: list[dict[str, Any]] = []
    subscribed: list[int] = []
    app = connected(broker.port, "apikey", broker.api_key, "listening")
    app.on_message = lambda _client, _data, message: heard.append(json.loads(message.payload))
    app.on_subscribe = lambda *_: subscribed.append(1)
    until(app.is_connected)
    app.subscribe(f"devices/{device.device_id}/presence", 1)
    until(lambda: subscribed)
    client = connected(broker.port, device.username, device.password, "dev")
    (event,) = until(lambda: heard)
    assert TIMESTAMP.fullmatch(event.pop("at"))
    assert event == {
        "device_id": device.device_id,
        "state": "online",
        "protocol": "mqtt",
        "address": "127.0.0.1",
        "reason": "connected",
    }
    shown = asked(broker, "GET", f"/devices/{device.device_id}")
    assert (shown["online"], shown["protocol"], shown["address"]) == (True, "mqtt", "127.0.0.1")
    assert TIMESTAMP.fullmatch(shown["connected_at"])
    leave(client)
    until(lambda: len(heard) == 2)
    assert (heard[1]["state"], heard[1]["reason"]) == ("offline", "disconnected")
    shown = asked(broker, "GET", f"/devices/{device.device_id}")
    assert [shown[name] for name in ("online", "connected_at", "protocol", "address")] == [False, None, None, None]
    leave(app)


def test_presence_is_not_the_customer_s_usage() -> None:
    with BrokerUnderTest() as broker:
        device = broker.register_device()
        inbox = broker.subscribe("devices/+/presence")
        with Client(broker.port, V5) as client:
            client.login(device.username, device.password, "c")
            inbox.next()
        inbox.next()
        usage = asked(broker, "GET", "/usage")["summary"]
        assert usage["total_messages"] == 2  # what the subscription got


def test_devices_that_are_cut_by_the_stop_are_told_to_whoever_comes_back(broker: BrokerUnderTest) -> None:
    device = broker.register_device()
    heard: list[dict[str, Any]] = []
    keeping = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="kept", clean_session=False)
    keeping.username_pw_set("apikey", broker.api_key)
    keeping.on_message = lambda _client, _data, message: heard.append(json.loads(message.payload))
    subscribed: list[int] = []
    keeping.on_subscribe = lambda *_: subscribed.append(1)
    keeping.connect("127.0.0.1", broker.port)
    keeping.loop_start()
    until(keeping.is_connected)
    keeping.subscribe("devices/+/presence", 1)
    until(lambda: subscribed)
    leave(keeping)
    with Client(broker.direct_port, V5) as client:
        client.login(device.username, device.password, "c")
        broker.restart()
    keeping.connect("127.0.0.1", broker.port)
    keeping.loop_start()
    until(lambda: len(heard) >= 2)
    leave(keeping)
    told = [(one["state"], one["reason"]) for one in heard if one["device_id"] == device.device_id]
    assert told == [("online", "connected"), ("offline", "broker_stopped")]


# ---------------------------------------------------------------- the timeline


def test_the_timeline_answers_why_a_device_did_not_get_through(broker: BrokerUnderTest) -> None:
    device = broker.register_device()
    with pytest.raises(AssertionError), Client(broker.port, V5) as guesser:
        guesser.login(device.username, "wrong", "c")
    denied: list[int] = []
    with Client(broker.port, V5) as first:
        first.login(device.username, device.password, "same")
        assert first.publish_qos1("devices/other/telemetry", b"x") == 0x87
        second = connected(broker.port, device.username, device.password, "same")
        second.on_subscribe = lambda _client, _data, _id, reasons, _properties: denied.append(reasons[0].value)
        until(second.is_connected)
    second.subscribe("devices/#")
    assert until(lambda: denied) == [0x87]
    leave(second)
    httpx.post(
        f"{broker.http_url}/v1/iot/devices/{device.device_id}/credentials/rotate",
        headers={"X-API-Key": broker.api_key},
    ).raise_for_status()
    wanted = {
        "refused_wrong_password", "connected", "denied_publish", "denied_subscribe", "taken_over", "disconnected",
        "password_rotated",
    }  # fmt: skip
    until(lambda: wanted <= set(codes(broker, device)))
    answer = asked(broker, "GET", f"/devices/{device.device_id}/timeline")
    events = {event["code"]: event for event in answer["events"]}
    assert answer["next_before"] is None
    assert [event["id"] for event in answer["events"]] == sorted((one["id"] for one in answer["events"]), reverse=True)
    assert events["denied_publish"]["topic"] == "devices/other/telemetry"
    assert events["denied_publish"]["remedy"]
    assert events["taken_over"]["client_id"] == "same"
    assert (events["taken_over"]["address"], events["taken_over"]["other_address"]) == ("127.0.0.1", "127.0.0.1")
    assert events["refused_wrong_password"]["message"].startswith("A login was refused")
    for event in answer["events"]:
        assert TIMESTAMP.fullmatch(event["at"])
        assert event["count"] >= 1


def test_the_timeline_survives_a_stop(broker: BrokerUnderTest) -> None:
    device = broker.register_device()
    with Client(broker.direct_port, V5) as client:
        client.login(device.username, device.password, "c")
        broker.restart()
    assert codes(broker, device) == ["broker_stopped", "connected"]


def test_a_kill_takes_a_moment_and_leaves_what_was_before(serve: Callable[..., Served]) -> None:
    first = serve()
    device = first.register()
    client = Client(first.port(), V5)
    client.login(device.username, device.password, "c")
    time.sleep(0.1)
    path = f"/devices/{device.device_id}/timeline"
    until(lambda: first.call("GET", path).json()["events"])
    until(lambda: "iot_broker_timelines_waiting 0.0" in first.http.get("/metrics").text)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    client.close()
    brief = {"IOT_BROKER_RESTART_GRACE_S": "0"}
    again = serve(data_dir=first.data_dir, api_key=first.api_key, environment=brief)
    found = until(lambda: len(events := again.call("GET", path).json()["events"]) == 2 and events)
    assert [event["code"] for event in found] == ["broker_restarted", "connected"]


def test_pages_of_a_timeline_follow_each_other(broker: BrokerUnderTest) -> None:
    device = broker.register_device()
    with Client(broker.port, V5) as client:
        client.login(device.username, device.password, "c")
        for number in range(7):
            client.publish_qos1(f"elsewhere/{number}", b"", number + 1)
    until(lambda: len(codes(broker, device)) == 9)
    path = f"/devices/{device.device_id}/timeline?limit=4"
    page = asked(broker, "GET", path)
    seen = page["events"]
    while page["next_before"] is not None:
        page = asked(broker, "GET", f"{path}&before={page['next_before']}")
        seen += page["events"]
    assert seen == asked(broker, "GET", f"/devices/{device.device_id}/timeline?limit=100")["events"]


# ---------------------------------------------------------------- may it?


def test_the_policy_check_says_what_a_client_meets(broker: BrokerUnderTest) -> None:
    device = broker.register_device()
    with Client(broker.port, V5) as client:
        client.login(device.username, device.password, "c")
        for topic in (
            f"devices/{device.device_id}/telemetry",
            f"devices/{device.device_id}/commands",
            "devices/x/status",
        ):
            said = asked(
                broker, "POST", "/policy/check", {"device_id": device.device_id, "action": "publish", "topic": topic}
            )
            met = client.publish_qos1(topic, b"x", 1)
            assert said["allowed"] == (met in (0, 0x10))
            assert said["mqtt_reason_code"] == (None if said["allowed"] else met)


# ---------------------------------------------------------------- who looks after it


def test_an_operator_finds_and_ends_connections_and_sessions(broker: BrokerUnderTest) -> None:
    device = broker.register_device()
    admin = broker.broker.admin.connections
    which = Which("default", device.device_id)
    client = connected(broker.port, device.username, device.password, "looked-at")
    gone: list[Any] = []
    client.on_disconnect = lambda _client, _data, _flags, reason, _properties: gone.append(reason.value)
    until(client.is_connected)
    (found,) = broker.call(admin.list_connections(which, 10)).items
    assert (found.account, found.device_id, found.client_id) == ("default", device.device_id, "looked-at")
    assert (found.protocol, found.mqtt_version, found.address) == ("mqtt", "5.0", "127.0.0.1")
    assert broker.call(admin.get_connection(found.id)).session_id == found.session_id
    assert any(one.id == found.id for one in broker.call(admin.list_connections(Which(), 100)).items)
    assert broker.call(admin.list_connections(Which(device_id=device.device_id), 10)).items[0].id == found.id
    (session,) = broker.call(admin.list_sessions(which, 10)).items
    assert (session.id, session.connection_id) == (found.session_id, found.id)
    assert broker.call(admin.get_session(session.id)) == session
    broker.call(admin.disconnect(found.id))
    until(lambda: gone)
    stop(client)
    assert gone == [0x98]
    with pytest.raises(NotFound):
        broker.call(admin.get_connection(found.id))


def test_a_session_on_disk_is_ended_for_good() -> None:
    with BrokerUnderTest() as broker:
        device = broker.register_device()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="c", clean_session=False)
        client.username_pw_set(device.username, device.password)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        until(client.is_connected)
        leave(client)
        admin = broker.broker.admin.connections
        (session,) = broker.call(admin.list_sessions(Which("default"), 10)).items
        assert session.on_disk
        broker.call(admin.end_session(session.id))
        broker.restart()
        assert broker.call(broker.broker.admin.connections.list_sessions(Which("default"), 10)).items == []
        with pytest.raises(NotFound):
            broker.call(broker.broker.admin.connections.end_session(session.id))
