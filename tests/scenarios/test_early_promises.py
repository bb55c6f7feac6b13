"""An acknowledgement that leaves before its ticket: only when all who keep the message have acknowledged all of it."""

from __future__ import annotations

import pytest

from broker.wire import Connack, Disconnect, Puback, Will
from tests.support.core import Client, Core


def made() -> tuple[Core, Client]:
    """A core and a publisher."""
    core = Core()
    core.grant(synced=True)
    return core, core.connect("publisher")


def stall(core: Core) -> None:
    """A batch is under way, for a long time."""
    core.hold()
    core.in_flight = True


def go_on(core: Core) -> None:
    core.in_flight = False
    core.release()


def test_what_a_client_gets_once_more_by_its_group_is_on_disk_before_its_publisher_is_told() -> None:
    core, publisher = made()
    member = core.keep("member")
    member.subscribe("t", "$share/g/t", qos=1)
    stall(core)
    publisher.publish("t", b"x", 1)
    one, other = member.publishes()
    member.acknowledge(one.packet_id)
    publisher.expect()  # the other one is a record of its own, and on no disk
    member.acknowledge(other.packet_id)
    go_on(core)
    publisher.expect(Puback(1))
    core.end()


def members(core: Core, *, qos: int = 1) -> list[Client]:
    """Two sessions on disk in one shared group."""
    found = [core.keep(name) for name in ("one", "other")]
    for member in found:
        member.subscribe("$share/g/t", qos=qos)
    return found


def test_what_an_ending_session_had_sent_is_on_disk_for_another_before_its_publisher_is_told() -> None:
    core, publisher = made()
    clients = members(core)
    stall(core)
    publisher.publish("t", b"x", 1)
    (taker,) = [client for client in clients if client.publishes()]
    taker.send(Disconnect(0, {"session_expiry_interval": 0}))
    publisher.expect()  # a crash now would leave it to neither
    go_on(core)
    publisher.expect(Puback(1))
    core = core.crash()
    assert core.shard.journal()["deliveries"] == 1
    core.end()


def test_what_an_ending_session_had_queued_is_on_disk_for_another_before_its_publisher_is_told() -> None:
    core, one = made()
    other = core.connect("another publisher")
    for client in members(core):
        client.drop()
    stall(core)
    one.publish("t", b"x", 1)  # each member has one of them
    other.publish("t", b"y", 1)
    core.connecting("one")  # with Clean Start
    one.expect()
    other.expect()
    go_on(core)
    one.expect(Puback(1))
    other.expect(Puback(1))
    core = core.crash()
    assert sorted(core.resume("other").payloads()) == [b"x", b"y"]
    core.end()


@pytest.mark.parametrize("away", [False, True])
def test_an_end_of_a_session_is_no_acknowledgement_of_what_it_had(away: bool) -> None:
    core, publisher = made()
    client = core.keep("c")
    client.subscribe("t", qos=1)
    if away:
        client.drop()
    stall(core)
    publisher.publish("t", b"x", 1)
    if away:
        core.connecting("c")  # with Clean Start
    else:
        client.send(Disconnect(0, {"session_expiry_interval": 0}))
    publisher.expect()  # after a crash its session would be there
    go_on(core)
    publisher.expect(Puback(1))
    core.end()


# ---------------------------------------------------------------- CONNACK while the disk takes nothing

KEPT = {"session_expiry_interval": 60}


@pytest.mark.parametrize("version", [4, 5])
def test_a_session_that_is_not_on_disk_yet_is_not_found_while_the_disk_takes_nothing(version: int) -> None:
    core, _ = made()
    properties = KEPT if version == 5 else {}
    core.hold()
    client = core.connecting("c", version, clean_start=False, properties=properties)
    client.expect()
    client.drop()  # it was told nothing, and comes again
    core.shard.set_refusing(True)
    again = core.connecting("c", version, clean_start=False, properties=properties)
    assert again.closed_with(0x88 if version == 5 else 3) == []
    core.release()
    core.shard.set_refusing(True)
    core.resume("c", version)  # it is on disk by now
    core.end()


def test_a_client_is_not_told_that_its_session_has_gone_while_the_disk_does_not_know() -> None:
    core, _ = made()
    core.keep("c").drop()
    core.hold()
    client = core.connecting("c")  # with Clean Start: the kept one ends
    client.expect()
    client.drop()
    core.shard.set_refusing(True)
    assert core.connecting("c").closed_with(0x88) == []
    core.connect("somebody else")
    core.release()
    core.shard.set_refusing(True)
    core.connect("c")
    core.end()


def test_of_many_sessions_that_end_each_waits_for_its_own_end() -> None:
    core, _ = made()
    for number in range(300):
        core.keep(f"c{number}", properties={"session_expiry_interval": 10}).drop()
    core.hold()
    core.wait(11)
    waiting = [core.connecting(f"c{number}") for number in range(0, 300, 7)]
    assert not any(client.received() for client in waiting)
    core.connect("somebody else")
    core.release()
    for client in waiting:
        assert not client.pick(Connack).session_present
    core.hold()
    core.connect("c1")
    core.end()


def test_a_client_that_was_lost_with_its_will_alone_comes_back_while_the_disk_takes_nothing() -> None:
    core, _ = made()
    core.connect("c", will=Will("w", b"gone"))
    core.connect("d", will=Will("w", b"gone"))
    core = core.crash()
    core.shard.set_refusing(True)
    core.connect("c")
    core.wait(31)  # its will is published, and what bore it is gone
    core.connect("d")
    core.end()
