"""Retained messages towards readers of any pace: pages, quota, order, sessions that go and come.

Here belongs what a run does between its subscription and its end. Not here: which messages match (``test_retained``).
"""

from __future__ import annotations

import pytest

from broker._core.core_probe import retained_tables
from broker.reasons import DropReason
from broker.wire import Publish, Subscribe, Subscription
from tests.support.core import Client, Core

MANY = 500


@pytest.fixture(params=[1 << 40, 40, 1], ids=["whole", "slices", "slices-of-one"])
def core(request: pytest.FixtureRequest) -> Core:
    """Five hundred retained messages of QoS 1 with some 230 bytes each."""
    core = Core(deliveries=request.param, outbox_soft_limit_bytes=4096)
    core.grant()
    for number in range(MANY):
        core.shard.publish(1, b"r/%d" % number, b"%200d" % number, 1, core.now_ns, retain=True)
    return core


def numbers(packets: list[Publish]) -> list[int]:
    return [int(one.payload) for one in packets]


def all_of_it(client: Client) -> list[int]:
    """Everything that comes to a client that reads and acknowledges."""
    found: list[int] = []
    client.reads = True
    while got := client.publishes():
        found += numbers(got)
        client.acknowledge(*(one.packet_id for one in got if one.qos))
        client.core.run()
    return found


def pins(core: Core) -> int:
    tables = retained_tables(core.shard, 1)
    assert tables is not None
    return tables["pins"]


@pytest.mark.parametrize("qos", [0, 1])
def test_all_of_it_comes_once_in_pages(core: Core, qos: int) -> None:
    client = core.connect("c", properties={"receive_maximum": 10})
    client.subscribe(Subscription("r/+", qos))
    assert sorted(all_of_it(client)) == list(range(MANY))
    assert core.all_drops() == {}
    assert core.shard.describe(client.handle)["queued_messages"] == 0  # type: ignore[index]
    core.end()


def test_a_reader_that_stalls_costs_a_page_and_no_queue(core: Core) -> None:
    stalled = [core.connect(f"s{number}") for number in range(20)]
    for client in stalled:
        client.reads = False
        client.send(Subscribe(1, (Subscription("r/+"),)))
    neighbour = core.connect("n")
    neighbour.subscribe("live")
    core.publish("live", b"1")
    assert neighbour.payloads() == [b"1"]
    for client in stalled:
        assert client.described["queued_messages"] == 0
        assert 2000 < len(core.shard.take_output(client.handle)) <= 4096
    core.end()


def test_live_messages_pass_and_none_is_dropped(core: Core) -> None:
    client = core.connect("c")
    client.subscribe(Subscription("#", 1))
    client.reads = False
    for number in range(1000, 1010):
        core.publish("live", b"%d" % number, 1)
    found = all_of_it(client)
    assert sorted(found) == [*range(MANY), *range(1000, 1010)]
    assert [one for one in found if one >= 1000] == list(range(1000, 1010))
    assert core.all_drops() == {}
    core.end()


def test_what_is_set_behind_the_subscribe_comes_live_and_not_again(core: Core) -> None:
    client = core.connect("c")
    client.reads = False
    client.send(Subscribe(1, (Subscription("r/+", 1),)))
    for number in range(0, MANY, 7):
        core.publish_retained(f"r/{number}", b"%d" % (number + 1000), 1)
    core.publish_retained("r/new", b"2000", 1)
    client.reads = True
    client.take()
    client.unread.pop(0)
    found = all_of_it(client)
    assert len(found) == len(set(found))
    assert {one for one in found if one >= 1000} == {*range(1000, 1000 + MANY, 7), 2000}
    assert {one for one in found if one < 1000} >= {one for one in range(MANY) if one % 7}
    core.end()


def test_what_is_cleared_while_it_is_being_read_does_not_come(core: Core) -> None:
    client = core.connect("c", properties={"receive_maximum": 5})
    client.subscribe(Subscription("r/+", 1))
    first = numbers(client.publishes())
    assert len(first) == 5
    for number in range(MANY):
        if number not in first:
            core.publish_retained(f"r/{number}", b"")
    client.acknowledge(1, 2, 3, 4, 5)
    assert [one for one in client.publishes() if one.retain] == []
    assert retained_tables(core.shard, 1)["nodes"] == 6  # type: ignore[index]
    core.end()


def test_an_unsubscribe_ends_the_run(core: Core) -> None:
    client = core.connect("c", properties={"receive_maximum": 5})
    client.subscribe(Subscription("r/+", 1))
    assert client.unsubscribe("r/+") == (0,)
    assert len(client.publishes()) == 5
    client.acknowledge(1, 2, 3, 4, 5)
    client.expect()
    core.end()


def test_a_repeated_subscribe_begins_again_and_leaves_one_run(core: Core) -> None:
    client = core.connect("c", properties={"receive_maximum": 5})
    for _ in range(50):
        client.subscribe(Subscription("r/+", 1), Subscription("r/#", 1))
    found = all_of_it(client)
    assert len(found) == 2 * MANY + 5
    core.end()


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_goes_on_with_its_session_and_ends_with_it(core: Core, kept: bool) -> None:
    properties = {"receive_maximum": 5, "session_expiry_interval": 100 if kept else 0}
    client = core.connect("c", properties=properties)
    client.subscribe(Subscription("r/+", 1))
    first = client.publishes()
    client.drop()
    core.publish_retained("r/1", b"")
    again = core.connect("c", clean_start=False, properties=properties)
    found = again.publishes()
    if not kept:
        assert found == []
        core.end()
        return
    assert [(one.packet_id, one.dup, one.payload) for one in found] == [
        (one.packet_id, True, one.payload) for one in first
    ]
    again.acknowledge(*(one.packet_id for one in found))
    assert sorted({*numbers(first), *all_of_it(again)} | {1}) == list(range(MANY))
    core.end()


def test_a_session_that_ends_leaves_no_run(core: Core) -> None:
    client = core.connect("c", properties={"receive_maximum": 5, "session_expiry_interval": 10})
    client.subscribe(Subscription("r/+", 1), Subscription("r/#", 1))
    client.drop()
    core.wait(11)
    assert core.shard.clear_retained(1, b"#") == (MANY, False)
    assert retained_tables(core.shard, 1)["nodes"] == 0  # type: ignore[index]
    core.end()


def test_quota_that_is_taken_is_waited_for_and_qos_0_goes_on(core: Core) -> None:
    core.publish_retained("q/0", b"7", 0)
    client = core.connect("c", properties={"receive_maximum": 1})
    client.subscribe(Subscription("r/1", 1))
    client.subscribe(Subscription("q/0", 1))
    assert [one.topic_name for one in client.publishes()] == ["r/1", "q/0"]
    client.subscribe(Subscription("r/2", 1))
    client.expect()
    client.acknowledge(1)
    assert [one.topic_name for one in client.publishes()] == ["r/2"]
    core.end()


def test_one_that_is_too_large_for_its_receiver_is_left_out_and_counted(core: Core) -> None:
    core.publish_retained("r/7", b"%3000d" % 7, 1)
    client = core.connect("c", properties={"maximum_packet_size": 1000})
    client.subscribe("r/+")
    assert sorted(all_of_it(client)) == [one for one in range(MANY) if one != 7]
    assert core.all_drops() == {DropReason.PACKET_TOO_LARGE: 1}
    core.end()


def test_one_larger_than_a_page_comes_by_itself(core: Core) -> None:
    core.publish_retained("r/7", b"%100000d" % 7, 1)
    client = core.connect("c")
    client.subscribe("r/+")
    assert sorted(all_of_it(client)) == list(range(MANY))
    core.end()


def test_subscribers_to_everything_take_turns() -> None:
    core = Core(deliveries=2048)
    core.grant()
    for number in range(3000):
        core.shard.publish(1, b"r/%d" % number, b"%d" % number, 0, core.now_ns, retain=True)
    clients = [core.connect(f"c{number}") for number in range(4)]
    for client in clients:
        client.send(Subscribe(1, (Subscription("r/+"),)), run=False)
    counts: list[int] = [0, 0, 0, 0]
    most = 0
    while core.slice():
        got = [len(client.received()) for client in clients]
        most = max(most, *got)
        counts = [one + two for one, two in zip(counts, got, strict=True)]
        assert max(counts) - min(counts) <= 600
    assert counts == [3001] * 4
    assert most <= 600  # in one slice
    core.end()
