"""Figures of a real broker with real clients: what was published is told, over restarts, midnights and kills."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.ports import PROTOCOLS
from broker.testing import BrokerUnderTest
from tests.integration.printed import LOOPBACK, authority, blocks, trusting
from tests.integration.served import Login, Served
from tests.integration.test_documents import curl
from tests.integration.wire import CONNACK, PUBLISH, V5, V311, Client, connect, publish

DAY_S = 24 * 3600
EPOCH = date(1970, 1, 1)


def figures(broker: BrokerUnderTest, path: str) -> dict[str, Any]:
    """One answer of the API."""
    answer = httpx.get(
        broker.http_url + "/v1/iot" + path, headers={"Authorization": f"Bearer {broker.api_key}"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def by_day(answered: dict[str, Any]) -> dict[str, int]:
    """Messages of the days that had any."""
    return {day["date"]: day["messages"] for day in answered["daily_breakdown"] if day["messages"]}


# ---------------------------------------------------------------- as printed


def test_the_printed_curl_lines_tell_usage_and_quota(
    snippets: str, served: Served, program: Callable[[str], str]
) -> None:
    (lines,) = blocks(snippets, "overview: list, get, usage, quota; credentials (curl)")
    commands = ["curl " + one for one in lines.strip().removeprefix("curl ").split("\ncurl ")]
    usage = curl_of(program, served, next(one for one in commands if "/usage?" in one))
    assert usage["period"] == {"start_date": "2025-10-29", "end_date": "2025-11-05"}
    assert [day["date"] for day in usage["daily_breakdown"]][::7] == ["2025-11-05", "2025-10-29"]
    quota = curl_of(program, served, next(one for one in commands if "/quota" in one))
    assert quota["plan"] == "professional"
    assert quota["max_devices"] == quota["limits"]["max_devices"] == 1000


def curl_of(program: Callable[[str], str], served: Served, command: str) -> Any:
    """Run a printed line in which no id stands."""
    return curl(program, served, command)


def test_the_printed_quota_program_prints_what_is_there(snippets: str, served: Served, tmp_path: Path) -> None:
    served.register()
    (program,) = blocks(snippets, "credentials: quota (Python, requests)")
    ours = program.replace("https://api.wayscloud.services", f"https://{LOOPBACK}:{served.port('https')}")
    assert ours != program
    file = tmp_path / "quota.py"
    file.write_text(f"API_KEY = {served.api_key!r}\n{ours}", encoding="utf-8")
    trusted = {**trusting(authority(served)), "REQUESTS_CA_BUNDLE": str(authority(served)), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-P", str(file)], capture_output=True, text=True, timeout=30, check=False, env=trusted
    )
    assert done.returncode == 0, done.stderr
    plan, devices, messages, bandwidth = done.stdout.splitlines()
    assert plan == "Plan: professional"
    assert devices.startswith("Devices: ")
    assert devices.endswith("/1000")
    assert messages.endswith("/10,000,000")
    assert bandwidth.endswith("/100 GB")


# ---------------------------------------------------------------- sums


def publish_all(port: int, device: Any, payloads: list[bytes], qos: int, version: int = V5) -> int:
    """Publish telemetry and wait until it was accepted; gives the bytes of all packets."""
    sent = 0
    with Client(port, version) as client:
        client.login(device.username, device.password, device.device_id)
        for number, payload in enumerate(payloads, 1):
            if qos:
                assert client.publish_qos1(device.topic("telemetry"), payload, number) in (0, 0x10)
            else:
                client.send(publish(version, device.topic("telemetry"), payload))
            sent += len(publish(version, device.topic("telemetry"), payload, number if qos else 0))
        client.ping()  # everything before it was read
    return sent


ROUND = st.tuples(
    st.integers(0, 1),
    st.lists(st.binary(max_size=200), max_size=8),
    st.integers(0, 1),
    st.sampled_from(["go on", "go on", "night", "restart"]),
)


@given(st.lists(ROUND, min_size=1, max_size=6))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_sum_over_days_is_what_was_published(rounds: list[tuple[int, list[bytes], int, str]]) -> None:
    """Two devices, days that end, and restarts; whatever was counted is told exactly, by day and by device."""
    with BrokerUnderTest() as broker:
        devices = [broker.register_device(), broker.register_device()]
        messages: dict[tuple[int, str], int] = {}
        sizes = [0, 0]
        ahead = 0
        for who, payloads, qos, then in rounds:
            today = datetime.now(UTC) + timedelta(days=ahead)
            sizes[who] += publish_all(broker.port, devices[who], payloads, qos)
            if payloads:
                place = who, today.date().isoformat()
                messages[place] = messages.get(place, 0) + len(payloads)
            if then == "night":
                broker.clock.advance(DAY_S)
                ahead += 1
            elif then == "restart":
                broker.restart()
                ahead = 0
        if datetime.now(UTC).hour == 23 and datetime.now(UTC).minute >= 58:
            return  # the world's midnight may have come between
        end = (datetime.now(UTC) + timedelta(days=10)).date().isoformat()
        start = (datetime.now(UTC) - timedelta(days=10)).date().isoformat()
        period = f"/usage?start_date={start}&end_date={end}"
        for who, device in enumerate(devices):
            found = figures(broker, f"{period}&device_id={device.device_id}")
            assert by_day(found) == {day: count for (one, day), count in messages.items() if one == who}
            assert found["summary"]["total_bandwidth_mb"] == round(sizes[who] / 1e6, 6)
        whole = figures(broker, period)
        assert whole["summary"]["total_messages"] == sum(messages.values())
        assert whole["summary"]["total_bandwidth_mb"] == round(sum(sizes) / 1e6, 6)
        assert whole["summary"]["active_devices"] == len({who for who, _ in messages})


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
def test_a_month_ends_at_midnight_and_its_days_stay(iot_broker: BrokerUnderTest, version: int) -> None:
    device = iot_broker.register_device()
    first = figures(iot_broker, "/quota")["reset_date"]
    publish_all(iot_broker.port, device, [b"x"] * 5, 1, version)
    before = figures(iot_broker, "/quota")
    assert before["current_messages"] == 5
    reset = datetime.fromisoformat(first)
    to_reset = (reset - datetime.now(UTC)).total_seconds()
    last_day = (reset - timedelta(seconds=1)).date()
    iot_broker.clock.advance(to_reset - 30)
    publish_all(iot_broker.port, device, [b"x"] * 3, 1, version)
    iot_broker.clock.advance(31)
    publish_all(iot_broker.port, device, [b"x"] * 2, 1, version)
    after = figures(iot_broker, "/quota")
    assert (after["current_messages"], after["reset_date"] > first) == (2, True)
    found = by_day(figures(iot_broker, "/usage"))
    assert found[reset.date().isoformat()] == 2
    today = datetime.now(UTC).date()
    assert found[last_day.isoformat()] == (8 if today == last_day else 3)
    stats = figures(iot_broker, "/stats")
    assert (stats["messages"]["today"], stats["messages"]["this_month"]) == (2, 2)


def test_both_directions_count_and_applications_and_rest_are_the_accounts_own(served: Served) -> None:
    device = served.register()
    key = served.new_key("figures")
    before = served.call("GET", "/quota").json()["current_messages"]
    with Client(served.port(), V5) as application, Client(served.port(), V5) as client:
        application.login("apikey", key, "figures")
        assert application.subscribe(device.topic("telemetry")) == [1]
        client.login(device.username, device.password, device.device_id)
        assert client.subscribe(device.topic("commands")) == [1]
        client.send(publish(V5, device.topic("telemetry"), b"12345"))  # in: the device's, out: the application's
        application.expect(PUBLISH)
        answer = served.call("POST", f"/devices/{device.device_id}/commands", {"payload": 1, "qos": 0})
        assert answer.json()["state"] == "sent"
        client.expect(PUBLISH)  # in: the account's, out: the device's
    found = served.call("GET", f"/usage?device_id={device.device_id}").json()
    assert found["summary"]["total_messages"] == 2
    assert found["top_devices"][0]["device_id"] == device.device_id
    assert served.call("GET", "/quota").json()["current_messages"] >= before + 4


def test_a_kill_loses_no_more_than_the_last_second(serve: Callable[..., Served]) -> None:
    broker = serve()
    device = broker.register()
    publish_all(broker.port(), device, [b"x"] * 20, 1)
    time.sleep(2)
    publish_all(broker.port(), device, [b"x"] * 3, 1)
    broker.kill()
    again = serve(data_dir=broker.data_dir, api_key=broker.api_key)
    found = again.call("GET", "/usage").json()["summary"]["total_messages"]
    assert 20 <= found <= 23
    assert again.call("GET", "/quota").json()["current_messages"] == found
    publish_all(again.port(), device, [b"x"] * 4, 1)
    assert again.call("GET", f"/usage?device_id={device.device_id}").json()["summary"]["total_messages"] == found + 4


# ---------------------------------------------------------------- stats


def test_stats_of_a_broker_with_clients(serve: Callable[..., Served]) -> None:
    broker = serve()
    device, other = broker.register(), broker.register()
    with Client(broker.port(), V5) as client, Client(broker.port(), V311) as second:
        client.login(device.username, device.password, device.device_id)
        second.login(other.username, other.password, other.device_id)
        client.send(publish(V5, device.topic("status"), b"on", first_byte=0x31))
        client.ping()
        found = broker.call("GET", "/stats").json()
        assert found["devices"] == {"total": 2, "active": 2, "inactive": 0, "error": 0, "online": 2}
        assert found["connections"] == {
            "current": 2,
            "peak_today": 2,
            "by_protocol": {"mqtt": 2, "mqtts": 0, "ws": 0, "wss": 0},
        }
        assert found["messages"]["today"] == found["messages"]["this_month"] == 1
        assert found["messages"]["per_second_in"] == 0.2
        assert found["retained"]["count"] == 1
        assert found["sessions"] == {"persistent": 0, "queued_messages": 0}
    until = time.monotonic() + 10
    while broker.call("GET", "/stats").json()["connections"]["current"] and time.monotonic() < until:
        time.sleep(0.05)
    found = broker.call("GET", "/stats").json()
    assert (found["connections"]["current"], found["connections"]["peak_today"]) == (0, 2)
    assert json.dumps(found)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_client_is_counted_by_the_door_that_it_came_through(served: Served, name: str) -> None:
    account = f"doors {name}"
    assert served.cli("accounts", "create", account).returncode == 0
    api_key = served.new_key("doors", account)
    device = served.register(api_key=api_key)
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, device.device_id, transport="websockets" if "ws" in name else "tcp"
    )
    if name in ("mqtts", "wss"):
        client.tls_set(str(authority(served)))
    if "ws" in name:
        client.ws_set_options("/mqtt")
    client.username_pw_set(device.username, device.password)
    client.connect(LOOPBACK, served.port(name))
    client.loop_start()
    try:
        until = time.monotonic() + 10
        while not client.is_connected() and time.monotonic() < until:
            time.sleep(0.02)
        found = served.call("GET", "/stats", api_key=api_key).json()["connections"]
    finally:
        client.disconnect()
        client.loop_stop()
    assert found == {"current": 1, "peak_today": 1, "by_protocol": {**dict.fromkeys(PROTOCOLS, 0), name: 1}}


def test_messages_that_wait_are_told(serve: Callable[..., Served]) -> None:
    broker = serve()
    device: Login = broker.register()
    kept = Client(broker.port(), V311)
    kept.send(connect(V311, device.device_id, device.username, device.password, flags=0xC0))
    kept.expect(CONNACK)
    kept.subscribe(device.topic("commands"))
    kept.close()
    until = time.monotonic() + 10
    while broker.call("GET", "/stats").json()["devices"]["online"] and time.monotonic() < until:
        time.sleep(0.05)
    for _ in range(3):
        broker.call("POST", f"/devices/{device.device_id}/commands", {"payload": 1})
    assert broker.call("GET", "/stats").json()["sessions"] == {"persistent": 1, "queued_messages": 3}


def test_a_plan_that_comes_to_its_end_is_warned_of_once_in_the_log(serve: Callable[..., Served]) -> None:
    broker = serve()
    assert broker.cli("accounts", "set-plan", "default", "free").returncode == 0
    for _ in range(80):
        broker.register()
    until = time.monotonic() + 10
    while "quota_warning" not in broker.log and time.monotonic() < until:
        time.sleep(0.1)
    (line,) = [line for line in broker.log.splitlines() if "quota_warning" in line]
    assert "account=default kind=devices percent=80 used=80 maximum=100 month=20" in line
    broker.kill()
    again = serve(data_dir=broker.data_dir, api_key=broker.api_key)
    again.register()
    time.sleep(2.5)
    assert "quota_warning" not in again.log
