"""Rights that shrink while messages lie on the disk, or on their way there: none of them is delivered afterwards."""

from __future__ import annotations

import pytest

from broker.reasons import DropReason
from broker.wire import Publish, Pubrec, Pubrel
from tests.support.core import Client, Core, credential

NARROW = ("open/#",)
WIDE = ("#",)
KEPT_IN_MEMORY = 1024  # of a client that is there: session.QUEUED_IN_MEMORY
QOS = pytest.mark.parametrize("qos", [1, 2])


def made(**options: int) -> Core:
    core = Core(**options)
    core.grant("durable", synced=True)
    core.grant("plain")
    return core


def allow(core: Core, subscribe: tuple[str, ...]) -> None:
    """The receiver may have this from now on; who is there with the credential is cut."""
    core._put_grant(credential("durable", b"pw"), 1, 1, "durable", "", ("#",), subscribe, durability=2)
    core.run()


def receiver(core: Core, qos: int, **properties: int) -> Client:
    client = core.keep("s", user_name="durable", properties=properties)
    client.subscribe("secret/#", "open/#", qos=qos)
    return client


def fill(core: Core, count: int, qos: int) -> None:
    """One secret message after each open one."""
    for number in range(count):
        core.publish("open/1", b"%d" % number, qos)
        core.publish("secret/1", b"not for it", qos)


def come(core: Core) -> list[bytes]:
    """Everything that is sent to the receiver when it returns, and is acknowledged."""
    client, found = core.resume("s", user_name="durable"), []
    while packets := client.received():
        for one in packets:
            if isinstance(one, Publish):
                found.append(one.payload)
                if one.qos == 1:
                    client.acknowledge(one.packet_id)
                else:
                    client.take_qos_2(one)
    return found


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@QOS
def test_what_is_on_the_disk_alone_is_judged_when_it_is_read(qos: int) -> None:
    core = made()
    receiver(core, qos).drop()
    fill(core, 3, qos)
    allow(core, NARROW)
    assert come(core) == numbers(3)
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 3}
    core.end()


@QOS
@pytest.mark.parametrize("batch", ["open", "being written"])
def test_what_is_on_its_way_to_the_disk_is_judged_when_it_is_taken_from_there(qos: int, batch: str) -> None:
    core = made()
    receiver(core, qos).drop()
    core.hold()
    if batch == "open":  # behind one that is being written
        core.publish("open/2", b"first", qos)
    fill(core, 3, qos)
    allow(core, NARROW)
    core.shard.set_refusing(True)  # so that the CONNACK waits for nothing
    client = core.resume("s", user_name="durable")
    first = [b"first"] if batch == "open" else []
    if qos == 1:
        assert client.payloads() == [*first, *numbers(3)]
    else:  # what was not recorded in flight may not leave before it is
        assert client.payloads() == []
    core.shard.set_refusing(False)
    core.release()
    client.drop()
    assert come(core) == [*first, *numbers(3)]
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 3}
    core.end()


@QOS
def test_what_waits_on_the_disk_behind_a_full_memory_is_judged_too(qos: int) -> None:
    core = made(queue_messages_maximum=10_000)
    receiver(core, qos, receive_maximum=1)
    sent = 2 + KEPT_IN_MEMORY // 2
    fill(core, sent, qos)
    allow(core, NARROW)
    assert core.drops(DropReason.NOT_AUTHORIZED) == KEPT_IN_MEMORY // 2
    assert come(core) == numbers(sent)
    assert core.drops(DropReason.NOT_AUTHORIZED) == sent
    core.end()


@QOS
def test_rights_that_shrink_while_the_disk_is_read_are_those_that_count(qos: int) -> None:
    core = made()
    receiver(core, qos).drop()
    fill(core, 3, qos)
    core.hold()
    core.shard.set_refusing(True)
    client = core.resume("s", user_name="durable")
    assert core.reading
    allow(core, NARROW)
    core.shard.set_refusing(False)
    core.release()
    assert not client.is_open
    assert come(core) == numbers(3)
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 3}
    core.end()


@QOS
def test_what_was_dropped_for_want_of_rights_does_not_come_back_with_them(qos: int) -> None:
    core = made()
    receiver(core, qos).drop()
    fill(core, 2, qos)
    allow(core, NARROW)
    assert come(core) == numbers(2)
    allow(core, WIDE)
    core = core.crash()
    assert come(core) == []
    core.end()


@pytest.mark.parametrize("returns", ["before it is on disk", "when it is on disk"])
def test_what_has_an_identifier_and_has_never_left_is_judged_before_it_does(returns: str) -> None:
    core = made()
    client = receiver(core, 2)
    core.hold()
    core.publish("secret/1", b"not for it", 2)
    core.publish("open/1", b"0", 2)
    assert client.payloads() == []  # they wait for the disk
    allow(core, NARROW)
    assert not client.is_open
    if returns == "when it is on disk":
        core.release()
    else:
        core.shard.set_refusing(True)
        early = core.resume("s", user_name="durable")
        core.shard.set_refusing(False)
        core.release()
        early.drop()
    assert come(core) == [b"0"]
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 1}
    core.end()


def test_a_second_credential_is_still_there_when_what_never_left_is_judged() -> None:
    core = made()
    core._put_grant(credential("other", b"pw"), 1, 1, "durable", "", ("#",), WIDE, durability=2)
    client = core.keep("s", user_name="other")
    client.subscribe("secret/#", "open/#", qos=2)
    core.hold()
    core.publish("secret/1", b"not for it", 2)
    core.publish("open/1", b"0", 2)
    allow(core, NARROW)
    assert client.is_open  # it came in with another one
    core.release()
    assert client.payloads() == [b"0"]
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 1}
    core.end()


@pytest.mark.clause("v5:MQTT-4.4.0-1", "v311:MQTT-4.4.0-1")
@QOS
@pytest.mark.parametrize("restart", [False, True])
def test_what_has_been_sent_is_sent_again_whatever_its_receiver_may_have_by_then(qos: int, restart: bool) -> None:
    # It may have it already, and an exchange of QoS 2 has to come to its end.
    core = made()
    client = receiver(core, qos)
    core.publish("secret/1", b"sent", qos)
    (sent,) = client.publishes()
    client.drop()
    allow(core, NARROW)
    if restart:
        core = core.crash()
    again = core.resume("s", user_name="durable")
    (found,) = again.publishes()
    assert (found.payload, found.packet_id, found.dup) == (b"sent", sent.packet_id, True)
    if qos == 1:
        again.acknowledge(found.packet_id)
    else:
        again.send(Pubrec(found.packet_id))
        again.expect(Pubrel(found.packet_id))
    core.end()
