"""`$SYS` of a live broker: an application is told its own account's figures, nobody else's; and warnings."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from broker.testing import BrokerUnderTest
from tests.integration import wire
from tests.integration.wire import V5, Client

V311 = 4
ROOT = "$SYS/account/"


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerUnderTest]:
    with BrokerUnderTest(config={"system_interval_s": 1}) as running:
        yield running


def figures(client: Client, until: str) -> dict[str, str]:
    """What comes until a figure of this name."""
    found: dict[str, str] = {}
    while until not in found:
        one = client.expect(wire.PUBLISH)
        assert one.topic_name.startswith(ROOT)
        found[one.topic_name.removeprefix(ROOT)] = one.payload(client.version).decode()
    return found


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5.0"])
def test_who_subscribes_is_told_at_once_and_then_again(broker: BrokerUnderTest, version: int) -> None:
    broker.register_device()
    client = Client(broker.direct_port, version).login("apikey", broker.api_key, f"reader {version}")
    assert client.subscribe("$SYS/#") == [1]
    told = figures(client, "dropped/total")
    assert int(told["devices/total"]) >= 1
    assert int(told["connections/current"]) >= 1
    assert {"messages/this_month", "quota/messages_percent", "retained/count", "sessions/persistent"} <= set(told)
    assert figures(client, "dropped/total")["devices/total"] == told["devices/total"]
    before = broker.call(broker.broker.admin.figures.quota(1)).messages
    figures(client, "dropped/total")
    assert broker.call(broker.broker.admin.figures.quota(1)).messages == before  # nobody is billed for them
    client.close()


def test_each_account_is_told_its_own_and_devices_nothing(broker: BrokerUnderTest) -> None:
    admin = broker.broker.admin
    other = broker.call(admin.accounts.create("other"))
    _, key = broker.call(admin.keys.create(other.account_id, "reader"))
    client = Client(broker.direct_port, V5).login("apikey", key, "reader")
    assert client.subscribe("$SYS/account/devices/+", "$share/g/$SYS/account/connections/current") == [1, 1]
    told = figures(client, "connections/current")
    assert (told["devices/total"], told["connections/current"]) == ("0", "1")
    client.close()
    device = broker.register_device()
    client = Client(broker.direct_port, V5).login(device.username, device.password, "device")
    assert client.subscribe("$SYS/#") == [0x87]
    client.close()


def test_a_warning_comes_to_who_reads_and_waits_for_who_is_away(broker: BrokerUnderTest) -> None:
    client = Client(broker.direct_port, V5).login("apikey", broker.api_key, "warned")
    assert client.subscribe("$SYS/account/warnings/#", options=1) == [1]
    device = broker.register_device(device_id="loud")
    number = broker.broker._platform.directory.devices.get(1, "loud").device_number  # type: ignore[union-attr]

    async def use() -> None:
        usage = broker.broker._platform.directory.usage  # type: ignore[union-attr]
        usage.add([(1, number, 8_000_000, 0, 0, 0)], broker.broker._clock.wall_s())
        await usage.write()

    broker.call(use())
    said = json.loads(figures(client, "warnings/messages")["warnings/messages"])
    assert (said["kind"], said["percent"], said["maximum"]) == ("messages", 80, 10_000_000)
    assert said["used"] >= 8_000_000
    page = broker.call(broker.broker.admin.timelines.read(1, device.device_id, 10))
    assert "warned_messages_80" in [one.code for one in page.entries]
    late = Client(broker.direct_port, V5).login("apikey", broker.api_key, "late")
    assert late.subscribe("$SYS/account/warnings/#") == [1]
    assert json.loads(figures(late, "warnings/messages")["warnings/messages"])["percent"] == 80
    late.close()
    client.close()
