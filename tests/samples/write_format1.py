"""Write a data directory of format 1, and die: sessions in every state that a crash can find them in.

    python -P tests/samples/write_format1.py FOLDER

Not here: anything of later versions. ``make`` runs this. What was written is in ``expected.json`` beside it.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

from broker.testing import BrokerUnderTest
from broker.testing.harness import Device
from tests.integration.wire import (
    CONNACK,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    V5,
    Client,
    binary,
    packet,
    properties,
    puback,
    publish,
)

FOR_EVER = b"\x11" + struct.pack("!I", 0xFFFFFFFF)  # Session Expiry Interval
RELAXED_S = 1.5
CONNECTED: list[Client] = []  # until the crash
DEVICES = {
    "pump-7": "messages wait for it",
    "gauge-1": "acknowledgements of what it was sent are missing",
    "gate-2": "the end of a QoS 2 message that it has sent is missing",
    "lamp-3": "its will is due",
}


def enter(broker: BrokerUnderTest, device: Device, will: tuple[str, bytes] | None = None) -> Client:
    """Connect to a session that is kept for ever."""
    client = Client(broker.direct_port)
    flags = 0xC0 | (0x04 | 0x08 if will else 0)
    body = binary("MQTT") + bytes([V5, flags, 0, 0]) + properties(V5, FOR_EVER) + binary(device.client_id)
    if will:
        body += properties(V5) + binary(will[0]) + binary(will[1])
    client.send(packet(0x10, body + binary(device.username) + binary(device.password)))
    answer = client.expect(CONNACK)
    assert answer.body[1] == 0, answer
    return client


def send_qos2(client: Client, topic_name: str, payload: bytes, packet_id: int) -> None:
    """Publish to the end."""
    client.send(publish(V5, topic_name, payload, packet_id, first_byte=0x34))
    client.expect(PUBREC)
    client.send(packet(0x62, struct.pack("!H", packet_id)))
    client.expect(PUBCOMP)


def fill(broker: BrokerUnderTest) -> dict[str, Any]:
    devices = {name: broker.register_device(name=text, device_id=name) for name, text in DEVICES.items()}
    application = Client(broker.direct_port).login("apikey", broker.api_key, "back end")
    retained = ("site/7/settings", b"retained")
    application.send(publish(V5, retained[0], retained[1], 1, first_byte=0x33))
    application.expect(PUBACK)

    with enter(broker, devices["pump-7"]) as pump:
        assert pump.subscribe("devices/pump-7/commands", options=2) == [2]
    broker.wait_until(lambda: not broker.client_ids)
    topic = devices["pump-7"].topic("commands")
    assert application.publish_qos1(topic, b"one", 2) == 0
    application.close()
    broker.restart()  # an orderly stop has written what is written lazily
    application = Client(broker.direct_port).login("apikey", broker.api_key, "back end")
    assert application.publish_qos1(topic, b"two", 3) == 0
    send_qos2(application, topic, b"three", 4)

    gauge = enter(broker, devices["gauge-1"])
    CONNECTED.append(gauge)
    topic = devices["gauge-1"].topic("commands")
    assert gauge.subscribe(topic, options=2) == [2]
    assert application.publish_qos1(topic, b"sent", 5) == 0
    sent = gauge.expect(PUBLISH).packet_id
    application.send(publish(V5, topic, b"received", 6, first_byte=0x34))
    received = gauge.expect(PUBLISH).packet_id
    gauge.send(packet(0x50, struct.pack("!H", received)))
    gauge.expect(PUBREL)
    assert application.expect(PUBREC).packet_id == 6
    application.send(packet(0x62, struct.pack("!H", 6)))
    application.expect(PUBCOMP)
    application.send(publish(V5, topic, b"done", 7))
    gauge.send(puback(gauge.expect(PUBLISH).packet_id))
    application.expect(PUBACK)

    gate = enter(broker, devices["gate-2"])
    CONNECTED.append(gate)
    gate.send(publish(V5, devices["gate-2"].topic("telemetry"), b"once", 9, first_byte=0x34))
    gate.expect(PUBREC)
    will = (devices["lamp-3"].topic("telemetry"), b"gone")
    CONNECTED.append(enter(broker, devices["lamp-3"], will))
    time.sleep(RELAXED_S)
    return {
        "format": 1,
        "accounts": {"default": "unlimited"},
        "keys": {"default": broker.api_key},
        "devices": [
            {
                "account": "default",
                "device_id": device.device_id,
                "name": DEVICES[name],
                "username": device.username,
                "password": device.password,
            }
            for name, device in devices.items()
        ],
        "sessions": {
            "queued": {"pump-7": ["one", "two", "three"]},
            "sent": {"gauge-1": [sent, received]},
            "open": {"gate-2": 9},
            "wills": {"lamp-3": [will[0], will[1].decode()]},
        },
        "retained": {retained[0]: retained[1].decode()},
    }


if __name__ == "__main__":
    where = Path(sys.argv[1])
    told = fill(BrokerUnderTest(where).start())
    (where / "expected.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os._exit(0)  # as a crash: nothing is flushed, nobody is told
