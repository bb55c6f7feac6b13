"""Rules of the face to the outside: when a device was seen, what clients are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broker.admin import DeviceDescription, DeviceFilter, DeviceMessage
from broker.config import BrokerConfig
from broker.doors import Endpoint
from broker.errors import Unavailable
from broker.ports import Presence
from tests.upper import NOW_S, Upper

SENSOR = DeviceDescription("Sensor", "sensor")


def run(body: Callable[[Upper], Awaitable[None]], config: BrokerConfig | None = None) -> None:
    async def whole() -> None:
        upper = Upper(config=config)
        await upper.bootstrap()
        await body(upper)

    asyncio.run(whole())


def number_of(upper: Upper, device_id: str) -> int:
    return upper.directory.devices.get(1, device_id).device_number


def test_when_a_device_was_seen_survives_a_restart_and_is_written_once() -> None:
    async def body(upper: Upper) -> None:
        view, _ = await upper.admin.create_device(1, SENSOR)
        await upper.admin.create_device(1, SENSOR)  # never seen
        upper.core.present[number_of(upper, view.device_id)] = Presence(0, upper.clock.monotonic_ns())
        upper.clock.pass_s(100)
        await upper.admin.persist_seen()
        upper.store.fail(OSError("no second write is needed"))
        upper.clock.pass_s(100)
        await upper.admin.persist_seen()
        restarted = upper.restart()
        shown = await restarted.admin.get_device(1, view.device_id)
        assert (shown.last_seen, shown.online) == (NOW_S, False)
        others = await restarted.admin.list_devices(1, 10, 0, DeviceFilter())
        assert [device.last_seen for device in others.devices] == [None, NOW_S]

    run(body)


def test_a_moment_on_record_does_not_flicker_with_the_difference_of_two_clocks() -> None:
    async def body(upper: Upper) -> None:
        view, _ = await upper.admin.create_device(1, SENSOR)
        upper.core.present[number_of(upper, view.device_id)] = Presence(1, upper.clock.monotonic_ns())
        await upper.admin.persist_seen()
        upper.clock.monotonic += 900_000_000
        assert (await upper.admin.get_device(1, view.device_id)).last_seen == NOW_S

    run(body)


def test_use_of_a_key_is_written_with_the_next_round() -> None:
    async def body(upper: Upper) -> None:
        _, api_key = await upper.admin.operator.create_key("default", "app")
        upper.admin.access.account_key(api_key)
        await upper.admin.persist_seen()
        (_, key) = await upper.restart().admin.operator.list_keys()
        assert key.last_used_at == NOW_S

    run(body)


@pytest.mark.parametrize(
    ("endpoints", "public", "ports", "best"),
    [
        ([("mqtt", 41883)], {}, {"mqtt": 41883}, ("mqtt", 41883)),
        ([("mqtt", 1883), ("mqtt", 1884)], {}, {"mqtt": 1883}, ("mqtt", 1883)),
        ([("mqtt", 1883)], {"mqtts": 8883}, {"mqtt": 1883, "mqtts": 8883}, ("mqtts", 8883)),
        ([("mqtt", 1883)], {"mqtt": 31883}, {"mqtt": 31883}, ("mqtt", 31883)),
        ([("http", 8080)], {"ws": 80, "wss": 443}, {"ws": 80, "wss": 443}, ("wss", 443)),
    ],
)
def test_clients_are_told_the_public_ports_before_the_listening_ones(
    endpoints: list[tuple[str, int]], public: dict[str, int], ports: dict[str, int], best: tuple[str, int]
) -> None:
    async def body(upper: Upper) -> None:
        upper.endpoints = [Endpoint(f"l{port}", protocol, "0.0.0.0", port) for protocol, port in endpoints]
        info = await upper.admin.credentials_info(1)
        assert (info.connection.broker, info.connection.ports) == ("mqtt.example.org", ports)
        assert info.connection.protocols == list(ports)
        _, credentials = await upper.admin.create_device(1, SENSOR)
        assert (credentials.protocol, credentials.port, credentials.broker) == (*best, "mqtt.example.org")

    config = BrokerConfig.model_validate({"public_host": "mqtt.example.org", "public_ports": public})
    run(body, config)


def test_before_the_start_and_while_it_stops_changes_are_refused_and_reads_are_not() -> None:
    async def body(upper: Upper) -> None:
        view, _ = await upper.admin.create_device(1, SENSOR)
        upper.admin.stop_serving()
        assert upper.admin.not_ready_because == "it is starting or stopping"
        for change in (
            upper.admin.create_device(1, SENSOR),
            upper.admin.delete_device(1, view.device_id),
            upper.admin.commands.send(1, view.device_id, DeviceMessage("commands", b"")),
        ):
            with pytest.raises(Unavailable):
                await change
        assert (await upper.admin.get_device(1, view.device_id)).device_id == view.device_id

    run(body)


def test_clients_are_told_all_doors_that_they_can_come_through_and_the_best_one_first() -> None:
    async def body(upper: Upper) -> None:
        doors = [("mqtt", 1883), ("mqtts", 8883), ("ws", 8083), ("wss", 8084), ("https", 8443)]
        upper.endpoints = [Endpoint("local", "mqtt", "", 0, "/run/broker.sock")]
        upper.endpoints += [Endpoint(name, name, "0.0.0.0", port) for name, port in doors]
        upper.endpoints.append(Endpoint("second", "mqtts", "0.0.0.0", 9883))
        info = await upper.admin.credentials_info(1)
        assert info.connection.ports == {"mqtt": 1883, "mqtts": 8883, "ws": 18083, "wss": 8084}
        _, login = await upper.admin.create_device(1, SENSOR)
        assert (login.broker, login.protocol, login.port) == ("mqtt.example.org", "mqtts", 8883)

    run(body, BrokerConfig.model_validate({"public_host": "mqtt.example.org", "public_ports": {"ws": 18083}}))
