"""A broker with something of everything on disk: what tests of backups and damage begin with.

Here belongs the traffic that fills every table. Not here: what is asked of it afterwards.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.integration.served import Login, Served
from tests.support.paho import leave, stop

MESSAGES = 30
WAIT_S = 10.0


@dataclass
class Sensor:
    """A device's client with a session of its own; ``got`` are the payloads it was given."""

    client: mqtt.Client
    device: Login
    got: list[bytes] = field(default_factory=list)


def await_that(condition: object, what: str) -> None:
    """Wait until a callable says yes."""
    until = time.monotonic() + WAIT_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, what
        time.sleep(0.01)


def connected_backend(broker: Served, client_id: str = "backend") -> mqtt.Client:
    """Connect an application."""
    backend = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
    backend.username_pw_set("apikey", broker.api_key)
    backend.connect("127.0.0.1", broker.port())
    backend.loop_start()
    await_that(backend.is_connected, "the backend was not accepted")
    return backend


def come_in(broker: Served, device: Login, *, will: bool = False, keep_s: int = 3600) -> Sensor:
    """Connect a device with a session that is kept, and subscribe to its commands with QoS 2."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device.device_id, protocol=mqtt.MQTTv5)
    sensor = Sensor(client, device)
    client.username_pw_set(device.username, device.password)
    client.on_message = lambda _client, _user, message: sensor.got.append(bytes(message.payload))
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = keep_s
    if will:
        delayed = Properties(PacketTypes.WILLMESSAGE)
        delayed.WillDelayInterval = keep_s
        client.will_set(device.topic("telemetry"), b"gone", qos=1, properties=delayed)
    client.connect("127.0.0.1", broker.port(), clean_start=False, properties=properties)
    client.loop_start()
    await_that(client.is_connected, "no CONNACK")
    done: list[bool] = []
    client.on_subscribe = lambda *_: done.append(True)
    client.subscribe(device.topic("commands"), qos=2)
    await_that(lambda: done, "no SUBACK")
    return sensor


def cut(sensor: Sensor) -> None:
    """End the connection as a power cut does; the session stays."""
    stop(sensor.client)
    sock = sensor.client.socket()
    if sock is not None:
        sock.close()


def fill(broker: Served, devices: int = 3) -> list[Login]:
    """Leave kept sessions with queues, wills, retained messages; gives the devices. For all but the first 30 wait."""
    logins = [broker.register(f"Device {number}", metadata={"n": number}) for number in range(devices)]
    for login in logins:
        cut(come_in(broker, login, will=True))
    backend = connected_backend(broker)
    sent = []
    for number in range(MESSAGES):
        for login in logins:
            sent.append(backend.publish(login.topic("commands"), b"%d" % number, qos=1 + number % 2))
    for number, login in enumerate(logins):
        sent.append(backend.publish(login.topic("state"), b"r" * (10 + 5000 * number), qos=1, retain=True))
    for one in sent:
        one.wait_for_publish(WAIT_S)
        assert one.is_published()
    leave(backend)
    returned = come_in(broker, logins[0])  # what it acknowledges leaves marks of its own
    await_that(lambda: len(returned.got) == MESSAGES, "what waited did not come")
    cut(returned)
    return logins


def take_all(broker: Served, device: Login) -> list[int]:
    """Come back and take what waits; gives the numbers, sorted."""
    sensor = come_in(broker, device)
    await_that(lambda: len(sensor.got) >= MESSAGES, f"what waited did not come: {len(sensor.got)}")
    cut(sensor)
    return sorted(int(payload) for payload in sensor.got)
