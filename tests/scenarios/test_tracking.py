"""What the core tells of messages that somebody asks about, and of what devices answer to them."""

from __future__ import annotations

import pytest

from broker.ports import TrackedKind
from broker.reasons import DropReason
from broker.wire import Puback, Pubcomp, Pubrec
from tests.support.core import Client, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])
TOPIC = "devices/d/commands"
TAKEN, SENT, ACKNOWLEDGED, DROPPED = (
    TrackedKind.TAKEN,
    TrackedKind.SENT,
    TrackedKind.ACKNOWLEDGED,
    TrackedKind.DROPPED,
)
SENT_ONCE, REFUSED, RETAINED, RELEASED = (
    TrackedKind.SENT_ONCE,
    TrackedKind.REFUSED,
    TrackedKind.RETAINED,
    TrackedKind.RELEASED,
)


class House:
    """A core with one device and an application; ``publish`` sends under the next tracking number."""

    def __init__(self, *, synced: bool = True, **limits: int) -> None:
        self.core = Core(**limits)
        self.device = self.core.grant("dev", device_id="d", synced=synced)
        self.core.grant("app", synced=synced)
        self.tracking = 100

    def connect(self, version: int = 5, qos: int = 1, client_id: str = "c", **fields: object) -> Client:
        """The device, whose session ends with its connection."""
        client = self.core.connect(client_id, version, user_name="dev", **fields)
        client.subscribe(TOPIC, qos=qos)
        return client

    def keep(self, version: int = 5, qos: int = 1, client_id: str = "c") -> Client:
        """The device, whose session outlives its connection."""
        client = self.core.keep(client_id, version, user_name="dev")
        client.subscribe(TOPIC, qos=qos)
        return client

    def publish(self, qos: int = 1, **options: object) -> int:
        self.tracking += 1
        self.core.shard.publish(
            1,
            TOPIC.encode(),
            b"x",
            qos,
            self.core.now_ns,
            tracking=self.tracking,
            **options,  # type: ignore[arg-type]
        )
        self.core.run()
        return self.tracking

    def told(self, core: Core | None = None) -> list[tuple[int, int]]:
        """Kinds and tracking numbers; every delivery's note is the device's."""
        notes = (core or self.core).shard.take_tracked()
        assert {principal for _, _, _, principal, _ in notes} <= {0, self.device}
        return [(kind, tracking) for kind, tracking, _, _, _ in notes]

    def reasons(self) -> list[tuple[int, DropReason]]:
        return [(kind, DropReason(reason)) for kind, _, _, _, reason in self.core.shard.take_tracked()]


@VERSIONS
@pytest.mark.parametrize("kept", [True, False])
def test_a_message_of_qos_1_is_taken_sent_and_acknowledged(version: int, kept: bool) -> None:
    house = House()
    client = house.keep(version) if kept else house.connect(version)
    number = house.publish()
    assert house.told() == [(TAKEN, number), (SENT, number)]
    (message,) = client.publishes()
    client.acknowledge(message.packet_id)
    assert house.told() == [(ACKNOWLEDGED, number)]
    assert house.told() == []


@VERSIONS
@pytest.mark.parametrize("kept", [True, False])
def test_a_message_of_qos_2_is_acknowledged_when_its_receiver_owns_it(version: int, kept: bool) -> None:
    house = House()
    client = house.keep(version, qos=2) if kept else house.connect(version, qos=2)
    number = house.publish(2)
    assert house.told() == [(TAKEN, number), (SENT, number)]
    (message,) = client.publishes()
    client.send(Pubrec(message.packet_id))
    assert house.told() == [(ACKNOWLEDGED, number)]
    client.send(Pubcomp(message.packet_id))
    assert house.told() == []


def test_a_message_of_qos_2_that_waits_for_its_identifier_is_not_sent_yet() -> None:
    house = House()
    client = house.keep(qos=2)
    house.core.hold()
    number = house.publish(2)
    assert house.told() == [(TAKEN, number)]
    assert client.publishes() == []
    house.core.release()
    assert house.told() == [(SENT, number)]
    assert len(client.publishes()) == 1


@VERSIONS
def test_a_message_of_qos_0_is_sent_once_and_refused_for_who_is_away(version: int) -> None:
    house = House()
    client = house.keep(version)
    number = house.publish(0)
    assert house.told() == [(SENT_ONCE, number)]
    client.drop()
    house.publish(0)
    assert house.reasons() == [(REFUSED, DropReason.CLIENT_AWAY)]


@VERSIONS
def test_what_waits_for_a_client_is_sent_when_it_is_back_and_a_second_time_says_nothing(version: int) -> None:
    house = House()
    house.keep(version).drop()
    numbers = [house.publish(), house.publish()]
    assert house.told() == [(TAKEN, numbers[0]), (TAKEN, numbers[1])]
    client = house.core.resume("c", version, user_name="dev")
    assert house.told() == [(SENT, numbers[0]), (SENT, numbers[1])]
    client.drop()
    client = house.core.resume("c", version, user_name="dev")
    again = client.publishes()
    assert [one.dup for one in again] == [True, True]
    assert house.told() == []
    client.acknowledge(*(one.packet_id for one in again))
    assert house.told() == [(ACKNOWLEDGED, numbers[0]), (ACKNOWLEDGED, numbers[1])]


@pytest.mark.parametrize("qos", [1, 2])
def test_after_a_crash_what_waits_is_told_again_and_its_later_way_is_seen(qos: int) -> None:
    house = House()
    client = house.keep(qos=qos)
    sent = house.publish(qos)
    client.drop()
    queued = house.publish(qos)
    house.told()
    core = house.core.crash()
    assert house.told(core) == [(TAKEN, sent), (TAKEN, queued)]
    core = core.crash()  # and over the records that were made of it
    assert house.told(core) == [(TAKEN, sent), (TAKEN, queued)]
    client = core.resume("c", user_name="dev")
    assert house.told(core) == [(SENT, queued)]
    for one in client.publishes():
        client.send(Puback(one.packet_id) if qos == 1 else Pubrec(one.packet_id))
    assert house.told(core) == [(ACKNOWLEDGED, sent), (ACKNOWLEDGED, queued)]


def test_an_acknowledgement_after_a_crash_counts_before_the_message_is_read_again() -> None:
    house = House(outbound_inflight_maximum=1)
    client = house.keep()
    number = house.publish()
    (message,) = client.publishes()
    core = house.core.crash()
    house.told(core)
    client = core.keep("c", user_name="dev", present=True)
    client.acknowledge(message.packet_id)
    assert (ACKNOWLEDGED, number) in house.told(core)


def test_a_session_that_ends_drops_what_it_has_queued_in_flight_and_on_disk_alone() -> None:
    house = House()
    client = house.keep()
    house.publish()
    client.drop()
    house.publish()
    first = house.core.shard.take_tracked()
    house.core.wait(601)
    ended = house.core.shard.take_tracked()
    assert [(kind, DropReason(reason)) for kind, _, _, _, reason in ended] == [(DROPPED, DropReason.SESSION_ENDED)] * 2
    by_number = {number: tracking for _, tracking, number, _, _ in first if number}
    known = sorted(tracking or by_number[number] for _, tracking, number, _, _ in ended)
    assert known == [101, 102]


def test_a_session_in_memory_drops_what_was_sent_and_not_acknowledged() -> None:
    house = House(synced=False)
    house.connect().drop()
    client = house.connect()
    house.publish()
    client.drop()
    assert [kind for kind, _ in house.told()] == [TAKEN, SENT, DROPPED]


def test_a_refusal_by_the_receiver_is_a_drop() -> None:
    house = House()
    client = house.connect()
    house.publish()
    (message,) = client.publishes()
    client.send(Puback(message.packet_id, 0x80))
    assert house.reasons()[-1] == (DROPPED, DropReason.NEGATIVE_ACK)


def test_what_expires_in_a_queue_is_dropped_for_that_when_its_client_is_back() -> None:
    house = House()
    house.keep().drop()
    house.publish(expiry_s=10)
    kept = house.publish(expiry_s=100)
    house.told()
    house.core.wait(11)
    client = house.core.resume("c", user_name="dev")
    notes = house.core.shard.take_tracked()
    assert [(kind, reason) for kind, _, _, _, reason in notes if kind == DROPPED] == [
        (DROPPED, DropReason.MESSAGE_EXPIRED)
    ]
    assert (SENT, kept) in [(kind, tracking) for kind, tracking, *_ in notes]
    (message,) = client.publishes()
    assert message.properties["message_expiry_interval"] == 89


def test_a_full_queue_refuses_or_lets_its_oldest_go() -> None:
    house = House(queue_messages_maximum=1)
    house.keep().drop()
    house.publish()
    house.publish()
    assert house.reasons()[-1] == (REFUSED, DropReason.QUEUE_FULL)
    house = House(queue_messages_maximum=1, queue_full_policy=1)
    house.keep().drop()
    house.publish()
    house.publish()
    assert sorted(house.reasons()) == [
        (TAKEN, DropReason(0)), (TAKEN, DropReason(0)), (DROPPED, DropReason.QUEUE_FULL)
    ]  # fmt: skip


def test_of_an_application_nothing_is_told() -> None:
    house = House()
    application = house.core.connect("app", user_name="app")
    application.subscribe("devices/+/commands", qos=1)
    house.publish()
    assert house.told() == []
    assert len(application.publishes()) == 1


def test_each_session_of_a_device_is_told() -> None:
    house = House()
    house.connect(client_id="one")
    house.connect(client_id="two")
    assert house.publish()
    assert sorted(kind for kind, _ in house.told()) == [TAKEN, TAKEN, SENT, SENT]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_retained_message_waits_for_whoever_subscribes_over_a_crash(qos: int) -> None:
    house = House()
    number = house.publish(qos, retain=True)
    assert house.told() == [(RETAINED, number)]
    core = house.core.crash()
    assert house.told(core) == [(RETAINED, number)]
    client = core.connect("late", user_name="dev")
    client.subscribe(TOPIC, qos=1)
    (message,) = client.publishes()
    assert message.retain
    if qos:
        assert house.told(core) == [(TAKEN, number), (SENT, number)]
        client.acknowledge(message.packet_id)
        assert house.told(core) == [(ACKNOWLEDGED, number)]
    else:
        assert house.told(core) == [(SENT_ONCE, number)]


def test_a_retained_message_is_released_when_it_is_replaced_cleared_or_expires() -> None:
    house = House()
    first = house.publish(retain=True)
    house.told()
    second = house.publish(retain=True, expiry_s=10)
    assert house.told() == [(RELEASED, first), (RETAINED, second)]
    house.core.wait(11)
    assert house.told() == [(RELEASED, second)]
    third = house.publish(retain=True)
    house.core.publish_retained(TOPIC, b"")
    assert house.told() == [(RETAINED, third), (RELEASED, third)]


def test_an_untracked_message_says_nothing() -> None:
    house = House()
    client = house.keep()
    house.core.publish(TOPIC, b"x", 1)
    house.core.publish_retained(TOPIC, b"x", 1)
    for one in client.publishes():
        client.acknowledge(one.packet_id)
    client.drop()
    house.core.wait(601)
    assert house.told() == []


# ---------------------------------------------------------------- answers


def answered(house: House) -> list[tuple[int, bytes, bytes | None, int]]:
    return house.core.shard.take_answers()


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_a_device_answers_is_heard_where_somebody_asks(version: int, qos: int) -> None:
    house = House()
    client = house.connect(version)
    client.publish("devices/d/events/commands/m-1", b"early", qos)
    assert answered(house) == []
    house.core.shard.hear_answers(1)
    client.publish("devices/d/events/commands/m-1", b"done", qos)
    assert answered(house) == [(house.device, b"m-1", b"done", 4)]
    assert answered(house) == []


@pytest.mark.parametrize(
    "topic",
    [
        "devices/d/events/commands",
        "devices/d/events/commands/",
        "devices/d/events/commands/a/b",
        "devices/d/events/commands/" + "a" * 65,
        "devices/e/events/commands/a",
        "devices/d/events/command/a",
        "devices/dd/events/commands/a",
        "xevices/d/events/commands/a",
        "devices/d/telemetry",
    ],
)
def test_what_is_no_answer_of_its_own_is_not_heard(topic: str) -> None:
    house = House()
    house.core.shard.hear_answers(1)
    client = house.connect()
    client.publish(topic, b"x", 1)
    assert answered(house) == []
    application = house.core.connect("app", user_name="app")
    application.publish("devices/d/events/commands/a", b"x", 1)
    assert answered(house) == []


def test_an_empty_answer_is_one_and_a_large_one_is_told_by_its_length() -> None:
    house = House()
    house.core.shard.hear_answers(1)
    client = house.connect()
    client.publish("devices/d/events/commands/a", b"", 1)
    client.publish("devices/d/events/commands/b", bytes(16 * 1024), 1)
    client.publish("devices/d/events/commands/" + "c" * 64, bytes(16 * 1024 + 1), 1)
    assert answered(house) == [
        (house.device, b"a", b"", 0),
        (house.device, b"b", bytes(16 * 1024), 16 * 1024),
        (house.device, b"c" * 64, None, 16 * 1024 + 1),
    ]


@pytest.mark.parametrize("qos", [1, 2])
def test_an_answer_is_acknowledged_when_the_batch_that_may_record_it_is_on_disk(qos: int) -> None:
    house = House()
    house.core.shard.hear_answers(1)
    client = house.connect()
    house.core.hold()
    house.core.shard.put("tracked", b"k" * 8, b"as Python records it")
    client.publish("devices/d/events/commands/a", b"x", qos)
    assert client.received() == []
    house.core.release()
    assert len(client.received()) == 1
    client.publish("devices/d/telemetry", b"x", 1)
    assert len(client.received()) == 1


def test_an_answer_sent_again_is_heard_once_with_qos_2() -> None:
    house = House()
    house.core.shard.hear_answers(1)
    client = house.connect()
    number = client.publish("devices/d/events/commands/a", b"x", 2)
    client.publish("devices/d/events/commands/a", b"x", 2, packet_id=number, dup=True)
    assert len(answered(house)) == 1


def test_very_many_answers_of_an_account_are_bounded_and_leave_room_for_others() -> None:
    house = House()
    other = house.core.grant("other", account_id=2, device_id="d")
    for account_id in (1, 2):
        house.core.shard.hear_answers(account_id)
    client = house.connect()
    for _ in range(300):
        client.publish("devices/d/events/commands/a", bytes(16 * 1024), 0, run=False)
    house.core.connect("o", user_name="other").publish("devices/d/events/commands/b", b"x", 1)
    found = answered(house)
    assert len(found) == 256 + 1
    assert found[-1] == (other, b"b", b"x", 1)
    assert house.core.shard.counters()["tracked_lost"] == 44
    for _ in range(1100):
        client.publish("devices/d/events/commands/a", b"", 0, run=False)
    assert len(answered(house)) == 1024
    client.publish("devices/d/events/commands/a", b"x", 0)
    assert len(answered(house)) == 1
