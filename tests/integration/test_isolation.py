"""Everybody at every door: what is not allowed is refused in the documented words, and accounts never meet.

Here belongs the crossing over MQTT. Not here: over REST (``test_isolation_rest``), changes while somebody is connected
(``test_isolation_changes``), and what is expected (``isolation_table``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from paho.mqtt.client import topic_matches_sub

from broker.testing import BrokerUnderTest
from tests.integration import isolation_table as table
from tests.integration import wire
from tests.integration.isolation_world import SLOWED_S, Principal, Watchers, World, connect_with_will
from tests.integration.wire import V5, V311, Client

VERSIONS = pytest.mark.parametrize("version", [V311, V5])
LET_IN = ["alpha meter", "alpha full", "alpha publish", "alpha subscribe", "alpha bound"]
FORGOTTEN_S = 61.0  # answers to wrong passwords wait, by user name; after a minute that is over
WAYS = [(0, True), (1, True), (2, True), (0, False), (1, False), (2, False)]  # QoS, retained


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with BrokerUnderTest() as broker:
        yield World(broker)


# ---------------------------------------------------------------- CONNECT


@VERSIONS
def test_who_comes_in_and_who_does_not(world: World, version: int) -> None:
    refused = table.CONNACK_3_NOT_AUTHORIZED if version == V311 else table.MQTT_5_NOT_AUTHORIZED
    kinds = set()
    for who in world.principals.values():
        may = who.kind in ("device", "full", "bound", "publish", "subscribe")
        kinds.add((who.kind, may))
        world.broker.clock.advance(FORGOTTEN_S)
        with world.dial(version) as client:
            client.send(wire.connect(version, "knock", who.username, who.password))
            if may:
                assert client.expect(wire.CONNACK).body[1] == 0, who.name
                client.ping()
            else:
                client.expect_refused(refused)
    assert len(kinds) == 9


def test_nobody_takes_over_a_client_id_of_somebody_else(world: World) -> None:
    with ExitStack() as stack:
        clients = []
        for who in world.principals.values():
            if who.kind in ("device", "full", "bound", "publish", "subscribe"):
                clients.append(stack.enter_context(world.enter(who, client_id="the same")))
        for client in clients:
            client.ping()
        assert len(clients) == 9


# ---------------------------------------------------------------- PUBLISH


class Sent:
    """The messages of one principal: each topic in every way; payloads tell which it was."""

    def __init__(self, who: Principal, run: str) -> None:
        self.who = who
        self.messages = [
            (name, qos, retain, f"{run} {qos}{retain} {name}".encode())
            for qos, retain in WAYS
            for name in [*table.NAMES, *table.SYSTEM]
        ]

    def allowed(self, name: str) -> bool:
        return table.may_publish(self.who.kind, name)

    def expected(self) -> list[tuple[str, bytes]]:
        return [(name, payload) for name, _, _, payload in self.messages if self.allowed(name)]

    def expected_retained(self) -> list[tuple[str, bytes]]:
        return sorted((name, one) for name, qos, keep, one in self.messages if self.allowed(name) and keep and qos == 2)


def packet(version: int, number: int, name: str, qos: int, retain: bool, payload: bytes) -> bytes:
    return wire.publish(version, name, payload, number, first_byte=0x30 | qos << 1 | retain)


def say_all(client: Client, messages: list[tuple[str, int, bool, bytes]]) -> dict[int, int]:
    """Send messages one after the other, to the end of their handshakes; gives the code of each that has one."""
    codes: dict[int, int] = {}
    for number, message in enumerate(messages, 1):
        client.send(packet(client.version, number, *message))
        if message[1]:
            answer = client.expect(wire.PUBACK if message[1] == 1 else wire.PUBREC)
            assert answer.packet_id == number
            codes[number - 1] = answer.body[2] if len(answer.body) > 2 else 0
            if message[1] == 2 and codes[number - 1] < 0x80:
                client.send(wire.packet(0x62, number.to_bytes(2, "big")))
                client.expect(wire.PUBCOMP)
    client.ping()
    return codes


def publish_v5(world: World, sent: Sent) -> None:
    """All at one connection: what is refused is told by its code, and closes nothing."""
    with world.enter(sent.who, V5) as client:
        for start in range(0, len(sent.messages), 150):  # what the rate takes at once
            world.broker.clock.advance(10)
            part = sent.messages[start : start + 150]
            for at, code in say_all(client, part).items():
                expected = 0 if sent.allowed(part[at][0]) else table.MQTT_5_NOT_AUTHORIZED
                assert code == expected, (sent.who.name, part[at], hex(code))


def publish_v311(world: World, sent: Sent) -> None:
    """What is refused with QoS 1 or 2 closes, and is never acknowledged."""
    kept = [one for one in sent.messages if one[1] == 0 or sent.allowed(one[0])]
    with world.enter(sent.who, V311) as client:
        for start in range(0, len(kept), 150):
            world.broker.clock.advance(10)
            say_all(client, kept[start : start + 150])
    for one in sent.messages:
        if one not in kept:
            world.broker.clock.advance(SLOWED_S)
            with world.enter(sent.who, V311) as client:
                client.send(packet(V311, 1, *one))
                client.expect_closed()
    world.broker.clock.advance(SLOWED_S)


@VERSIONS
@pytest.mark.parametrize("name", LET_IN)
def test_a_message_goes_where_it_may_and_to_its_own_account_alone(world: World, name: str, version: int) -> None:
    who = world.principals[name]
    sent = Sent(who, world.fresh("said"))
    with Watchers(world) as watchers:
        (publish_v5 if version == V5 else publish_v311)(world, sent)
        assert watchers.seen("beta") == []
        assert sorted(watchers.seen("alpha")) == sorted(sent.expected())
    run = sent.messages[0][3].split()[0]
    for account, expected in (("alpha", sent.expected_retained()), ("beta", [])):
        with world.enter(world.principals[f"{account} full"]) as reader:
            reader.subscribe("#", options=0)
            found = collect(world, reader, account, "look", len(expected))
        assert sorted(one for one in found if one[1].startswith(run)) == expected


@VERSIONS
@pytest.mark.parametrize("name", LET_IN)
def test_a_topic_name_that_is_none_ends_the_connection(world: World, name: str, version: int) -> None:
    for topic_name in table.INVALID:
        for qos, retain in WAYS:
            world.broker.clock.advance(SLOWED_S)
            with world.enter(world.principals[name], version) as client:
                client.send(packet(version, 1, topic_name, qos, retain, b"x"))
                client.expect_closed(table.MQTT_5_TOPIC_NAME_INVALID if version == V5 else None)
    world.broker.clock.advance(SLOWED_S)


# ---------------------------------------------------------------- wills


@VERSIONS
@pytest.mark.parametrize("name", LET_IN)
def test_a_will_is_judged_like_a_message(world: World, name: str, version: int) -> None:
    who = world.principals[name]
    refused = table.CONNACK_3_NOT_AUTHORIZED if version == V311 else table.MQTT_5_NOT_AUTHORIZED
    expected = []
    with Watchers(world) as watchers:
        for number, topic_name in enumerate([*table.NAMES, *table.SYSTEM, *table.INVALID]):
            payload = world.fresh("will").encode()
            with world.dial(version) as client:
                flags = 0x06 | (number % 3) << 3  # QoS 0, 1, 2
                client.send(connect_with_will(version, who, topic_name, payload, flags))
                if topic_name in table.INVALID:
                    client.expect_refused(table.MQTT_5_TOPIC_NAME_INVALID if version == V5 else None)
                elif not table.may_publish(who.kind, topic_name):
                    client.expect_refused(refused)
                else:
                    assert client.expect(wire.CONNACK).body[1] == 0, topic_name
                    expected.append((topic_name, payload))
                    client.send(b"\xf0\x00" if version == V311 else b"\x00\x00")  # a breach: the will is published
                    while client.read() is not None:
                        pass
        assert sorted(watchers.seen("alpha")) == sorted(expected)
        assert watchers.seen("beta") == []
    world.broker.clock.advance(SLOWED_S)


# ---------------------------------------------------------------- SUBSCRIBE


def collect(world: World, client: Client, account: str, topic_name: str, at_least: int) -> list[tuple[str, bytes]]:
    """What comes to a client until it has so many different messages and a mark; a little later ones too."""
    mark = world.fresh("mark").encode()
    world.publish(account, topic_name, mark)
    found: list[tuple[str, bytes]] = []
    marked = False
    while not marked or sum(not topic.startswith("$SYS/") for topic, _ in set(found)) < at_least:
        one = client.expect(wire.PUBLISH)
        payload = one.payload(client.version)
        marked |= payload == mark
        if payload != mark and not one.topic_name.endswith("/presence"):
            found.append((one.topic_name, payload))
    found += [one for one in rest(client) if one[1] != mark]
    return [one for one in found if not one[0].startswith("$SYS/account/")]  # figures have a test of their own


def rest(client: Client) -> list[tuple[str, bytes]]:
    """What still comes before the answer to a second PINGREQ."""
    found = []
    for _ in range(2):
        client.send(b"\xc0\x00")
        while (one := client.read()) is not None and one.kind != wire.PINGRESP:
            found.append((one.topic_name, one.payload(client.version)))
    return found


@VERSIONS
@pytest.mark.parametrize("name", [*LET_IN, "beta meter", "beta full", "alpha pump"])
def test_a_filter_is_granted_where_it_may_be_and_shows_its_own_account_alone(
    world: World, name: str, version: int
) -> None:
    who = world.principals[name]
    run = world.fresh("run")
    names = [one for one in table.NAMES if one not in table.PRESENCE]
    for account in ("alpha", "beta"):
        for topic_name in names:
            world.publish(account, topic_name, f"{account} kept {run} {topic_name}".encode(), retain=True)
    granted = [row for row in table.FILTERS if row.granted(who.kind)]
    own = "meter"
    if name == "alpha pump":  # the tables are about the meter
        granted = [row for row in table.FILTERS if row.text in table.PUMP_GRANTED]
        own = "pump"
    with world.enter(who, version) as client:
        subscribe_to_all(client, granted)
        if not granted:
            for account in ("beta", "alpha"):
                for topic_name in names:
                    world.publish(account, topic_name, b"live")
            assert rest(client) == []
            return
        end = f"devices/{own}/commands" if who.kind == "device" else "jobs/1"
        expected = matching(names, [row for row in granted if not row.is_shared], f"{who.account} kept {run} ")
        assert set(collect(world, client, who.account, end, len(expected))) == expected
        for account in sorted(("alpha", "beta"), key=lambda one: one == who.account):  # its own one last
            for topic_name in names:
                world.publish(account, topic_name, f"{account} live {run} {topic_name}".encode())
        expected = matching(names, granted, f"{who.account} live {run} ")
        assert set(collect(world, client, who.account, end, len(expected))) == expected


def subscribe_to_all(client: Client, granted: list[table.FilterRow]) -> None:
    """One SUBSCRIBE with every filter; demands the code of each."""
    filters = [*(row.text for row in table.FILTERS), *table.INVALID_FILTERS]
    client.send(wire.subscribe(client.version, 7, filters, 0))
    answer = client.expect(wire.SUBACK)
    codes = dict(zip(filters, answer.body[3 if client.version == V5 else 2 :], strict=True))
    forbidden = table.MQTT_5_NOT_AUTHORIZED if client.version == V5 else table.SUBACK_3_FAILURE
    invalid = table.MQTT_5_FILTER_INVALID if client.version == V5 else table.SUBACK_3_FAILURE
    texts = {row.text for row in granted}
    assert codes == {
        one: invalid if one in table.INVALID_FILTERS else 0 if one in texts else forbidden for one in filters
    }


def matching(names: list[str], rows: list[table.FilterRow], before: str) -> set[tuple[str, bytes]]:
    return {
        (name, (before + name).encode()) for name in names if any(topic_matches_sub(row.inner, name) for row in rows)
    }


def test_the_tables_say_yes_and_no_to_everybody() -> None:
    """A table that allows or refuses everything would show nothing."""
    for kind in ("device", "full", "publish", "bound"):
        assert {table.may_publish(kind, one) for one in table.NAMES} == {True, False}
    for kind in ("device", "bound"):
        assert {row.granted(kind) for row in table.FILTERS} == {True, False}
