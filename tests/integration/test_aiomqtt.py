"""aiomqtt against the broker: asyncio programs of both versions."""

from __future__ import annotations

import asyncio

import aiomqtt
import pytest

from broker.testing import BrokerUnderTest, Device

VERSIONS = pytest.mark.parametrize("version", list(aiomqtt.ProtocolVersion)[1:], ids=["3.1.1", "5.0"])


def client_of(
    broker: BrokerUnderTest, version: aiomqtt.ProtocolVersion, device: Device, password: str | None = None
) -> aiomqtt.Client:
    return aiomqtt.Client(
        broker.host,
        broker.port,
        username=device.username,
        password=password or device.password,
        identifier=device.client_id,
        protocol=version,
    )


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_telemetry_goes_up_and_a_command_comes_down(
    iot_broker: BrokerUnderTest, version: aiomqtt.ProtocolVersion, qos: int
) -> None:
    device = iot_broker.register_device()
    telemetry = iot_broker.subscribe("devices/+/telemetry")

    async def sensor() -> bytes:
        async with client_of(iot_broker, version, device) as own:
            await own.subscribe(device.topic("commands"), qos=qos)
            for number in range(100):
                await own.publish(device.topic("telemetry"), b"%d" % number, qos=qos)
            command = await anext(aiter(own.messages))
            assert (command.qos, isinstance(command.payload, bytes)) == (qos, True)
            return bytes(command.payload)  # type: ignore[arg-type]

    async def whole() -> None:
        task = asyncio.create_task(sensor())
        arrived = [await telemetry.anext() for _ in range(100)]
        assert [(one.payload, one.qos) for one in arrived] == [(b"%d" % number, qos) for number in range(100)]
        iot_broker.publish(device.topic("commands"), b"well done", qos=qos)
        assert await task == b"well done"

    asyncio.run(asyncio.wait_for(whole(), 40))


@VERSIONS
def test_a_wrong_password_is_an_error_that_says_so(
    iot_broker: BrokerUnderTest, version: aiomqtt.ProtocolVersion
) -> None:
    async def whole() -> None:
        with pytest.raises(aiomqtt.MqttCodeError, match=r"(?i)not authori[sz]ed"):
            async with client_of(iot_broker, version, iot_broker.register_device(), "wrong"):
                pass

    asyncio.run(asyncio.wait_for(whole(), 40))


@VERSIONS
def test_the_loss_of_the_network_is_an_error_and_a_new_connection_goes_on(
    iot_broker: BrokerUnderTest, version: aiomqtt.ProtocolVersion
) -> None:
    device = iot_broker.register_device()
    telemetry = iot_broker.subscribe("devices/+/telemetry")

    async def is_cut() -> None:
        async with client_of(iot_broker, version, device) as own:
            iot_broker.wait_connected(device.client_id)
            iot_broker.faults.disconnect(device.client_id)
            await anext(aiter(own.messages))

    async def whole() -> None:
        with pytest.raises(aiomqtt.MqttError):
            await is_cut()
        async with client_of(iot_broker, version, device) as own:
            await own.publish(device.topic("telemetry"), b"back", qos=1)
            assert (await telemetry.anext()).payload == b"back"

    asyncio.run(asyncio.wait_for(whole(), 40))
