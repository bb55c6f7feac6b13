"""Attacks with retained messages (row 15): floods of topics, stalled readers of everything, deletion while it is read.

Memory stays within the budgets, and others notice nothing. Not here: rows of a single packet (``tests/packets``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tests.integration import wire
from tests.integration.neighbour import Neighbour
from tests.integration.served import Served
from tests.integration.wire import PUBACK, PUBLISH, V5, Client

Serve = Callable[..., Served]
MIB = 1024 * 1024
TOPICS = 20_000
RETAIN = 0x31  # QoS 0
RETAIN_1 = 0x33  # QoS 1


def application(broker: Served, stack: ExitStack, name: str, receive_buffer_bytes: int = 0) -> Client:
    client = stack.enter_context(Client(broker.port(), V5, receive_buffer_bytes=receive_buffer_bytes))
    return client.login("apikey", broker.api_key, name)


def retain(writer: Client, numbers: range, payload: bytes) -> None:
    """Set (or, without a payload, clear) a range of topics, and wait until all of it is on disk."""
    for first in range(numbers.start, numbers.stop, 500):
        some = range(first, min(first + 500, numbers.stop))
        writer.send(b"".join(wire.publish(V5, f"flood/{number}", payload, first_byte=RETAIN) for number in some))
    # What is retained is acknowledged when it is on disk, and all that was retained before it with it.
    writer.send(wire.publish(V5, "end", b"x", 1, first_byte=RETAIN_1))
    assert writer.expect(PUBACK).body[2:3] in (b"", b"\0", b"\x10")


def test_a_device_has_its_number_of_retained_messages_and_others_have_theirs(served: Served) -> None:
    login = served.register()
    with Client(served.port(), V5) as client:
        client.login(login.username, login.password)
        for number in range(105):
            client.send(wire.publish(V5, login.topic(f"status/{number}"), b"x", number + 1, first_byte=RETAIN_1))
        codes = [client.expect(PUBACK).body[2:3] or b"\0" for _ in range(105)]
        assert [code == b"\x97" for code in codes] == [False] * 100 + [True] * 5
        for number in range(100):
            client.send(wire.publish(V5, login.topic(f"status/{number}"), first_byte=RETAIN))
        client.send(wire.publish(V5, login.topic("status/104"), b"x", 1, first_byte=RETAIN_1))
        assert client.expect(PUBACK).body[2:3] != b"\x97"


def test_readers_of_everything_that_stall_cost_a_page_each_and_nobodys_time(serve: Serve) -> None:
    broker = serve()
    with Neighbour(broker), ExitStack() as stack:
        writer = application(broker, stack, "writer")
        retain(writer, range(TOPICS), bytes(1000))  # twenty megabytes
        before = broker.rss_bytes()
        stalled = [application(broker, stack, f"stalled {number}", 4096) for number in range(20)]
        for client in stalled:
            client.send(wire.subscribe(V5, 1, ["flood/#"], options=0))
        reader = application(broker, stack, "reader")
        assert reader.subscribe("flood/+", options=0) == [0]
        found = {reader.expect(PUBLISH).topic_name for _ in range(TOPICS)}
        assert len(found) == TOPICS
        assert broker.rss_bytes() - before < 16 * MIB  # twenty times twenty megabytes were asked for
        retain(writer, range(TOPICS), b"")  # while they are being read
        assert [one.topic_name for one in (reader.expect(PUBLISH) for _ in range(TOPICS))][-1] == f"flood/{TOPICS - 1}"
        for client in stalled:
            client.send(b"\xc0\x00")
            while (one := client.read()) is not None and one.kind != wire.PINGRESP:
                pass
            assert one is not None
        reader.ping()
