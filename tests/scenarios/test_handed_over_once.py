"""What an ending session on disk leaves to a member of QoS 0 leaves when it is on disk that it did: at most once."""

from __future__ import annotations

import pytest

from broker.reasons import DropReason
from broker.wire import Disconnect, Subscription
from tests.support.core import MEMORY, RELAXED, SYNCED, Client, Core, credential

SHARED = "$share/g/t"


def inherited(count: int = 1, *, version: int = 5, durability: int = SYNCED, **limits: int) -> tuple[Core, Client]:
    """A member of QoS 0 that is there, while one of QoS 1 that was away ends, and the disk takes its time."""
    core = Core(**limits)
    core.grant(synced=True)
    core.grant("heir", durability=durability)
    away = core.keep("away")
    away.subscribe(SHARED, qos=1)
    away.drop()
    publisher = core.connect("publisher")
    for number in range(count):
        publisher.publish("t", b"%d" % number, 2)
    heir = core.connect("heir", version, user_name="heir")
    heir.subscribe(Subscription(SHARED, 0), identifier=7 if version == 5 else 0)
    core.hold()
    core.connecting("away")  # with Clean Start
    while core.store.answer_reads():
        core.run()
    return core, heir


@pytest.mark.clause("v5:MQTT-4.8.2-3")
@pytest.mark.parametrize("version", [4, 5])
def test_it_is_sent_when_the_other_session_has_it_no_more(version: int) -> None:
    core, heir = inherited(3, version=version)
    heir.expect()
    core.release()
    assert [(one.payload, one.qos, one.dup) for one in heir.publishes()] == [(b"%d" % n, 0, False) for n in range(3)]
    assert core.all_drops() == {}
    core.end()


def test_its_subscription_identifier_comes_with_it() -> None:
    core, heir = inherited()
    core.release()
    (one,) = heir.publishes()
    assert one.properties["subscription_identifier"] == (7,)
    core.end()


def test_a_crash_before_that_has_it_handed_over_once_more_and_sent_once() -> None:
    core, heir = inherited()
    heir.expect()
    core = core.crash()
    heir = core.connect("heir", user_name="heir")
    heir.subscribe(SHARED)
    core.connect("away")
    assert heir.payloads() == [b"0"]
    core = core.crash()
    heir = core.connect("heir", user_name="heir")
    heir.subscribe(SHARED)
    core.connect("away")
    heir.expect()
    core.end()


@pytest.mark.parametrize("durability", [MEMORY, RELAXED])
def test_who_was_promised_less_does_not_wait(durability: int) -> None:
    core, heir = inherited(durability=durability)
    assert heir.payloads() == [b"0"]
    core.end()


def test_who_leaves_meanwhile_does_not_get_it_and_that_is_counted() -> None:
    core, heir = inherited(2)
    heir.send(Disconnect())
    core.release()
    assert core.all_drops() == {DropReason.CLIENT_AWAY: 2}
    core.end()


def test_what_expires_meanwhile_is_dropped() -> None:
    core = Core()
    core.grant(synced=True)
    away = core.keep("away")
    away.subscribe(SHARED, qos=1)
    away.drop()
    core.connect("publisher").publish("t", b"x", 1, properties={"message_expiry_interval": 5})
    heir = core.connect("heir")
    heir.subscribe(SHARED)
    core.hold()
    core.connecting("away")
    while core.store.answer_reads():
        core.run()
    core.wait(6)
    core.release()
    heir.expect()
    assert core.all_drops() == {DropReason.MESSAGE_EXPIRED: 1}
    core.end()


def test_rights_that_end_meanwhile_end_it() -> None:
    core, heir = inherited()
    core.shard.put_grant(credential("another", b"pw"), 1, 2, "heir", "", ("#",), ("other",), durability=SYNCED)
    core.release()
    heir.expect()
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 1}
    core.end()


def test_what_waits_takes_no_more_memory_than_an_outbox() -> None:
    core, heir = inherited(50, outbox_soft_limit_bytes=1024)
    core.release()
    got = len(heir.publishes())
    assert 0 < got < 50
    assert core.all_drops() == {DropReason.NO_MEMBER: 50 - got}
    core.end()
