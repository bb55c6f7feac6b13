"""Whose rights end while they are connected: cut within a second of the broker's time, and nothing passes after it.

Here belongs each change of a principal, its key or its account. Not here: who may come in at all (``test_isolation``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from broker.accounts.accounts import AccountChange
from broker.accounts.device_description import DeviceChange
from broker.testing import BrokerUnderTest
from tests.integration import wire
from tests.integration.isolation_table import ADMINISTRATIVE_ACTION, CONNACK_3_NOT_AUTHORIZED, MQTT_5_NOT_AUTHORIZED
from tests.integration.isolation_world import Principal, World, connect_with_will
from tests.integration.wire import V5, V311, Client

VERSIONS = pytest.mark.parametrize("version", [V311, V5])
LATER_S = 30
PROMISED_S = 1.0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with BrokerUnderTest() as broker:
        yield World(broker)


@dataclass
class Subject:
    """Somebody who is to lose its rights: where it publishes and subscribes, and what ends it."""

    who: Principal
    says: str
    hears: str
    end: Callable[[], object]
    leaves_a_will: bool = True


def of_device(world: World, account: str = "alpha") -> tuple[Principal, str, int]:
    device = world.device(account)
    return device.as_principal("subject", account=account), device.device_id, world.numbers[account]


def of_key(world: World, *, account: str = "alpha", expires_in_s: int = 0) -> tuple[Principal, int, str]:
    name = world.fresh("subject")
    key_id, text = world.key(account, name=name, expires_in_s=expires_in_s)
    return Principal("subject", "full", "apikey", text, (), account), key_id, name


def device_subject(who: Principal, device_id: str, end: Callable[[], object], *, will: bool = True) -> Subject:
    return Subject(who, f"devices/{device_id}/telemetry", f"devices/{device_id}/commands", end, will)


def deactivated(world: World) -> Subject:
    who, device_id, number = of_device(world)
    admin = world.broker.broker.admin
    change = DeviceChange(active=False)
    return device_subject(who, device_id, lambda: world.broker.call(admin.change_device(number, device_id, change)))


def deleted(world: World) -> Subject:
    who, device_id, number = of_device(world)
    admin = world.broker.broker.admin
    return device_subject(who, device_id, lambda: world.broker.call(admin.delete_device(number, device_id)))


def rotated(world: World, overlap_s: int = 0) -> Subject:
    who, device_id, number = of_device(world)
    admin = world.broker.broker.admin

    def end() -> None:
        world.broker.call(admin.rotate_password(number, device_id, overlap_s))

    return device_subject(who, device_id, end, will=False)  # the device itself may still speak


def device_of_a_suspended_account(world: World) -> Subject:
    account = world.account(world.fresh("suspended"))
    who, device_id, _ = of_device(world, account)
    return device_subject(who, device_id, lambda: suspend(world, account))


def key_of_a_suspended_account(world: World) -> Subject:
    account = world.account(world.fresh("suspended"))
    return Subject(of_key(world, account=account)[0], "jobs/said", "jobs/heard", lambda: suspend(world, account))


def suspend(world: World, account: str) -> None:
    accounts = world.broker.broker.admin.accounts
    world.broker.call(accounts.change(world.numbers[account], AccountChange(suspended=True)))


def revoked(world: World) -> Subject:
    who, key_id, _ = of_key(world)
    keys = world.broker.broker.admin.keys
    return Subject(who, "jobs/said", "jobs/heard", lambda: world.broker.call(keys.revoke(key_id)))


def narrowed(world: World) -> Subject:
    """A key is narrowed by another one of its name, once it is revoked itself."""
    who, key_id, name = of_key(world)
    keys = world.broker.broker.admin.keys

    def end() -> None:
        world.broker.call(keys.revoke(key_id))
        world.key("alpha", ("publish", "subscribe"), ("jobs/other",), name=name)

    return Subject(who, "jobs/said", "jobs/heard", end)


def expired(world: World) -> Subject:
    who, _, _ = of_key(world, expires_in_s=LATER_S)
    return Subject(who, "jobs/said", "jobs/heard", lambda: world.broker.clock.advance(LATER_S + PROMISED_S))


def after_an_overlap(world: World) -> Subject:
    subject = rotated(world, LATER_S)
    begin = subject.end

    def end() -> None:
        begin()
        world.broker.clock.advance(LATER_S + PROMISED_S)

    return device_subject(subject.who, subject.says.split("/")[1], end, will=False)


CHANGES = [
    *(deactivated, deleted, rotated, after_an_overlap, device_of_a_suspended_account),
    *(key_of_a_suspended_account, revoked, narrowed, expired),
]


def enter_kept(world: World, who: Principal, version: int, client_id: str) -> Client:
    """Connect with a session that outlives the connection."""
    client = world.dial(version)
    expiry = b"\x11\x00\x00\x0e\x10" if version == V5 else b""
    client.send(wire.connect(version, client_id, who.username, who.password, flags=0xC0, raw_properties=expiry))
    assert client.expect(wire.CONNACK).body[1] == 0
    return client


@VERSIONS
@pytest.mark.parametrize("change", CHANGES)
def test_who_loses_its_rights_is_cut_at_once_and_nothing_passes_after_it(
    world: World, change: Callable[[World], Subject], version: int
) -> None:
    subject = change(world)
    who = subject.who
    with ExitStack() as stack:
        inside, beside = Told(world, who.account), Told(world, "beta")
        hearing = stack.enter_context(enter_kept(world, who, version, "hearing"))
        saying = stack.enter_context(world.enter(who, version, "saying"))
        dying = stack.enter_context(world.dial(version))
        if subject.leaves_a_will:
            dying.send(connect_with_will(version, who, subject.says, b"a will"))
            assert dying.expect(wire.CONNACK).body[1] == 0
        assert hearing.subscribe(subject.hears, options=1) == [1]
        world.publish(who.account, subject.hears, b"before", qos=0)
        assert hearing.expect(wire.PUBLISH).payload(version) == b"before"
        assert saying.publish_qos1(subject.says, b"before") in (0, 0x10)
        subject.end()
        for qos in (0, 1, 2):
            world.publish(who.account, subject.hears, b"after", qos=qos)
        saying.send(wire.publish(version, subject.says, b"after") + wire.publish(version, subject.says, b"after", 2))
        hearing.expect_closed(ADMINISTRATIVE_ACTION if version == V5 else None)
        assert_nothing_but_the_end(saying)
        assert_refused(world, who, version)
        world.broker.clock.advance(5)  # a will that is delayed, a session that comes back
        assert inside.of(subject.says) == [b"before"]
        assert beside.of(subject.says) == []


class Told:
    """All that happens in an account, as the broker itself is told: also where nobody may come in any more."""

    def __init__(self, world: World, account: str) -> None:
        self._world = world
        self._account = account
        self._inbox = world.broker.subscribe("#", account=account)

    def of(self, topic_name: str) -> list[bytes]:
        """The payloads that have come to a topic until now."""
        mark = self._world.fresh("look").encode()
        self._world.publish(self._account, "look", mark)
        while self._inbox.next().payload != mark:
            pass
        return [one.payload for one in self._inbox.seen if one.topic_name == topic_name]


def assert_nothing_but_the_end(client: Client) -> None:
    """What is sent behind the end is neither taken nor acknowledged; the DISCONNECT may be lost with the bytes."""
    while (one := client.read()) is not None:
        assert (one.kind, one.body[:1]) == (wire.DISCONNECT, bytes([ADMINISTRATIVE_ACTION])), one


def assert_refused(world: World, who: Principal, version: int) -> None:
    with world.dial(version) as client:
        client.send(wire.connect(version, "back", who.username, who.password))
        client.expect_refused(CONNACK_3_NOT_AUTHORIZED if version == V311 else MQTT_5_NOT_AUTHORIZED)


@VERSIONS
def test_what_waits_for_a_name_is_not_given_to_a_key_of_it_that_may_less(world: World, version: int) -> None:
    who, key_id, name = of_key(world)
    with enter_kept(world, who, version, "kept") as client:
        assert client.subscribe("#", "jobs/secret", options=1) == [1, 1]
        client.send(b"\xe0\x00")
        while client.read() is not None:
            pass
    world.publish("alpha", "jobs/secret", b"secret", qos=1)
    world.broker.call(world.broker.broker.admin.keys.revoke(key_id))
    _, text = world.key("alpha", ("subscribe",), ("devices/{device_id}/telemetry/#",), name=name)
    with enter_kept(world, Principal(name, "bound", "apikey", text), version, "kept") as client:
        world.publish("alpha", "jobs/secret", b"secret", qos=1)
        assert client.subscribe("devices/mark/telemetry", options=0) == [0]
        mark = world.fresh("mark").encode()
        world.publish("alpha", "devices/mark/telemetry", mark)
        found = client.expect(wire.PUBLISH)
        assert (found.topic_name, found.payload(version)) == ("devices/mark/telemetry", mark)
        client.ping()
