"""What an enemy tries against kept sessions, deadlines and promises: each costs him, and nobody else (law 8)."""

from __future__ import annotations

import pytest

from broker._core.packets import encode
from broker.reasons import DropReason
from broker.wire import Disconnect, Puback, Pubcomp, Publish, Pubrec, Pubrel, Will
from tests.support.core import Core
from tests.support.sanitized import SANITIZED

IDENTIFIERS = 4_095 if SANITIZED else 65_535  # that many the sanitizers take minutes for
VERSIONS = pytest.mark.parametrize("version", [4, 5])


# ---------------------------------------------------------------- deadlines


def test_a_crowd_of_sessions_that_expires_at_one_moment_ends_in_slices(core: Core) -> None:
    for number in range(500):
        client = core.keep(f"c{number}")
        for name in (b"a/+/#", b"b", b"c/+"):
            assert core.shard.subscribe(client.handle, name, 1)
        core.shard.close_connection(client.handle)
    core.run()
    core.now_ns += 601 * 10**9
    core.deliveries = 100
    assert core.slice(), "there is more to do"
    assert core.shard.counters()["sessions"] > 300
    slices = 1
    while core.slice():
        slices += 1
    assert slices > 5
    assert core.shard.counters()["subscriptions"] == 0


def test_a_crowd_of_silent_clients_is_cut_in_slices(core: Core) -> None:
    clients = [core.connect(f"c{number}", keep_alive_s=10) for number in range(500)]
    core.now_ns += 16 * 10**9
    core.deliveries = 50
    assert core.slice(), "there is more to do"
    assert sum(one.is_open for one in clients) > 300
    while core.slice():
        pass
    assert not any(one.is_open for one in clients)


# ---------------------------------------------------------------- promises


@VERSIONS
def test_releases_of_nothing_behind_a_promise_do_not_pile_up_without_end(version: int) -> None:
    core = Core(server_receive_maximum=10)
    core.grant(synced=True)
    core.sink("t")
    core.hold()
    client = core.connect("c", version)
    client.publish("t", b"", 1)
    client.send(*(Pubrel(number) for number in range(1, 1001)))
    assert client.described["promises_held"] <= 12
    assert core.shard.is_stopped(client.handle)
    core.release()
    found = client.received()
    assert found[0] == Puback(1)
    assert [one.packet_id for one in found[1:] if isinstance(one, Pubcomp)] == list(range(1, 1001))
    core.end()


# ---------------------------------------------------------------- what is inflight


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_sent_and_never_acknowledged_counts_as_much_as_what_waits(version: int, qos: int) -> None:
    core = Core(queue_maximum_bytes=100_000)
    core.grant()
    client = core.keep("c", version)
    client.subscribe("t", qos=qos)
    for _ in range(100):
        core.publish("t", bytes(10_000), qos)
    got = len(client.publishes())
    assert 9 <= got <= 21, "a queue's worth sent, and a queue's worth waiting"
    assert core.shard.counters()["messages_kept"] < 25  # type: ignore[operator]
    assert core.drops(DropReason.QUEUE_FULL) >= 75
    client.drop()
    client = core.resume("c", version)
    again = client.publishes()
    assert len(again) >= got
    assert all(one.dup for one in again[:got])
    core.end()


def test_whoever_acknowledges_gets_messages_larger_than_a_queue_may_be() -> None:
    small = Core(queue_maximum_bytes=1000)
    small.grant()
    client = small.keep("c")
    client.subscribe("t", qos=1)
    for _ in range(10):
        small.publish("t", bytes(5000), 1)
        (delivery,) = client.publishes()
        client.acknowledge(delivery.packet_id)
    assert small.all_drops() == {}
    small.end()


def test_retained_messages_wait_for_acknowledgements_when_a_queues_worth_is_inflight() -> None:
    core = Core(queue_maximum_bytes=20_000)
    core.grant()
    for number in range(10):
        core.publish_retained(f"r/{number}", bytes(5000), 1)
    client = core.keep("c")
    client.subscribe("r/+", qos=1)
    found: list[Publish] = []
    while arrived := client.publishes():
        assert len(arrived) <= 4
        found += arrived
        client.acknowledge(*(one.packet_id for one in arrived))
    assert len(found) == 10
    core.end()


# ---------------------------------------------------------------- wills


def test_a_will_is_no_way_around_the_largest_payload_of_a_plan(core: Core) -> None:
    core.grant("small", limits=(0, 0, 0, 0, 0, 0, 100, 0))
    core.connect("c", user_name="small", will=Will("t", bytes(100)))
    refused = core.connecting("d", user_name="small", will=Will("t", bytes(101)))
    refused.closed_with(0x95)


def test_a_will_is_no_way_around_the_quota_of_the_month(core: Core) -> None:
    watcher = core.connect("w")
    watcher.subscribe("t")
    client = core.connect("c", will=Will("t", b"gone"))
    core.shard.set_quota(1, messages_left=0)
    client.drop()
    watcher.expect()
    assert core.all_drops() == {DropReason.QUOTA_EXCEEDED: 1}


# ---------------------------------------------------------------- identifiers


@VERSIONS
def test_all_identifiers_may_be_inflight_at_once_and_a_resumed_client_gets_them_in_order(version: int) -> None:
    count = IDENTIFIERS
    core = Core(outbound_inflight_maximum=count, queue_messages_maximum=10 * count, queue_maximum_bytes=1 << 30)
    core.grant()
    client = core.keep("c", version)
    client.subscribe("t", qos=2)
    for number in range(count + 5):
        core.shard.publish(1, b"t", b"%d" % number, 2, core.now_ns)
    core.run()
    first = client.publishes()
    assert sorted(one.packet_id for one in first) == list(range(1, count + 1))
    client.send(Pubrec(first[7].packet_id), Pubrec(first[3].packet_id))
    assert client.received() == [Pubrel(first[7].packet_id), Pubrel(first[3].packet_id)]
    client.drop()
    client = core.resume("c", version)
    found = client.received()
    again = [one for one in found if isinstance(one, Publish)]
    assert [one.payload for one in again] == [one.payload for one in first if one not in (first[3], first[7])]
    assert [one for one in found if isinstance(one, Pubrel)] == [Pubrel(first[7].packet_id), Pubrel(first[3].packet_id)]
    client.send(Pubcomp(first[7].packet_id), Pubcomp(first[3].packet_id))
    assert [one.payload for one in client.publishes()] == [b"%d" % (count + n) for n in range(2)]
    client.send(Disconnect(0))
    core.end()


@VERSIONS
def test_identifiers_of_open_exchanges_do_not_make_each_other_dear(version: int) -> None:
    core = Core(server_receive_maximum=IDENTIFIERS, unannounced_receive_maximum=IDENTIFIERS)
    core.grant()
    client = core.connect("c", version)
    numbers = [*range(1, IDENTIFIERS + 1, 2), *range(2, IDENTIFIERS + 1, 2)]
    client.send(*(Publish("t", b"", 2, packet_id=number) for number in numbers))
    assert client.described["inbound_qos2_ids"] == IDENTIFIERS
    assert [one.packet_id for one in client.received() if isinstance(one, Pubrec)] == numbers
    releases = b"".join(encode(Pubrel(number), version) for number in range(1, IDENTIFIERS + 1))
    client.send(releases)  # sixteen seconds if each walked through all of them
    assert client.described["inbound_qos2_ids"] == 0
    assert {one.reason_code for one in client.received() if isinstance(one, Pubcomp)} == {0}
    client.publish("t", b"", 2)
    assert client.described["inbound_qos2_ids"] == 1
    core.end()
