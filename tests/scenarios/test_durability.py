"""Levels of durability: which is in force, who is told, and what it changes."""

from __future__ import annotations

import pytest

from broker._core.packets import encode
from broker.reasons import DropReason, ReasonCode
from broker.wire import Connack, Puback, Pubrec, Will
from tests.support.core import MEMORY, RELAXED, SYNCED, Core, credential

NAMES = ["memory", "relaxed", "synced"]
LEVELS = pytest.mark.parametrize("level", [MEMORY, RELAXED, SYNCED])


def test_the_weaker_of_grant_and_listener_is_in_force_and_told(core: Core) -> None:
    for granted in (MEMORY, RELAXED, SYNCED):
        core.grant(f"u{granted}", durability=granted)
        for bound in (MEMORY, RELAXED, SYNCED):
            core.shard.set_durability(bound + 5, bound)
            client = core.connecting("c", user_name=f"u{granted}", listener=bound + 5)
            told = client.pick(Connack).properties["user_property"]
            assert told == (("durability", NAMES[min(granted, bound)]),)
            assert client.described["durability"] == min(granted, bound)
            client.drop()


def test_a_listener_bounds_nobody_until_it_is_told_to(core: Core) -> None:
    core.grant("u", durability=SYNCED)
    assert core.connect("c", user_name="u", listener=63).described["durability"] == SYNCED


@LEVELS
def test_an_open_listeners_clients_are_synced_as_far_as_it_allows(core: Core, level: int) -> None:
    core.open_listener(3)
    core.shard.set_durability(3, level)
    client = core.connect("c", user_name=None, password=None, listener=3)
    assert client.described["durability"] == level


@LEVELS
def test_who_is_judged_by_python_gets_the_level_of_the_judgement(core: Core, level: int) -> None:
    client = core.connecting("c", user_name="unknown")
    core.shard.admit(client.handle, 1, 900, "p", "", ("#",), ("#",), durability=level)
    core.run()
    assert client.pick(Connack).properties["user_property"] == (("durability", NAMES[level]),)


def test_a_connection_keeps_the_level_that_it_was_told(core: Core) -> None:
    number = core.grant("u", durability=SYNCED)
    client = core.connect("c", user_name="u")
    core.shard.put_grant(credential("u", b"pw"), 1, number, "u", "", ("#",), ("#",), durability=MEMORY)
    assert client.is_open  # nobody is cut
    assert client.described["durability"] == SYNCED
    assert core.connect("d", user_name="u").described["durability"] == MEMORY


@pytest.mark.clause("v5:MQTT-3.2.2-20")
def test_the_level_is_left_out_where_the_client_takes_no_packet_of_that_size(core: Core) -> None:
    core.grant("u", durability=SYNCED)
    whole = len(encode(core.connecting("c", user_name="u").pick(Connack), 5))
    for most in (whole, whole - 1):
        answer = core.connecting(f"c{most}", user_name="u", properties={"maximum_packet_size": most}).pick(Connack)
        assert answer.reason_code == ReasonCode.SUCCESS
        assert ("user_property" in answer.properties) == (most == whole)


def test_a_refusal_and_311_are_told_no_level(core: Core) -> None:
    core.open_listener(3)
    refused = core.connecting("", 5, user_name="u", properties={"authentication_method": "m"}).pick(Connack)
    assert "user_property" not in refused.properties
    assert core.connecting("c", 4, user_name=None, password=None, listener=3).pick(Connack) == Connack()


@pytest.mark.parametrize(("level", "waits"), [(MEMORY, False), (RELAXED, False), (SYNCED, True)])
def test_only_what_is_synced_waits_for_the_store(core: Core, level: int, waits: bool) -> None:
    core.grant("u", durability=level)
    keeper = core.keep("keeper", user_name="u")
    keeper.subscribe("t", qos=1)
    keeper.drop()
    client = core.connect("c", user_name="u")
    core.hold()
    packet_id = client.publish("t", b"x", 1)
    assert client.received() == ([] if waits else [Puback(packet_id)])
    core.release()
    if waits:
        client.expect(Puback(packet_id))


def test_connections_are_counted_by_their_level(core: Core) -> None:
    for level in (MEMORY, RELAXED, SYNCED):
        core.grant(f"u{level}", durability=level)
    clients = [core.connect(f"c{number}", user_name=f"u{number % 3}") for number in range(7)]
    core.connecting("c", user_name="nobody")  # waits to be judged
    assert core.shard.counters()["connected"] == [3, 2, 2]
    clients[0].drop()
    core.shard.fail_connection(clients[1].handle, ReasonCode.ADMINISTRATIVE_ACTION)
    core.run()
    assert core.shard.counters()["connected"] == [2, 1, 2]
    core.connect("c2", user_name="u2")  # takes over
    assert core.shard.counters()["connected"] == [2, 1, 2]


def test_a_level_that_there_is_not_is_refused(core: Core) -> None:
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=r"0 .memory., 1 .relaxed. or 2 .synced."):
            core.grant("u", durability=wrong)
        with pytest.raises(ValueError, match="level of durability"):
            core.shard.set_durability(0, wrong)
    for listener in (-1, 256):
        with pytest.raises(ValueError, match="0 to 255"):
            core.shard.set_durability(listener, SYNCED)


def test_what_one_fan_out_had_recorded_says_nothing_about_the_next() -> None:
    core = Core(deliveries=1, outbox_soft_limit_bytes=1024)
    core.grant("kept", durability=SYNCED)
    core.grant("not kept", durability=MEMORY)
    for number in range(4):
        core.keep(f"k{number}", user_name="kept").subscribe("t", qos=1)
    publisher = core.connect("p", user_name="not kept")
    publisher.publish("t", b"in slices", 1)  # the rest of it is recorded before it is offered
    readers = [core.connect(f"r{number}", user_name="not kept") for number in range(4)]
    for reader in readers:
        reader.subscribe("q")
        reader.reads = False
    for _ in range(3):
        publisher.publish("q", bytes(800))  # more than fits: what is not taken was never recorded
    assert core.drops(DropReason.OUTBOX_FULL) == 8


def test_a_clean_start_that_ends_a_session_on_disk_is_refused_while_the_disk_is_not_well() -> None:
    core = Core()
    core.grant("u", durability=SYNCED)
    core.keep("c", user_name="u").drop()
    core.shard.set_refusing(True)
    answer = core.connecting("c", user_name="u", clean_start=True).pick(Connack)
    assert answer.reason_code == ReasonCode.SERVER_UNAVAILABLE
    core.shard.set_refusing(False)
    core.connect("c", user_name="u", clean_start=True).drop()
    after = core.crash()
    after.keep("c", user_name="u", present=False)


def test_a_retained_will_is_on_disk_though_it_was_left_while_the_disk_was_not_well() -> None:
    core = Core()
    core.grant("u", durability=SYNCED)
    core.connect("before", user_name="u").publish("w", b"before", 1, retain=True)
    core.shard.set_refusing(True)
    core.connect("c", user_name="u", will=Will("w", b"lost", 0, retain=True)).drop()
    core.shard.set_refusing(False)
    core.run()
    after = core.crash()
    reader = after.connect("r", user_name="u")
    reader.subscribe("w")
    assert reader.payloads() == [b"lost"]


# ---------------------------------------------------------------- who writes, who waits


def keeper(core: Core, name: str) -> None:
    """A session that is kept, whose client is away."""
    client = core.keep("keeper", user_name=name)
    client.subscribe("t", qos=1)
    client.drop()


def everybody() -> Core:
    core = Core()
    for name, level in zip(NAMES, (MEMORY, RELAXED, SYNCED), strict=True):
        core.grant(name, durability=level)
    return core


def found_after_a_crash(core: Core, name: str) -> list[bytes] | None:
    """What the keeper gets from the process that comes after; None: its session is not there."""
    after = core.crash()
    client = after.connecting("keeper", user_name=name, clean_start=False, properties={"session_expiry_interval": 600})
    answer = client.pick(Connack)
    found = [one.payload for one in client.publishes()] if answer.session_present else None
    after.end()
    return found


@pytest.mark.parametrize("of_sender", NAMES)
@pytest.mark.parametrize(("of_keeper", "found"), [("memory", None), ("relaxed", [b"x"]), ("synced", [b"x"])])
def test_the_session_decides_what_is_written_and_the_sender_whether_it_waits(
    of_sender: str, of_keeper: str, found: list[bytes] | None
) -> None:
    core = everybody()
    keeper(core, of_keeper)
    sender = core.connect("sender", user_name=of_sender)
    core.hold()
    packet_id = sender.publish("t", b"x", 1)
    waits = of_sender == "synced" and of_keeper != "memory"
    assert sender.received() == ([] if waits else [Puback(packet_id)])
    core.release()
    assert sender.received() == ([Puback(packet_id)] if waits else [])
    assert found_after_a_crash(core, of_keeper) == found


def test_relaxed_may_lose_what_was_not_committed_and_nothing_before_it() -> None:
    core = everybody()
    keeper(core, "relaxed")
    sender = core.connect("sender", user_name="relaxed")
    sender.publish("t", b"committed", 1)
    sender.pick(Puback)
    core.hold()
    sender.publish("t", b"not yet", 1)
    sender.pick(Puback)
    assert found_after_a_crash(core, "relaxed") == [b"committed"]


def test_a_relaxed_session_begins_and_subscribes_without_waiting() -> None:
    core = everybody()
    core.hold()
    client = core.keep("keeper", user_name="relaxed")
    assert client.subscribe("t", qos=1) == (1,)
    client.drop()
    core.release()
    assert found_after_a_crash(core, "relaxed") == []


def test_a_listener_that_promises_less_keeps_sessions_off_the_disk() -> None:
    core = everybody()
    core.shard.set_durability(7, MEMORY)
    client = core.keep("keeper", user_name="synced", listener=7)
    core.hold()
    assert client.subscribe("t", qos=1) == (1,)
    client.drop()
    core.release()
    assert found_after_a_crash(core, "synced") is None


def test_who_is_told_that_there_is_no_session_waits_for_the_end_of_the_one_that_there_was() -> None:
    core = Core()
    core.grant("u", durability=SYNCED)
    core.keep("c", user_name="u").drop()
    core.hold()
    first = core.connecting("c", user_name="u", clean_start=True)
    assert first.received() == []
    first.drop()
    second = core.connecting("c", user_name="u", clean_start=True)
    assert second.received() == []  # though it finds nothing: it is not on disk yet that there is nothing
    core.release()
    assert second.pick(Connack).reason_code == ReasonCode.SUCCESS
    core.crash().keep("c", user_name="u", present=False)


def test_a_session_that_ends_with_its_connection_is_not_followed_by_one_on_disk_while_the_disk_is_not_well() -> None:
    core = Core()
    core.grant("u", durability=SYNCED)
    core.keep("c", user_name="u").drop()
    core.connecting("c", user_name="u", clean_start=False).pick(Connack)  # goes on, and ends with this connection
    core.shard.set_refusing(True)
    after = core.connecting("c", user_name="u", clean_start=False, properties={"session_expiry_interval": 600})
    assert after.pick(Connack).reason_code == ReasonCode.SERVER_UNAVAILABLE


def test_a_session_that_comes_to_the_disk_brings_its_open_exchanges_of_qos_2() -> None:
    core = Core()
    core.grant("reader", synced=True)
    number = core.grant("u", durability=MEMORY)
    reader = core.keep("reader", user_name="reader")
    reader.subscribe("t", qos=2)
    client = core.keep("c", user_name="u")
    for packet_id in (7, 8):
        client.publish("t", b"%d" % packet_id, 2, packet_id=packet_id)
        client.expect(Pubrec(packet_id))
        reader.take_qos_2(reader.publishes()[0])
    client.release(8)
    client.drop()
    core.granted = [grant for grant in core.granted if grant[0][2] != number]
    core._put_grant(credential("u", b"pw"), 1, number, "u", "", ("#",), ("#",), durability=SYNCED)
    core.resume("c", user_name="u")
    core = core.crash()
    reader = core.resume("reader", user_name="reader")
    client = core.resume("c", user_name="u")
    client.publish("t", b"7", 2, packet_id=7, dup=True)
    client.expect(Pubrec(7))
    assert reader.payloads() == []  # it was delivered before
    client.publish("t", b"new", 2, packet_id=8)
    assert reader.payloads() == [b"new"]
    core.end()
