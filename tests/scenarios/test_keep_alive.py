"""Deadlines: keep alive, the connect deadline, and clocks that stand still while we do not read."""

from __future__ import annotations

import pytest

from broker._core.core_probe import cut_reads
from broker.reasons import ReasonCode
from broker.wire import Connack, Connect, Pingreq, Pingresp, Publish, Subscribe, Subscription
from tests.support.core import SECOND_NS, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])
TICK_S = 0.017


@pytest.mark.clause("v5:MQTT-3.1.2-22", "v5:MQTT-3.2.2-22", "v311:MQTT-3.1.2-24")
@VERSIONS
def test_one_and_a_half_times_the_keep_alive_without_a_packet_closes(core: Core, version: int) -> None:
    client = core.connect("c", version, keep_alive_s=10)
    core.wait(14.99)
    assert client.is_open
    core.wait(0.01 + TICK_S)
    client.closed_with(0x8D if version == 5 else None)


@pytest.mark.clause("v5:MQTT-3.12.4-1", "v311:MQTT-3.12.4-1")
@VERSIONS
def test_a_ping_is_answered_and_starts_the_time_again(core: Core, version: int) -> None:
    client = core.connect("c", version, keep_alive_s=10)
    for _ in range(5):
        core.wait(14)
        client.send(Pingreq())
        client.expect(Pingresp())
    core.wait(16)
    assert not client.is_open


def test_any_packet_counts_and_half_a_packet_does_not(core: Core) -> None:
    client = core.connect("c", keep_alive_s=10)
    core.wait(14)
    client.publish("t")
    core.wait(14)
    client.send(b"\x30\x7f\x00")
    core.wait(2)
    client.closed_with(0x8D)


@VERSIONS
def test_keep_alive_0_never_closes(core: Core, version: int) -> None:
    core = Core(keep_alive_maximum_s=0)
    core.grant()
    client = core.connect("c", version)
    assert core.shard.next_deadline_ns() is None
    core.wait(10**6)
    assert client.is_open
    core.end()


@pytest.mark.clause("v5:MQTT-3.2.2-21")
@pytest.mark.parametrize("asked", [0, 61, 65_535])
def test_a_longer_keep_alive_than_allowed_is_replaced_and_told(asked: int) -> None:
    core = Core(keep_alive_maximum_s=60)
    core.grant()
    client = core.connecting("c", keep_alive_s=asked)
    assert client.pick(Connack).properties["server_keep_alive"] == 60
    core.wait(89.9)
    assert client.is_open
    core.wait(0.2)
    client.closed_with(0x8D)
    core.end()


def test_an_allowed_keep_alive_is_not_mentioned() -> None:
    core = Core(keep_alive_maximum_s=60)
    core.grant()
    assert "server_keep_alive" not in core.connecting("c", keep_alive_s=60).pick(Connack).properties
    old = core.connect("d", 4, keep_alive_s=100)  # 3.1.1 cannot be told, so it keeps what it asked for
    core.wait(149)
    assert old.is_open
    core.end()


def test_whoever_says_nothing_is_closed_at_the_connect_deadline(core: Core) -> None:
    silent, talks = core.open(), core.connect("c")
    core.wait(9.9)
    assert silent.is_open
    core.wait(0.2)
    assert silent.closed_with(None) == []
    assert talks.is_open


def test_half_a_connect_does_not_move_the_deadline(core: Core) -> None:
    slow = core.open()
    for byte in b"\x10\x20\x00\x04MQTT\x05\x02":
        slow.send(bytes((byte,)))
        core.wait(1.2)
    assert slow.closed_with(None) == []


@VERSIONS
def test_a_connect_that_the_authenticator_does_not_judge_in_time_is_answered(core: Core, version: int) -> None:
    client = core.connecting("c", version, user_name="stranger")
    core.wait(10.1)
    assert not client.is_open
    client.expect(Connack(reason_code=0x88 if version == 5 else 3))
    core.admit(core.asked[0][0])  # too late
    client.expect()


def test_time_spent_on_authentication_does_not_count_against_the_client(core: Core) -> None:
    client = core.connecting("c", user_name="stranger", keep_alive_s=2)
    core.wait(9)
    core.admit(core.asked[0][0])
    assert client.is_open
    core.wait(2.9)
    assert client.is_open
    core.wait(0.2)
    client.closed_with(0x8D)


def test_the_clock_stands_while_an_answer_is_owed(core: Core) -> None:
    client = core.connect("c", keep_alive_s=10)
    core.shard.feed(
        client.handle, b"\x82\x07\x00\x01\x00\x00\x01a\x00", core.now_ns
    )  # SUBSCRIBE, which nobody answers yet
    for _ in range(10):
        core.now_ns += 7 * SECOND_NS
        core.shard.run(core.now_ns)
        core.exchange()
    assert client.is_open
    core.run()
    assert client.is_open
    core.wait(14.9)
    assert client.is_open
    core.wait(10.2)
    client.closed_with(0x8D)


def test_the_clock_stands_until_the_answer_and_starts_anew_with_it(core: Core) -> None:
    client = core.connect("c", keep_alive_s=10)
    client.feed(b"\x82\x07\x00\x01\x00\x00\x01a\x00")
    core.now_ns += 14 * SECOND_NS
    core.shard.run(core.now_ns)
    core.engine.answer(core.shard.take_rare())
    core.wait(1.1)  # the first thing that runs is the deadline
    assert client.is_open


def test_the_clock_stands_while_the_own_publish_is_routed() -> None:
    core = Core(deliveries=1)
    core.grant()
    publisher = core.connect("p", keep_alive_s=1)
    subscribers = [core.connect(f"s{number}") for number in range(5)]
    for one in subscribers:
        one.subscribe("t")
    publisher.publish("t", b"x", run=False)
    for _ in range(4):
        core.now_ns += 2 * SECOND_NS
        core.slice()
        assert publisher.is_open
    core.run()
    for one in subscribers:
        one.expect(Publish("t", b"x"))
    core.end()


def test_the_clock_stands_while_a_client_is_held_back() -> None:
    core = Core(server_receive_maximum=1)
    core.grant(synced=True)
    core.sink("t")
    core.hold()
    client = core.connect("c", 4, keep_alive_s=10)
    client.publish("t", b"", 1)
    core.wait(100)
    assert client.is_open
    core.release()
    assert client.is_open
    core.wait(14)
    assert client.is_open
    core.wait(10)
    assert not client.is_open
    core.end()


def test_a_refused_subscription_is_a_packet_like_any_other(core: Core) -> None:
    client = core.connect("c", keep_alive_s=10)
    core.wait(14)
    client.send(Subscribe(1, (Subscription("a#"),)))
    core.wait(14)
    assert client.is_open


def test_a_deadline_is_known_before_it_is_due(core: Core) -> None:
    assert core.shard.next_deadline_ns() is None
    core.open()
    due = core.shard.next_deadline_ns()
    assert due is not None
    assert due <= core.now_ns + 10 * SECOND_NS + 2**24
    client = core.connect("c", keep_alive_s=1)
    due = core.shard.next_deadline_ns()
    assert due is not None
    assert due <= core.now_ns + 1_500_000_000 + 2**24
    client.drop()


def test_a_jump_over_years_fires_everything_once(core: Core) -> None:
    clients = [core.connect(f"c{number}", keep_alive_s=number * 37 + 1) for number in range(50)]
    core.wait(30 * 365 * 86_400)
    for client in clients:
        client.closed_with(0x8D)


@pytest.mark.parametrize("after", [1, 5])
def test_a_second_connect_deadline_is_the_new_connections_own(core: Core, after: int) -> None:
    first = core.open()
    core.wait(after)
    first.drop()
    second = core.open()
    core.wait(9.5)
    assert second.is_open
    second.send(Connect("c", user_name="user", password=b"pw"))
    assert second.pick(Connack).reason_code == 0


def test_silence_is_not_believed_while_something_may_be_unread_but_not_for_ever(core: Core) -> None:
    client = core.connect("c", keep_alive_s=10)
    cut_reads(core.shard, True)
    core.wait(16)
    assert client.is_open
    client.send(Pingreq())
    client.expect(Pingresp())
    core.wait(16)
    assert client.is_open
    core.wait(15)
    client.closed_with(ReasonCode.KEEP_ALIVE_TIMEOUT)


def test_silence_is_believed_once_everything_is_read(core: Core) -> None:
    client = core.connect("c", keep_alive_s=10)
    cut_reads(core.shard, True)
    core.wait(16)
    cut_reads(core.shard, False)
    core.wait(0.2)
    client.closed_with(ReasonCode.KEEP_ALIVE_TIMEOUT)
