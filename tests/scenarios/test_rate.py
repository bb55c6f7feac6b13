"""Rates and quotas: the bucket, the pause, the end of who never stops, the month, and what is counted."""

from __future__ import annotations

import pytest

from broker.ports import GrantLimits
from broker.reasons import DropReason
from broker.wire import (
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
)
from tests.support.core import SECOND_NS, START_NS, Client, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])
RATE = GrantLimits(messages_per_s=100, burst_messages=200)
CAPACITY = 300
TICK_S = 0.017


def rated(core: Core, name: str = "fast", **fields: object) -> int:
    return core.grant(name, limits=RATE, **fields)  # type: ignore[arg-type]


def connect(core: Core, client_id: str = "c", version: int = 5, name: str = "fast", **fields: object) -> Client:
    return core.connect(client_id, version, user_name=name, **fields)


def is_read(client: Client) -> bool:
    return not client.core.shard.is_stopped(client.handle)


def pour(client: Client, count: int) -> None:
    """PUBLISH packets in one go."""
    client.send(*(Publish("t", b"") for _ in range(count)))


def received(core: Core) -> int:
    found = core.shard.counters()["messages_received"]
    assert isinstance(found, int)
    return found


@VERSIONS
def test_the_packet_that_empties_the_bucket_is_processed_and_then_reading_pauses(core: Core, version: int) -> None:
    rated(core)
    client = connect(core, version=version)
    pour(client, CAPACITY - 1)
    assert is_read(client)
    pour(client, 1)
    assert received(core) == CAPACITY
    assert not is_read(client)
    pour(client, 1)  # arrives all the same; what the reactor would not even read
    assert received(core) == CAPACITY


def test_reading_goes_on_when_a_tenth_of_a_second_is_back(core: Core) -> None:
    rated(core)
    client = connect(core)
    pour(client, CAPACITY)
    core.wait(0.09)
    assert not is_read(client)
    core.wait(0.01 + TICK_S)
    assert is_read(client)
    pour(client, 100)
    assert CAPACITY + 10 <= received(core) <= CAPACITY + 12


def test_who_keeps_to_the_rate_is_never_paused(core: Core) -> None:
    rated(core)
    client = connect(core)
    for _ in range(100):
        pour(client, 10)
        assert is_read(client)
        core.wait(0.1)
    assert received(core) == 1000


@pytest.mark.clause("v5:MQTT-3.14.2-3")
@VERSIONS
def test_five_seconds_of_unbroken_excess_close(core: Core, version: int) -> None:
    rated(core)
    client = connect(core, version=version)
    started = core.now_ns
    while client.is_open:
        assert core.now_ns - started < 7 * SECOND_NS
        pour(client, 100)
        core.wait(0.05)
    assert core.now_ns - started >= 5 * SECOND_NS
    found = client.received()
    assert found == ([Disconnect(0x96, {"reason_string": "Too many messages"})] if version == 5 else [])
    # never more than the burst, the rate, and what may be in the bucket when it pauses
    assert received(core) <= CAPACITY + 100 * 5.2 + 20


def test_words_that_do_not_fit_are_left_out(core: Core) -> None:
    rated(core)
    client = connect(core, properties={"maximum_packet_size": 64})
    while client.is_open:
        pour(client, 100)
        core.wait(0.05)
    assert client.received() == [Disconnect(0x96)]


def test_a_fifth_of_a_second_without_excess_starts_the_five_seconds_again(core: Core) -> None:
    rated(core)
    client = connect(core)
    pour(client, CAPACITY)
    for _ in range(40):
        core.wait(0.12)
        core.wait(0.13)
        pour(client, 25)
    assert client.is_open


def test_a_delay_of_the_process_is_not_taken_for_moderation(core: Core) -> None:
    rated(core)
    client = connect(core)
    pour(client, CAPACITY)
    for _ in range(30):
        core.wait(0.25)  # its timer is a tenth and a half late each time
        pour(client, 25)
    assert not client.is_open


def test_the_keep_alive_clock_stands_while_reading_pauses() -> None:
    core = Core()
    core.grant("slow", limits=GrantLimits(messages_per_s=1))
    client = core.connect("c", user_name="slow", keep_alive_s=1)
    client.send(Pingreq())
    assert not is_read(client)
    core.wait(1 + TICK_S)
    assert is_read(client)
    core.wait(1.4)  # 2.4 s since its last packet, of which it was read for 1.4
    assert client.is_open
    core.wait(0.2)
    client.closed_with(0x8D) if client.unread else None
    assert not client.is_open
    core.end()


@pytest.mark.parametrize(
    "packet",
    [
        Pingreq(),
        Publish("t", b"", 1, packet_id=1),
        Subscribe(1, (Subscription("t"),)),
        Unsubscribe(1, ("t",)),
        Publish("forbidden", b""),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_what_takes_a_token(packet: object) -> None:
    core = Core()
    core.grant("two", publish=("t",), limits=GrantLimits(messages_per_s=2))
    client = core.connect("c", user_name="two")
    client.send(packet)  # type: ignore[arg-type]
    assert is_read(client)
    client.send(packet)  # type: ignore[arg-type]
    assert not is_read(client)
    core.end()


def test_acknowledgements_are_always_read(core: Core) -> None:
    rated(core)
    client = connect(core)
    client.subscribe("news")
    for number in range(1, 3 * CAPACITY):
        core.publish("news", b"", qos=0)
        client.send(Puback(number))
    assert is_read(client)


def test_a_repeated_qos2_publish_takes_a_token_too(core: Core) -> None:
    rated(core)
    client = connect(core)
    client.send(*(Publish("t", b"", 2, packet_id=7, dup=number > 0) for number in range(CAPACITY)))
    assert not is_read(client)


def test_connections_of_one_principal_share_its_bucket(core: Core) -> None:
    rated(core)
    clients = [connect(core, f"c{number}") for number in range(3)]
    for client in clients:
        pour(client, CAPACITY // 3)
    assert [is_read(client) for client in clients] == [True, True, False]
    pour(clients[0], 1)
    assert not is_read(clients[0])


def test_another_principal_notices_nothing(core: Core) -> None:
    rated(core)
    fast, other = connect(core), core.connect("other")
    pour(fast, 10 * CAPACITY)
    assert not is_read(fast)
    pour(other, 10 * CAPACITY)
    assert is_read(other)


def test_what_waits_behind_the_pause_is_processed_in_order(core: Core) -> None:
    rated(core)
    reader = core.connect("reader")
    reader.subscribe("t")
    client = connect(core)
    client.send(*(Publish("t", b"%d" % number) for number in range(CAPACITY + 50)))
    for _ in range(20):
        core.wait(0.12)
    assert reader.payloads() == [b"%d" % number for number in range(CAPACITY + 50)]


def test_a_bucket_outlives_its_connections(core: Core) -> None:
    rated(core)
    client = connect(core)
    pour(client, CAPACITY)
    client.drop()
    again = connect(core)
    pour(again, 1)
    assert not is_read(again)


@pytest.mark.parametrize("rate", [1, 3, 7, 100, 5_000, 1_000_000])
@pytest.mark.parametrize("burst", [0, 10])
def test_a_second_never_brings_more_than_rate_and_burst(rate: int, burst: int) -> None:
    core = Core()
    core.grant("r", limits=GrantLimits(messages_per_s=rate, burst_messages=burst))
    client = core.connect("c", user_name="r")
    amount = min(rate + burst, 2000)
    pour(client, amount)
    assert received(core) == amount
    assert is_read(client) == (amount < rate + burst)
    core.end()


# ---------------------------------------------------------------- the month


@VERSIONS
def test_a_used_up_month_refuses_to_publish_and_nothing_else(core: Core, version: int) -> None:
    core.grant("paid", account_id=5)
    core.shard.set_quota(5, messages_left=3)
    client = core.connect("c", version, user_name="paid")
    client.subscribe("t")
    client.publish("t", b"1")  # in and out: two of three
    client.publish("u", b"2")
    assert client.payloads() == [b"1"]
    client.publish("t", b"3")
    assert core.all_drops() == {DropReason.QUOTA_EXCEEDED: 1}
    core.publish("t", b"from the server", account_id=5)
    assert client.payloads() == [b"from the server"]
    packet_id = client.publish("t", b"4", 1)
    if version == 5:
        client.expect(Puback(packet_id, 0x97, {"reason_string": "Too many messages"}))
        client.send(Publish("t", b"5", 2, packet_id=9))
        assert client.received()[0].reason_code == 0x97  # type: ignore[union-attr]
        client.send(Pingreq())
        client.expect(Pingresp())
    else:
        client.closed_with(None)


def test_bytes_of_the_month_are_counted_with_the_packet(core: Core) -> None:
    core.grant("paid", account_id=5)
    core.shard.set_quota(5, bytes_left=2 + 2 + 1 + 1 + 10)  # header, topic name, no properties, payload
    client = core.connect("c", user_name="paid")
    client.publish("t", bytes(10))
    client.publish("t", b"")
    assert core.all_drops() == {DropReason.QUOTA_EXCEEDED: 1}
    core.shard.set_quota(5)
    client.publish("t", b"")
    assert core.all_drops() == {DropReason.QUOTA_EXCEEDED: 1}


@pytest.mark.clause("v5:MQTT-3.1.2-29")
def test_words_are_only_for_who_wants_them(core: Core) -> None:
    core.grant("paid", account_id=5)
    core.shard.set_quota(5, messages_left=0)
    client = core.connect("c", user_name="paid", properties={"request_problem_information": 0})
    packet_id = client.publish("t", b"", 1)
    client.expect(Puback(packet_id, 0x97))


def test_another_account_has_its_own_month(core: Core) -> None:
    core.grant("paid", account_id=5)
    core.shard.set_quota(5, messages_left=0)
    client = core.connect("c")
    packet_id = client.publish("t", b"", 1)
    client.expect(Puback(packet_id, 0x10))


def test_a_311_client_that_is_closed_for_a_refusal_is_slowed_when_it_returns_at_once(core: Core) -> None:
    core.grant("paid", account_id=5)
    core.shard.set_quota(5, messages_left=0)
    client = core.connect("c", 4, user_name="paid")
    client.publish("t", b"", 1)
    client.closed_with(None)
    again = core.connect("c", 4, user_name="paid")  # its CONNACK comes at once
    again.publish("t", b"", 1)
    assert again.is_open
    core.wait(1 + TICK_S)
    assert not again.is_open


# ---------------------------------------------------------------- usage


def test_usage_counts_both_directions_by_principal(core: Core) -> None:
    writer_id = core.grant("writer", account_id=3)
    reader_id = core.grant("reader", account_id=3)
    writer = core.connect("w", user_name="writer")
    reader = core.connect("r", user_name="reader")
    reader.subscribe("t", qos=1)
    writer.publish("t", b"12345", 1)
    got = reader.publishes()
    assert len(got) == 1
    size = 2 + 2 + 1 + 2 + 1 + 5
    usage = {principal: figures for account, principal, *figures in core.shard.take_usage() if account == 3}
    assert usage == {writer_id: [1, size, 0, 0], reader_id: [0, 0, 1, size]}
    assert core.shard.take_usage() == []
    writer.publish("t", b"1")
    assert sorted(core.shard.take_usage(), key=str) == sorted(
        [(3, writer_id, 1, 7, 0, 0), (3, reader_id, 0, 0, 1, 7)], key=str
    )


def test_what_is_refused_or_repeated_is_not_counted(core: Core) -> None:
    number = core.grant("writer", publish=("t",))
    writer = core.connect("w", user_name="writer")
    writer.publish("forbidden", b"", 1)
    writer.send(Publish("t", b"", 2, packet_id=4), Publish("t", b"", 2, packet_id=4, dup=True))
    assert core.shard.take_usage() == [(1, number, 1, 8, 0, 0)]


def test_a_delivery_that_is_sent_again_is_counted_once(core: Core) -> None:
    number = core.grant("reader")
    reader = core.connect("r", user_name="reader", properties={"session_expiry_interval": 100})
    reader.subscribe("t", qos=1)
    core.publish("t", b"", qos=1)
    reader.drop()
    again = core.connect("r", user_name="reader", clean_start=False)
    assert [one.dup for one in again.publishes()] == [True]
    counted = {principal: figures for _, principal, *figures in core.shard.take_usage()}
    assert counted == {None: [1, 8, 0, 0], number: [0, 0, 1, 8]}


def test_usage_is_taken_in_pieces_and_survives_its_principal(core: Core) -> None:
    for number in range(5):
        core.grant(f"w{number}")
        core.connect(f"w{number}", user_name=f"w{number}").publish("t")
    for client in core.clients:
        client.drop()
    assert [len(core.shard.take_usage(2)) for _ in range(4)] == [2, 2, 1, 0]


def test_the_wheel_has_no_deadline_of_a_bucket(core: Core) -> None:
    rated(core)
    client = connect(core, keep_alive_s=0)
    deadline = core.shard.next_deadline_ns()
    pour(client, CAPACITY - 1)
    assert core.shard.next_deadline_ns() == deadline
    assert core.now_ns == START_NS
    assert client.is_open
