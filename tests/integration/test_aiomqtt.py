"""aiomqtt against the broker: asyncio programs of both versions."""

from __future__ import annotations

import asyncio

import aiomqtt
import pytest

from tests.integration.served import Login, Served

VERSIONS = pytest.mark.parametrize("version", list(aiomqtt.ProtocolVersion)[1:], ids=["3.1.1", "5.0"])


def client_of(served: Served, version: aiomqtt.ProtocolVersion, login: Login | None = None) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1",
        served.port(),
        username=login.username if login else "apikey",
        password=login.password if login else served.api_key,
        identifier=login.device_id if login else "aiomqtt",
        protocol=version,
    )


@VERSIONS
def test_telemetry_goes_up_and_a_command_comes_down(
    served: Served, device: Login, version: aiomqtt.ProtocolVersion
) -> None:
    async def sensor() -> bytes:
        async with client_of(served, version, device) as own:
            await own.subscribe(device.topic("commands"), qos=1)
            for number in range(100):
                await own.publish(device.topic("telemetry"), b"%d" % number, qos=1)
            command = await anext(aiter(own.messages))
            assert isinstance(command.payload, bytes)
            return command.payload

    async def whole() -> None:
        async with client_of(served, version) as application:
            await application.subscribe("devices/+/telemetry", qos=1)
            task = asyncio.create_task(sensor())
            messages = aiter(application.messages)
            arrived = [(await anext(messages)).payload for _ in range(100)]
            assert arrived == [b"%d" % number for number in range(100)]
            await application.publish(device.topic("commands"), b"well done", qos=1)
            assert await task == b"well done"

    asyncio.run(asyncio.wait_for(whole(), 40))


@VERSIONS
def test_a_wrong_password_is_an_error_that_says_so(
    served: Served, device: Login, version: aiomqtt.ProtocolVersion
) -> None:
    async def whole() -> None:
        wrong = Login(device.device_id, device.username, "wrong")
        with pytest.raises(aiomqtt.MqttCodeError, match=r"(?i)not authori[sz]ed"):
            async with client_of(served, version, wrong):
                pass

    asyncio.run(asyncio.wait_for(whole(), 40))
