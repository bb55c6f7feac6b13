"""Rights that end or shrink: what they took with them, and what waits for their return."""

from __future__ import annotations

import pytest

from broker.reasons import DropReason
from broker.wire import Will
from tests.support.core import START_NS, Client, Core, credential

VERSIONS = pytest.mark.parametrize("version", [4, 5])
KEPT = {"session_expiry_interval": 3600}
NARROW = ("devices/d/commands/#",)


def remove(core: Core, number: int, name: str = "d") -> None:
    """As when a device is deleted."""
    core.shard.remove_grant(credential(name, b"pw"))
    core.shard.revoke_principal(number, core.now_ns)
    core.run()


def allow(core: Core, number: int, subscribe: tuple[str, ...], publish: tuple[str, ...] = ("#",)) -> None:
    core.shard.put_grant(credential("d", b"pw"), 1, number, "d", "d", publish, subscribe)
    core.run()


@VERSIONS
def test_a_deleted_device_leaves_nothing(core: Core, version: int) -> None:
    number = core.grant("d", device_id="d")
    fields = {"properties": KEPT} if version == 5 else {"clean_start": False}
    online = core.connect("c1", version, user_name="d", **fields)
    online.subscribe("t", qos=1)
    away = core.connect("c2", version, user_name="d", **fields)
    away.subscribe("t", qos=1)
    away.drop()
    core.publish("t", b"queued", 1)
    remove(core, number)
    online.closed_with(0x98) if version == 5 else online.closed_with(None)
    found = core.figures()
    assert (found["sessions"], found["subscriptions"], found["messages_kept"]) == (0, 0, 0)
    assert core.shard.revoke_principal(number, core.now_ns) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("delay_s", [0, 60])
def test_a_deleted_devices_will_is_not_published(core: Core, delay_s: int) -> None:
    number = core.grant("d", device_id="d")
    reader = core.connect("reader")
    reader.subscribe("gone")
    will = Will("gone", b"", 0, False, {"will_delay_interval": delay_s} if delay_s else {})
    client = core.connect("c", user_name="d", properties=KEPT, will=will)
    waiting = core.connect("w", user_name="d", properties=KEPT, will=will)
    if delay_s:
        waiting.drop()
    remove(core, number)
    core.wait(4000)
    assert reader.payloads() == []
    assert not client.is_open


def test_a_credential_that_ends_keeps_the_sessions_and_takes_the_wills(core: Core) -> None:
    number = core.grant("d", device_id="d")
    reader = core.connect("reader")
    reader.subscribe("gone")
    client = core.connect("c", user_name="d", properties=KEPT, will=Will("gone", b""))
    client.subscribe("t", qos=1)
    core.shard.remove_grant(credential("d", b"pw"))
    core.run()
    client.closed_with(0x98)
    core.publish("t", b"meanwhile", 1)
    assert reader.payloads() == []
    assert core.drops(DropReason.NOT_AUTHORIZED) == 1
    allow(core, number, ("#",))
    again = core.connect("c", user_name="d", clean_start=False, properties=KEPT)
    assert again.payloads() == [b"meanwhile"]


def test_while_another_credential_stands_for_it_a_will_is_published(core: Core) -> None:
    number = core.grant("d", device_id="d")
    core.shard.put_grant(credential("d", b"new"), 1, number, "d", "d", ("#",), ("#",))
    reader = core.connect("reader")
    reader.subscribe("gone")
    core.connect("c", user_name="d", will=Will("gone", b"old password"))
    core.shard.remove_grant(credential("d", b"pw"))
    core.run()
    assert reader.payloads() == [b"old password"]


def test_subscriptions_that_are_not_covered_any_more_end_with_the_rights(core: Core) -> None:
    number = core.grant("d", device_id="d")
    client = core.connect("c", user_name="d", properties=KEPT)
    filters = ("a", "a/+", "a/#", "#", "+", "+/b/+/c", "/", "devices/d/commands", "devices/d/commands/+/x")
    client.subscribe(*filters, qos=1)
    client.drop()
    allow(core, number, NARROW)
    assert core.figures()["subscriptions"] == 2
    assert core.publish("a/b", b"not for it", 1) == 0
    assert core.publish("devices/d/commands/1/x", b"for it", 1) == 1
    again = core.connect("c", user_name="d", clean_start=False, properties=KEPT)
    assert again.described["subscriptions"] == 2
    assert again.payloads() == [b"for it"]
    assert again.unsubscribe(*filters) == (0x11,) * 7 + (0, 0)


def test_messages_that_wait_on_topics_without_a_right_are_dropped(core: Core) -> None:
    number = core.grant("d", device_id="d")
    client = core.connect("c", user_name="d", properties=KEPT)
    client.subscribe("#", qos=1)
    client.drop()
    for at in range(20):
        core.publish("devices/d/commands" if at % 3 == 0 else "secret", b"%d" % at, 1)
    allow(core, number, NARROW)
    assert core.all_drops() == {DropReason.NOT_AUTHORIZED: 13}
    again = core.connect("c", user_name="d", clean_start=False, properties=KEPT)
    assert again.payloads() == [b"%d" % at for at in range(0, 20, 3)]


def test_rights_that_grow_take_nothing(core: Core) -> None:
    number = core.grant("d", device_id="d", subscribe=NARROW)
    client = core.connect("c", user_name="d", properties=KEPT)
    client.subscribe("devices/d/commands/#", qos=1)
    client.drop()
    allow(core, number, ("#",))
    assert core.figures()["subscriptions"] == 1
    assert core.now_ns == START_NS


def test_a_session_that_returns_with_less_rights_is_judged_by_them(core: Core) -> None:
    number = 950
    client = core.connecting("c", user_name="x", properties=KEPT)
    core.admit(core.asked.pop()[0], principal_id=number)
    client.subscribe("secret", qos=1)
    client.drop()
    core.publish("secret", b"queued", 1)
    again = core.connecting("c", user_name="x", clean_start=False, properties=KEPT)
    core.admit(core.asked.pop()[0], principal_id=number, subscribe=("open/#",))
    again.received()
    assert again.described["subscriptions"] == 0
    assert core.drops(DropReason.NOT_AUTHORIZED) == 1
    assert core.publish("secret", b"later", 1) == 0


def test_who_was_cut_and_is_let_in_again_has_a_will_and_retained_messages(core: Core) -> None:
    # By an Authenticator of one's own: no credential of the table says that the rights are back.
    reader = core.connect("reader")
    reader.subscribe("gone")

    def enter() -> Client:
        client = core.connecting("c", user_name="own", will=Will("gone", b"lost"))
        core.admit(core.asked.pop()[0])
        return client

    first = enter()
    first.publish("kept", b"x", retain=True)  # by which its principal stays known
    core.shard.revoke_principal(900, core.now_ns)
    core.run()
    assert not first.is_open
    assert reader.payloads() == []
    again = enter()
    reader.subscribe("kept")
    assert reader.payloads() == [b"x"]
    again.drop()
    assert reader.payloads() == [b"lost"]


def test_what_a_device_has_set_as_retained_waits_while_its_credential_is_away(core: Core) -> None:
    number = core.grant("d", device_id="d")
    core.connect("c", user_name="d").publish("status", b"on", retain=True)
    core.shard.remove_grant(credential("d", b"pw"))
    reader = core.connect("reader")
    reader.subscribe("#")
    assert reader.payloads() == []
    allow(core, number, ("#",))
    reader.subscribe("#")
    assert reader.payloads() == [b"on"]


def test_rights_that_nobody_has_any_more_are_forgotten_and_others_are_not(core: Core) -> None:
    number = core.grant("d", device_id="d", subscribe=("kept",))
    client = core.connect("c", user_name="d", properties=KEPT, will=Will("gone", b"will"))
    client.subscribe("kept", qos=1)
    offline = core.connect("away", user_name="d", properties=KEPT)
    offline.subscribe("kept", qos=1)
    offline.drop()
    for at in range(3000):
        digest = credential(f"app-{at}", b"pw")
        core.shard.put_grant(digest, 1, 10_000 + at, f"app-{at}", "", (f"jobs/{at}",), (f"jobs/{at}/#",))
        core.shard.remove_grant(digest)
    assert core.shard.counters()["policies"] < 600
    assert core.shard.put_grant(credential("d", b"pw"), 1, number, "d", "d", ("#",), ("kept",)) is None
    assert client.is_open  # the same rights: nobody was cut
    core.publish("kept", b"x", 1)
    assert client.payloads() == [b"x"]
    assert client.subscribe("other") == (0x87,)
    reader = core.connect("reader")
    reader.subscribe("gone")
    client.drop()
    assert reader.payloads() == [b"will"]
    again = core.connect("away", user_name="d", clean_start=False, properties=KEPT)
    assert again.payloads() == [b"x"]


def test_rights_of_who_is_still_connected_outlive_their_credential(core: Core) -> None:
    clients = []
    for at in range(700):
        core.shard.put_grant(
            credential(f"app-{at}", b"pw"), 1, 10_000 + at, f"app-{at}", "", (f"jobs/{at}",), (f"jobs/{at}/#",)
        )
        clients.append(core.connect(f"c{at}", user_name=f"app-{at}"))
    assert core.shard.counters()["policies"] >= 700
    for at, client in enumerate(clients):
        assert client.subscribe(f"jobs/{at}/1", "jobs/none") == (0, 0x87)
    for at in range(700):
        core.shard.remove_grant(credential(f"app-{at}", b"pw"))
    core.run()
    assert not any(client.is_open for client in clients)
    for at in range(2000):
        core.shard.put_grant(credential("last", b"pw"), 1, 9000, "last", "", (f"t/{at}",), ())
    assert core.shard.counters()["policies"] < 1500
