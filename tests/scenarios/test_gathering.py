"""What gathers for a disk that takes nothing has bounds, whatever clients do meanwhile."""

from __future__ import annotations

import pytest

from broker.wire import Suback, Subscribe, Subscription
from tests.support.core import Core

LONG = "x" * 60_000


def made() -> Core:
    core = Core(server_receive_maximum=1000)
    core.grant("one", synced=True)
    core.grant("other", account_id=2, synced=True)
    return core


def refuse(core: Core) -> None:
    """The disk takes nothing: a batch is under way for ever."""
    core.hold()
    core.in_flight = True
    core.shard.set_refusing(True)


def go_on(core: Core) -> None:
    core.shard.set_refusing(False)
    core.in_flight = False
    core.release()


def gathered(core: Core) -> int:
    return core.shard.open_batch_bytes()


@pytest.mark.parametrize("version", [4, 5])
def test_a_client_that_comes_and_goes_has_one_record(version: int) -> None:
    core = made()
    core.keep("c", version, user_name="one").drop()
    refuse(core)
    core.resume("c", version, user_name="one").drop()
    before = gathered(core)
    for _ in range(20):
        core.resume("c", version, user_name="one").drop()
    assert gathered(core) == before
    core.wait(30)
    core.resume("c", version, user_name="one")
    go_on(core)
    core = core.crash()
    core.wait(599)  # it was there until the crash
    core.resume("c", version, user_name="one")
    core.end()


def test_a_subscription_that_is_made_again_as_it_is_needs_no_disk() -> None:
    core = made()
    client = core.keep("c", user_name="one")
    client.subscribe("t/#", qos=1, identifier=3)
    core.hold()
    client.subscribe("t/#", qos=1, identifier=3)
    assert gathered(core) == 0
    client.send(Subscribe(2, (Subscription("t/#", 2),)))
    client.expect()  # another QoS is another subscription
    core.release()
    client.expect(Suback(2, (2,)))
    core = core.crash()
    client = core.resume("c", user_name="one")
    core.connect("p", user_name="one").publish("t/x", b"", 2)
    (delivery,) = client.publishes()
    assert (delivery.qos, delivery.properties) == (2, {})
    core.end()


def test_retained_messages_come_with_each_subscribe_also_while_nothing_is_written() -> None:
    core = made()
    client = core.keep("c", user_name="one")
    core.publish_retained("t/x", b"r")
    client.subscribe("t/#", qos=1)
    assert client.payloads() == [b"r"]
    client.subscribe("t/#", qos=1)
    assert client.payloads() == [b"r"]
    core.end()


def test_subscriptions_of_one_account_do_not_fill_the_memory_nor_keep_out_another() -> None:
    core = made()
    names = [(user, f"{user} {number}") for user in ("one", "other") for number in range(3)]
    for user, name in names:
        core.keep(name, user_name=user).drop()
    refuse(core)
    for _ in range(10):
        for number in range(3):
            client = core.resume(f"one {number}", user_name="one")
            for packet_id in range(1, 20):
                client.send(Subscribe(packet_id, (Subscription(LONG, packet_id % 2),)))
                core.shard.unsubscribe(client.handle, LONG.encode())
            client.drop()
    assert gathered(core) < 6 * 1024 * 1024
    client = core.resume("one 0", user_name="one")
    client.send(Subscribe(1, (Subscription(LONG, 1), Subscription("known", 1))))
    other = core.resume("other 0", user_name="other")
    other.send(Subscribe(1, (Subscription(LONG, 1),)))
    go_on(core)
    (answer,) = client.received()
    assert isinstance(answer, Suback)
    assert answer.reason_codes[0] == 0x97
    assert other.received() == [Suback(1, (1,))]
    assert client.subscribe(LONG, qos=1) == (1,)
    core.end()
