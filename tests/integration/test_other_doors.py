"""Other people's clients over TLS and WebSockets: mosquitto's, aiomqtt and paho."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Callable

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.integration.printed import LOOPBACK, authority, watching
from tests.integration.served import Login, Served
from tests.support.paho import leave

PATIENCE_S = 25.0
VERSIONS = pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])


def trusting(served: Served) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority(served)))


@pytest.mark.needs("mosquitto_pub", "mosquitto_sub")
@VERSIONS
def test_mosquitto_sends_telemetry_and_receives_a_command_over_tls(
    served: Served, device: Login, program: Callable[[str], str], version: MQTTProtocolVersion
) -> None:
    where = ["-h", LOOPBACK, "-p", str(served.port("mqtts")), "--cafile", str(authority(served))]
    login = ["-V", "5" if version == 5 else "311", "-u", device.username, "-P", device.password, "-i", device.device_id]
    with watching(served, device) as watcher:
        publish = [program("mosquitto_pub"), *where, *login, "-q", "2", "-t", device.topic("telemetry"), "-m", "21.5"]
        subprocess.run(publish, check=True, timeout=PATIENCE_S, capture_output=True)
        assert watcher.next_telemetry() == b"21.5"
        listen = [program("mosquitto_sub"), *where, *login, "-q", "1", "-t", device.topic("commands"), "-C", "1"]
        with subprocess.Popen([*listen, "-W", "20"], stdout=subprocess.PIPE) as process:
            watcher.command("on")
            assert process.communicate(timeout=PATIENCE_S)[0] == b'"on"\n'


@pytest.mark.needs("mosquitto_pub")
def test_mosquitto_without_the_brokers_authority_is_not_connected(
    served: Served, device: Login, program: Callable[[str], str]
) -> None:
    where = ["-h", LOOPBACK, "-p", str(served.port("mqtts")), "--capath", "/etc/ssl/certs"]
    command = [program("mosquitto_pub"), *where, "-u", device.username, "-P", device.password, "-t", "a", "-m", "b"]
    done = subprocess.run(command, check=False, timeout=PATIENCE_S, capture_output=True, text=True)
    assert done.returncode != 0
    assert "TLS error" in done.stderr


@VERSIONS
@pytest.mark.parametrize("name", ["mqtts", "ws", "wss"])
def test_aiomqtt_sends_telemetry_of_every_qos_and_receives_a_command(
    served: Served, device: Login, name: str, version: MQTTProtocolVersion
) -> None:
    async def converse() -> None:
        is_websocket = name != "mqtts"
        client = aiomqtt.Client(
            LOOPBACK,
            served.port(name),
            username=device.username,
            password=device.password,
            identifier=device.device_id,
            protocol=aiomqtt.ProtocolVersion(version),
            transport="websockets" if is_websocket else "tcp",
            websocket_path="/mqtt" if is_websocket else None,
            tls_context=None if name == "ws" else trusting(served),
        )
        async with client:
            await client.subscribe(device.topic("commands"), qos=2)
            for qos in (0, 1, 2):
                await client.publish(device.topic("telemetry"), b"x" * 100_000 + b"%d" % qos, qos=qos)
                assert await asyncio.to_thread(watcher.next_telemetry) == b"x" * 100_000 + b"%d" % qos
            await asyncio.to_thread(watcher.command, "on")
            assert (await anext(aiter(client.messages))).payload == b'"on"'

    with watching(served, device) as watcher:
        asyncio.run(asyncio.wait_for(converse(), PATIENCE_S))


@VERSIONS
@pytest.mark.parametrize("name", ["mqtts", "ws", "wss"])
def test_paho_sends_telemetry_and_receives_a_command(
    served: Served, device: Login, name: str, version: MQTTProtocolVersion
) -> None:
    transport = "tcp" if name == "mqtts" else "websockets"
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=device.device_id, protocol=version, transport=transport)
    received: list[bytes] = []
    came = threading.Event()
    client.on_message = lambda _client, _data, message: (received.append(message.payload), came.set())[1]
    client.on_connect = lambda *_: client.subscribe(device.topic("commands"), 1)
    client.username_pw_set(device.username, device.password)
    if name != "ws":
        client.tls_set_context(trusting(served))
    with watching(served, device) as watcher:
        client.connect(LOOPBACK, served.port(name))
        client.loop_start()
        try:
            client.publish(device.topic("telemetry"), b"21.5", qos=1).wait_for_publish(PATIENCE_S)
            assert watcher.next_telemetry() == b"21.5"
            watcher.command("on")
            assert came.wait(PATIENCE_S)
            assert received == [b'"on"']
        finally:
            leave(client)
