"""Attacks with wills: forbidden, huge, of a crowd that is lost at once, of a device that is deleted."""

from __future__ import annotations

import struct
from contextlib import ExitStack

import pytest

from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Login, Served
from tests.integration.test_attacks_sessions import MIB, VERSIONS, Serve, connect_bytes, enter, qos_of
from tests.integration.wire import CONNACK, PUBLISH, V5, V311, Client


@VERSIONS
@pytest.mark.parametrize("place", ["$SYS/x", "$share/g/t", "devices/another/status", "a/+/b", "#", ""])
def test_a_will_for_a_forbidden_place_is_not_let_in(served: Served, device: Login, version: int, place: str) -> None:
    with Client(served.port(), version) as client:
        client.send(connect_bytes(version, device, will=(place, b"x")))
        answer = client.read()
        if answer is not None:  # 3.1.1 has no code for what is malformed
            assert answer.kind == CONNACK
            assert answer.body[1] in ((5,) if version == V311 else (0x81, 0x82, 0x87, 0x90))
            client.expect_closed()
    client, present = enter(served, version, device)
    assert not present, "and nothing of it is kept"
    client.close()


@VERSIONS
def test_a_huge_will_is_refused_on_the_header_of_its_connect(served: Served, device: Login, version: int) -> None:
    with Client(served.port(), version) as client:
        client.send(connect_bytes(version, device, will=(device.topic("status"), bytes(60_000)))[:100])
        client.expect_closed()


def test_the_wills_of_a_crowd_that_is_lost_at_once_all_arrive_and_hold_nobody(serve: Serve) -> None:
    broker = serve()
    devices = [broker.register() for _ in range(200)]
    with Neighbour(broker), ExitStack() as stack:
        watchers = []
        for number in range(3):
            watcher = stack.enter_context(Client(broker.port(), V5)).login("apikey", broker.api_key, f"w{number}")
            assert watcher.subscribe("devices/+/status") == [1]
            watchers.append(watcher)
        before = broker.rss_bytes()
        lost = []
        for number, device in enumerate(devices):
            version = V5 if number % 2 else V311
            will = (device.topic("status"), device.device_id.encode() + bytes(1000))
            lost.append(enter(broker, version, device, will=will, will_flags=number % 3 << 3)[0])
        for client in lost:
            client.close()
        for watcher in watchers:
            told = set()
            for _ in devices:
                one = watcher.expect(PUBLISH)
                told.add(one.payload(V5)[:-1000].decode())
                if qos_of(one):
                    watcher.send(wire.puback(one.packet_id))
            assert told == {device.device_id for device in devices}
        assert broker.rss_bytes() - before < 16 * MIB


@pytest.mark.parametrize("delay_s", [0, 3600])
@pytest.mark.parametrize("connected", [True, False])
def test_nothing_is_heard_of_a_device_after_its_deletion(served: Served, delay_s: int, connected: bool) -> None:
    device = served.register()
    with Client(served.port(), V5) as watcher:
        watcher.login("apikey", served.api_key, "watch-" + device.device_id)
        assert watcher.subscribe(device.topic("status")) == [1]
        delay = struct.pack("!BI", 0x18, delay_s)
        client, _ = enter(served, V5, device, will=(device.topic("status"), b"gone"), will_properties=delay)
        if not connected and delay_s == 0:
            client.send(b"\xe0\x00")  # a farewell: the will is deleted, the session is kept
        if not connected:
            client.close()
        assert served.call("DELETE", f"/devices/{device.device_id}").status_code in (200, 204)
        if connected:
            while client.read() is not None:
                pass
            client.close()
        assert watcher.publish_within(device.topic("status"), b"still here") == [b"still here"]
        with Client(served.port(), V5) as late:
            late.send(connect_bytes(V5, device))
            late.expect_refused(0x87)
        watcher.ping()
