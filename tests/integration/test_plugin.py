"""The pytest plugin: a broker for other people's tests, its faults and its clock; and the plugin as they install it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import aiomqtt
import pytest

from broker import PublishRefused, ReasonCode
from broker.errors import Unavailable
from broker.testing import BrokerUnderTest, Device, NothingArrived
from tests.integration.wire import (
    CONNACK,
    PINGRESP,
    PUBLISH,
    V5,
    V311,
    Client,
    connect,
    puback,
    publish,
)

DUP = 8


def enter(broker: BrokerUnderTest, client_id: str = "client", version: int = V5, **fields: int) -> Client:
    """A client of an open broker, through the proxy."""
    client = Client(broker.port, version)
    client.send(connect(version, client_id, **fields))
    assert client.expect(CONNACK).body[1] == 0
    broker.wait_connected(client_id)
    return client


OPEN = pytest.mark.iot_broker(open=True)


# ---------------------------------------------------------------- what it offers


def test_a_registered_device_talks_and_the_test_listens(iot_broker: BrokerUnderTest) -> None:
    device = iot_broker.register_device()
    inbox = iot_broker.subscribe("devices/+/telemetry")
    with Client(iot_broker.port) as client:
        client.login(device.username, device.password, device.client_id)
        assert client.publish_qos1(device.topic("telemetry"), b"21.5") == 0
        message = inbox.next()
        assert (message.topic_name, message.text, message.qos) == (device.topic("telemetry"), "21.5", 1)
        assert iot_broker.client_ids == [device.client_id]
        assert client.subscribe(device.topic("commands")) == [1]
        assert iot_broker.publish(device.topic("commands"), b"on", qos=1) is ReasonCode.SUCCESS
        assert client.expect(PUBLISH).payload(V5) == b"on"
    iot_broker.wait_disconnected(device.client_id)
    assert inbox.seen == [message]
    inbox.expect_nothing(0.05)


def test_a_chosen_device_id_is_taken(iot_broker: BrokerUnderTest) -> None:
    device = iot_broker.register_device(device_id="greenhouse-3")
    assert device.topic("status") == "devices/greenhouse-3/status"
    with Client(iot_broker.port) as client:
        client.login(device.username, device.password)


async def through_a_library(broker: BrokerUnderTest, device: Device) -> str:
    inbox = broker.subscribe("devices/+/telemetry")
    async with aiomqtt.Client(
        broker.host, broker.port, username=device.username, password=device.password, identifier=device.client_id
    ) as client:
        await client.publish(device.topic("telemetry"), "21.5", qos=1)
        first = await inbox.anext()
        await client.publish(device.topic("telemetry"), "22", qos=1)
        async for second in inbox:
            return first.text + " " + second.text
    raise AssertionError("unreachable")


def test_coroutines_use_the_same_fixture(iot_broker: BrokerUnderTest) -> None:
    assert asyncio.run(through_a_library(iot_broker, iot_broker.register_device())) == "21.5 22"


def test_what_does_not_come_fails_the_test_with_words(iot_broker: BrokerUnderTest) -> None:
    inbox = iot_broker.subscribe("a/+")
    with pytest.raises(NothingArrived, match=r"no message to a/\+ within 0.05 s; 0 had come before"):
        inbox.next(0.05)
    iot_broker.publish("a/1", b"x")
    with pytest.raises(AssertionError, match="this came"):
        inbox.expect_nothing(1)
    with pytest.raises(AssertionError, match="not within"):
        iot_broker.wait_connected("nobody", 0.05)


def test_the_rest_api_takes_the_key_of_the_fixture(iot_broker: BrokerUnderTest) -> None:
    request = urllib.request.Request(
        iot_broker.http_url + "/v1/iot/devices", headers={"Authorization": f"Bearer {iot_broker.api_key}"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert json.load(answer)["total"] == 0


@pytest.mark.iot_broker(capabilities={"maximum_payload_bytes": 100}, config={"public_host": "broker.example"})
def test_the_marker_configures_it(iot_broker: BrokerUnderTest) -> None:
    device = iot_broker.register_device()
    with Client(iot_broker.port) as client:
        client.login(device.username, device.password)
        assert client.publish_qos1(device.topic("telemetry"), bytes(101)) == ReasonCode.QUOTA_EXCEEDED


def test_several_brokers_and_a_restart(make_iot_broker: Callable[..., BrokerUnderTest]) -> None:
    one, two = make_iot_broker(), make_iot_broker(open=True)
    device = one.register_device()
    with Client(two.port) as client:
        client.login("anybody", "anything")
    key = one.api_key
    one.restart()
    assert one.api_key == key
    with Client(one.port) as client:
        client.login(device.username, device.password)


def test_it_leaves_no_thread_and_no_descriptor() -> None:
    with BrokerUnderTest():
        pass
    before = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    with BrokerUnderTest(open=True) as broker:
        inbox = broker.subscribe("#")
        client = enter(broker)
    client.close()
    del inbox
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == before


# ---------------------------------------------------------------- faults of the network


@OPEN
def test_a_dropped_delivery_never_arrives_and_the_next_one_does(iot_broker: BrokerUnderTest) -> None:
    with enter(iot_broker) as client, enter(iot_broker, "other") as other:
        for one in (client, other):
            assert one.subscribe("a", options=1) == [1]
        fault = iot_broker.faults.drop("client")
        for payload in (b"1", b"2"):
            iot_broker.publish("a", payload, qos=1)
        assert client.expect(PUBLISH).payload(V5) == b"2"
        assert [other.expect(PUBLISH).payload(V5) for _ in range(2)] == [b"1", b"2"]
        assert fault.hits == 1


@OPEN
def test_a_dropped_acknowledgement_leaves_the_delivery_to_be_sent_again(iot_broker: BrokerUnderTest) -> None:
    expiry = b"\x11\x00\x00\x0e\x10"
    client = Client(iot_broker.port)
    client.send(connect(V5, "client", flags=0, raw_properties=expiry))
    client.expect(CONNACK)
    client.subscribe("a")
    with iot_broker.faults.drop("client", packet="PUBACK", direction="to_broker", count=None) as fault:
        iot_broker.publish("a", b"x", qos=1)
        first = client.expect(PUBLISH)
        client.send(puback(first.packet_id))
        iot_broker.wait_until(lambda: fault.hits)
        iot_broker.faults.disconnect("client")
        client.close()
        iot_broker.wait_disconnected("client")
    with Client(iot_broker.port) as again:
        again.send(connect(V5, "client", flags=0, raw_properties=expiry))
        assert again.expect(CONNACK).body[0] == 1
        second = again.expect(PUBLISH)
        assert (second.flags & DUP, second.packet_id) == (DUP, first.packet_id)


@OPEN
@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
def test_a_duplicated_delivery_comes_twice_the_second_time_with_dup(iot_broker: BrokerUnderTest, version: int) -> None:
    with enter(iot_broker, version=version) as client:
        assert client.subscribe("a") == [1]
        iot_broker.faults.duplicate("client")
        iot_broker.publish("a", b"x", qos=1)
        first, second = client.expect(PUBLISH), client.expect(PUBLISH)
        assert (first.body, first.flags & DUP) == (second.body, 0)
        assert second.flags & DUP
        client.send(puback(first.packet_id) + puback(second.packet_id))
        client.ping()


@OPEN
def test_a_duplicated_publish_reaches_the_broker_twice(iot_broker: BrokerUnderTest) -> None:
    inbox = iot_broker.subscribe("a")
    with enter(iot_broker) as client:
        iot_broker.faults.duplicate("client", direction="to_broker")
        client.send(publish(V5, "a", b"x"))
        assert [one.payload for one in inbox.take(2)] == [b"x", b"x"]


@OPEN
def test_a_delayed_packet_holds_back_what_is_behind_it_until_the_clock_is_moved(iot_broker: BrokerUnderTest) -> None:
    with enter(iot_broker) as client:
        assert client.subscribe("a") == [1]
        fault = iot_broker.faults.delay("client", 3600)
        started = time.monotonic()
        iot_broker.publish("a", b"x")
        client.send(b"\xc0\x00")
        iot_broker.wait_until(lambda: fault.hits)
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.read()
        client.socket.settimeout(10)
        iot_broker.clock.advance(3600)
        assert client.expect(PUBLISH).payload(V5) == b"x"
        client.expect(PINGRESP)
        assert time.monotonic() - started < 10


@OPEN
def test_a_short_delay_ends_by_itself(iot_broker: BrokerUnderTest) -> None:
    with enter(iot_broker) as client:
        iot_broker.faults.delay("client", 0.1, packet="PINGRESP")
        started = time.monotonic()
        client.ping()
        assert time.monotonic() - started >= 0.1


@OPEN
def test_a_client_is_disconnected_now_or_after_so_many_packets(iot_broker: BrokerUnderTest) -> None:
    with enter(iot_broker) as client:
        iot_broker.faults.disconnect("client")
        client.expect_closed()
        iot_broker.wait_disconnected("client")
    with enter(iot_broker) as client:
        fault = iot_broker.faults.disconnect("client", after=2)
        client.ping()
        client.ping()
        client.send(b"\xc0\x00")
        client.expect_closed()
        assert fault.hits == 1
    with pytest.raises(LookupError, match="no client 'nobody' is connected; there is nobody"):
        iot_broker.faults.disconnect("nobody")


@OPEN
def test_a_will_is_published_when_its_client_is_cut(iot_broker: BrokerUnderTest) -> None:
    inbox = iot_broker.subscribe("will")
    with Client(iot_broker.port, V311) as client:
        client.send(connect(V311, "client", "will", "gone", flags=0x06))  # in these places stand topic and message
        assert client.expect(CONNACK).body[1] == 0
        iot_broker.wait_connected("client")
        iot_broker.faults.disconnect("client")
        assert inbox.next().text == "gone"


@OPEN
def test_faults_of_all_clients_end_when_they_are_healed(iot_broker: BrokerUnderTest) -> None:
    with enter(iot_broker) as client:
        iot_broker.faults.drop("*", packet=None, direction="to_broker", count=None)
        client.send(b"\xc0\x00")
        iot_broker.wait_until(lambda: iot_broker.faults.rules[0].hits)
        iot_broker.faults.heal()
        client.ping()


def test_a_packet_type_that_does_not_exist_is_refused_by_name(iot_broker: BrokerUnderTest) -> None:
    with pytest.raises(ValueError, match="'PUBLSH'; there is CONNECT"):
        iot_broker.faults.drop("client", packet="PUBLSH")


@OPEN
def test_what_is_no_mqtt_passes_the_proxy_untouched(iot_broker: BrokerUnderTest) -> None:
    with Client(iot_broker.port) as client:
        client.send(b"\x10\xff\xff\xff\xff\xff")
        client.expect_closed()
    with Client(iot_broker.port) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        client.expect_closed()


# ---------------------------------------------------------------- faults of the disk


def test_a_full_disk_refuses_promises_and_heals(iot_broker: BrokerUnderTest) -> None:
    device = iot_broker.register_device()
    with Client(iot_broker.port) as client:  # a session that is kept: what is published to it needs the disk
        for_a_day = b"\x11\x00\x01\x51\x80"
        login = connect(V5, device.client_id, device.username, device.password, raw_properties=for_a_day)
        client.send(login)
        client.expect(CONNACK)
        assert client.subscribe(device.topic("commands")) == [1]
    assert iot_broker.publish(device.topic("commands"), b"before", qos=1) is ReasonCode.SUCCESS
    with iot_broker.faults.full_disk():
        with pytest.raises(Unavailable):
            iot_broker.register_device()
        with pytest.raises(PublishRefused) as refused:
            iot_broker.publish(device.topic("commands"), b"x", qos=1)
        assert refused.value.reason_code is ReasonCode.QUOTA_EXCEEDED
        with pytest.raises(urllib.error.HTTPError, match="503"):
            register_over_http(iot_broker)
        assert iot_broker.refused_commits() >= 2
        with pytest.raises(urllib.error.HTTPError, match="503") as not_ready:
            urllib.request.urlopen(iot_broker.http_url + "/readyz", timeout=5)
        assert json.load(not_ready.value)["reason"] == "store: failed: No space left on device"
        not_ready.value.close()
    urllib.request.urlopen(iot_broker.http_url + "/readyz", timeout=5).close()
    assert iot_broker.publish(device.topic("commands"), b"after", qos=1) is ReasonCode.SUCCESS
    assert register_over_http(iot_broker) == 201
    iot_broker.register_device()


def register_over_http(broker: BrokerUnderTest) -> int:
    request = urllib.request.Request(
        broker.http_url + "/v1/iot/devices",
        json.dumps({"name": "Sensor 1", "type": "sensor"}).encode(),
        {"Authorization": f"Bearer {broker.api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return int(answer.status)


# ---------------------------------------------------------------- the clock


@OPEN
@pytest.mark.clause("v5:MQTT-3.1.2-22", "v311:MQTT-3.1.2-24")
@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
def test_a_keep_alive_that_has_passed_cuts_its_client_and_no_other(iot_broker: BrokerUnderTest, version: int) -> None:
    with (
        enter(iot_broker, "silent", version, keep_alive_s=60) as silent,
        enter(iot_broker, "patient", version) as other,
    ):
        iot_broker.clock.advance(60)
        silent.ping()
        iot_broker.clock.advance(91)
        silent.expect_closed(0x8D if version == V5 else None)
        other.ping()


@OPEN
def test_a_message_expires_while_the_clock_is_moved(iot_broker: BrokerUnderTest) -> None:
    expiry = b"\x11\x00\x00\x0e\x10"
    with Client(iot_broker.port) as client:
        client.send(connect(V5, "client", flags=0, raw_properties=expiry))
        client.expect(CONNACK)
        client.subscribe("a")
    iot_broker.wait_disconnected("client")
    iot_broker.publish("a", b"short", qos=1, properties={"message_expiry_interval": 60})
    iot_broker.publish("a", b"long", qos=1, properties={"message_expiry_interval": 600})
    iot_broker.clock.advance(61)
    with Client(iot_broker.port) as client:
        client.send(connect(V5, "client", flags=0, raw_properties=expiry))
        assert client.expect(CONNACK).body[0] == 1
        assert client.expect(PUBLISH).payload(V5) == b"long"


@OPEN
def test_a_session_expires_while_the_clock_is_moved(iot_broker: BrokerUnderTest) -> None:
    for advance_s, present in ((0, 0), (3500, 1), (3700, 0)):
        iot_broker.clock.advance(advance_s)
        with Client(iot_broker.port) as client:
            client.send(connect(V5, "client", flags=0, raw_properties=b"\x11\x00\x00\x0e\x10"))
            assert client.expect(CONNACK).body[0] == present
        iot_broker.wait_disconnected("client")


def test_time_does_not_go_back(iot_broker: BrokerUnderTest) -> None:
    with pytest.raises(ValueError, match="back"):
        iot_broker.clock.advance(-1)


def test_the_failures_of_a_login_are_forgotten_with_the_minute_that_passes(iot_broker: BrokerUnderTest) -> None:
    device = iot_broker.register_device()

    def seconds(password: str) -> float:
        started = time.monotonic()
        with Client(iot_broker.port) as client:
            client.send(connect(V5, "x", device.username, password))
            client.expect_refused(0x87)
        return time.monotonic() - started

    for _ in range(5):
        seconds("wrong")
    assert seconds("wrong") > 0.3
    iot_broker.clock.advance(61)
    assert seconds("wrong") < 0.3


# ---------------------------------------------------------------- as other projects use it


SUITE = """
import pytest

def test_plain(iot_broker):
    inbox = iot_broker.subscribe("a")
    iot_broker.publish("a", "x", qos=1)
    assert inbox.next().text == "x"

@pytest.mark.iot_broker(open=True)
def test_marked(iot_broker):
    assert iot_broker.mqtt_url.startswith("mqtt://127.0.0.1:")

def test_several(make_iot_broker):
    assert make_iot_broker().port != make_iot_broker().port

def test_that_fails(iot_broker):
    iot_broker.subscribe("a").next(0.05)
"""


def test_an_installed_broker_brings_its_fixtures_along(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("--strict-markers", "-W", "error")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*NothingArrived: no message to a within 0.05 s; 0 had come before*"])


def test_the_fixtures_and_the_marker_are_listed(pytester: pytest.Pytester) -> None:
    pytester.runpytest_subprocess("--fixtures").stdout.fnmatch_lines(
        ["iot_broker -- *", "*A running broker on a free port*"]
    )
    pytester.runpytest_subprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.iot_broker(open=False*"])


def test_a_broker_that_cannot_start_fails_the_test_with_its_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.iot_broker(capabilities={"no_such_limit": 1})
        def test_it(iot_broker):
            pass
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no_such_limit*"])


def test_nothing_that_runs_in_production_imports_pytest_or_the_test_broker() -> None:
    program = (
        "import sys, broker.cli, broker.runtime, api\n"
        "assert not {'pytest', '_pytest', 'broker.testing'} & set(sys.modules)\n"
        "import broker.testing\n"
        "assert all(getattr(broker.testing, name) for name in broker.testing.__all__)\n"
        "assert 'pytest' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=60)


def test_a_test_run_that_uses_no_broker_loads_none(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "broker.testing.plugin" in sys.modules
            assert not {"broker.runtime", "broker._core.shard", "lmdb", "pydantic"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_names_for_embedders_are_found_when_they_are_asked_for() -> None:
    program = (
        "import sys, broker\n"
        "assert 'broker.runtime' not in sys.modules\n"
        "assert all(getattr(broker, name) for name in broker.__all__)\n"
        "assert set(broker.__all__) <= set(dir(broker))\n"
        "try:\n    broker.Brokr\nexcept AttributeError as error:\n    assert 'Brokr' in str(error)\n"
        "else:\n    raise SystemExit('found')\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=60)
