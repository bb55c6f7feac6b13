"""Attacks with topic aliases: 0, above the maximum, unknown, changed in flight, from an earlier connection, large.

Each test has a neighbour who must notice nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Served
from tests.integration.wire import PUBACK, PUBLISH, V5, Client

MIB = 1024 * 1024
MAXIMUM = 16
TOPICS_MAXIMUM_BYTES = 65_536
ATTACKERS = 50


@pytest.fixture(autouse=True)
def neighbour(served: Served) -> Iterator[Neighbour]:
    with Neighbour(served) as one:
        yield one


@pytest.fixture
def attackers(served: Served) -> Iterator[list[Client]]:
    """Applications of one account, which may publish where they like."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(served.port(), V5)) for _ in range(ATTACKERS)]
        for number, client in enumerate(clients):
            client.login("apikey", served.api_key, f"attacker-{number}")
        yield clients


def aliased(number: int, topic_name: str = "", packet_id: int = 0) -> bytes:
    raw = b"\x23" + number.to_bytes(2, "big")
    return wire.publish(V5, topic_name, b"x", packet_id, raw_properties=raw)


@pytest.mark.parametrize(
    "bytes_sent",
    [
        aliased(0, "a"),
        aliased(MAXIMUM + 1, "a"),
        aliased(65_535, "a"),
        aliased(1),
        aliased(MAXIMUM),
        aliased(1, "a") + aliased(2),
    ],
    ids=["zero", "above", "far-above", "unknown", "unknown-highest", "unknown-beside-a-known-one"],
)
def test_an_alias_that_is_none_ends_the_connection(served: Served, bytes_sent: bytes) -> None:
    with Client(served.port(), V5) as client:
        client.login("apikey", served.api_key)
        client.send(bytes_sent)
        client.expect_closed(0x94)


def test_aliases_changed_in_flight_go_where_they_stood_when_they_were_used(served: Served) -> None:
    with Client(served.port(), V5) as client, Client(served.port(), V5) as watch:
        watch.login("apikey", served.api_key, "watch-aliases")
        watch.subscribe("in/flight/#", options=0)
        client.login("apikey", served.api_key, "changes-aliases")
        pairs = [aliased(1, f"in/flight/{number}") + aliased(1) for number in range(1000)]
        client.send(b"".join(pairs))
        for number in range(1000):
            for _ in range(2):
                assert watch.expect(PUBLISH).topic_name == f"in/flight/{number}"


def test_an_alias_of_an_earlier_connection_is_unknown(served: Served) -> None:
    for _ in range(3):
        with Client(served.port(), V5) as client:
            client.login("apikey", served.api_key, "comes-back")
            client.send(aliased(1, "a", 1) + aliased(1, packet_id=2))
            assert [client.expect(PUBACK).packet_id for _ in range(2)] == [1, 2]
        with Client(served.port(), V5) as client:
            client.login("apikey", served.api_key, "comes-back")
            client.send(aliased(1))
            client.expect_closed(0x94)


def test_many_aliases_of_long_topics_take_what_they_may_and_no_more(served: Served, attackers: list[Client]) -> None:
    before = served.rss_bytes()
    length = TOPICS_MAXIMUM_BYTES // MAXIMUM
    for turn in "abcdefgh":
        for client in attackers:
            for number in range(1, MAXIMUM + 1):
                client.send(aliased(number, f"{number}/".ljust(length, turn)))
        for client in attackers:
            client.ping()
    assert served.rss_bytes() - before < 2 * ATTACKERS * TOPICS_MAXIMUM_BYTES + 8 * MIB
    for client in attackers:
        client.send(aliased(1, "x" * (length + 1)))
        client.expect_closed(0x97)
