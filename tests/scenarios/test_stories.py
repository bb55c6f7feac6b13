"""What the core tells of devices: what happened, in whose turn, and what a flood of it costs others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.accounts.timeline_words import WORDS, code_of
from broker.engine.core import RareKind
from broker.net.gateway import story_of
from broker.ports import AccountLimits, GrantLimits
from broker.reasons import DropReason
from broker.stories import Event, EventKind, Farewell, Refused, Story
from broker.wire import Connect, Disconnect, Publish, Will
from tests.support.core import SECOND_NS, WALL_NS, Client, Core

VERSIONS = pytest.mark.parametrize("version", [4, 5])
HERE = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 7])
THERE = bytes.fromhex("20010db8000000000000000000000001")


@pytest.fixture
def told(core: Core) -> Core:
    """A core that is watched, with one device `dev` that may publish to its own telemetry."""
    core.shard.watch_stories()
    device(core, "dev")
    return core


def device(core: Core, name: str, **fields: object) -> int:
    rights = {"publish": ("devices/{device_id}/telemetry/#",), "subscribe": ("devices/{device_id}/commands/#",)}
    return core.grant(name, device_id=name, **{**rights, **fields})  # type: ignore[arg-type]


def connect(core: Core, client_id: str = "c", version: int = 5, name: str = "dev", **fields: object) -> Client:
    return core.connect(client_id, version, user_name=name, **fields)


def stories(core: Core) -> list[Story]:
    return [story_of(one) for one in core.shard.take_stories()]


def gathered(core: Core) -> list[Story]:
    return [story_of(one) for one in core.shard.take_gathered()]


def only(found: list[Story]) -> Story:
    (story,) = found
    return story


def event(core: Core) -> Event:
    (found,) = only(stories(core)).events
    return found


def from_address(core: Core, address: bytes, client_id: str, listener: int = 0) -> Client:
    handle = core.shard.open_connection(listener, core.now_ns, address=address)
    client = Client(core, handle, 5)
    core.clients.append(client)
    client.send(Connect(client_id, clean_start=True, user_name="dev", password=b"pw"))
    return client


# ---------------------------------------------------------------- coming and going


def test_a_connect_tells_who_came_from_where_and_when(told: Core) -> None:
    told.shard.set_door(2, 3)
    told.wait(1.5)
    from_address(told, HERE, "client", listener=2)
    story = only(stories(told))
    assert (story.account_id, story.device_id, story.was_online, story.is_online) == (1, "dev", False, True)
    at = WALL_NS + round(1.5 * SECOND_NS)
    assert story.events == [Event(EventKind.CONNECTED, 0, at, at, 1, 5, 3, False, "192.0.2.7", "", "client")]
    assert stories(told) == []


def test_a_session_that_goes_on_is_told(told: Core) -> None:
    told.keep("c", user_name="dev").drop()
    stories(told)
    told.resume("c", user_name="dev")
    assert event(told).resumed


def leave(client: Client, reason_code: int = 0) -> None:
    client.send(Disconnect(reason_code) if client.version == 5 else b"\xe0\x00")


ENDS: dict[str, tuple[Callable[[Core, Client], object], int, str]] = {
    "good-bye": (lambda _, client: leave(client), Farewell.NORMAL, "disconnected"),
    "with will": (lambda _, client: leave(client, 4), Farewell.WITH_WILL, "disconnected_with_will"),
    "network": (lambda _, client: client.drop(), Farewell.LOST, "connection_lost"),
    "keep alive": (lambda core, _: core.wait(16), 0x8D, "keep_alive_timeout"),
    "protocol": (lambda _, client: client.send(b"\xf0\x00\x00"), 0x82, "protocol_error"),
    "too large": (lambda _, client: client.send(b"\x30\xff\xff\xff\x7f"), 0x95, "packet_too_large"),
    "revoked": (lambda core, _: core.shard.remove_grant(core.granted[-1][0][0]), 0x98, "access_ended"),
    "stopped": (lambda core, _: core.shard.fail_all(0x8B), 0x8B, "broker_stopped"),
}


@pytest.mark.parametrize("end", ENDS, ids=str)
def test_the_end_of_a_connection_has_its_reason(told: Core, end: str) -> None:
    ends, reason, code = ENDS[end]
    client = connect(told, keep_alive_s=10)
    stories(told)
    ends(told, client)
    story = only(stories(told))
    assert (story.was_online, story.is_online) == (True, False)
    assert [(one.kind, one.reason) for one in story.events] == [(EventKind.DISCONNECTED, reason)]
    assert code_of(story.events[0]) == code


def test_who_is_gone_and_back_before_anybody_looks_was_not_away(told: Core) -> None:
    connect(told).drop()
    connect(told)
    story = only(stories(told))
    assert (story.was_online, story.is_online) == (False, True)
    told.clients[-1].drop()
    connect(told)
    story = only(stories(told))
    assert (story.was_online, story.is_online) == (True, True)
    assert [one.kind for one in story.events] == [EventKind.DISCONNECTED, EventKind.CONNECTED]


def test_the_second_of_two_connections_makes_nobody_offline(told: Core) -> None:
    connect(told, "one")
    second = connect(told, "two")
    stories(told)
    second.drop()
    assert only(stories(told)).is_online


def test_a_takeover_names_both_peers_and_nobody_was_away(told: Core) -> None:
    from_address(told, HERE, "c")
    stories(told)
    from_address(told, THERE, "c")
    story = only(stories(told))
    assert (story.was_online, story.is_online) == (True, True)
    taken, connected = story.events
    assert (taken.kind, taken.address, taken.other, taken.text) == (
        EventKind.TAKEN_OVER, "2001:db8::1", "192.0.2.7", "c",
    )  # fmt: skip
    assert (connected.kind, connected.address) == (EventKind.CONNECTED, "2001:db8::1")


def test_an_application_has_no_story(told: Core) -> None:
    told.connect("app").drop()
    assert stories(told) == gathered(told) == []


def test_nothing_is_noted_while_nobody_watches(core: Core) -> None:
    device(core, "dev")
    client = connect(core)
    client.publish("elsewhere")
    client.drop()
    assert stories(core) == gathered(core) == []


def test_python_is_called_once_until_it_takes(told: Core) -> None:
    handles = [told.open() for _ in range(3)]
    for number, client in enumerate(handles):
        client.send(Connect(f"c{number}", clean_start=True, user_name="dev", password=b"pw"), run=False)
    rare = told.shard.take_rare()
    assert [one[0] for one in rare] == [RareKind.STORIES]
    assert told.shard.take_stories(1)
    assert told.shard.take_rare() == []  # nothing is left
    handles[0].drop()
    device(told, "other")
    connect(told, name="other")
    told.shard.take_stories(1)
    assert [one[0] for one in told.shard.take_rare()] == [RareKind.STORIES]  # something is
    stories(told)


# ---------------------------------------------------------------- refusals


def asks(client_id: str = "new", **fields: object) -> Connect:
    return Connect(client_id, clean_start=True, user_name="dev", password=b"pw", **fields)  # type: ignore[arg-type]


REFUSALS: dict[Refused, tuple[GrantLimits, AccountLimits, Connect]] = {
    Refused.WILL_TOPIC: (GrantLimits(), AccountLimits(), asks(will=Will("elsewhere", b""))),
    Refused.WILL_SIZE: (
        GrantLimits(payload_maximum_bytes=10),
        AccountLimits(),
        asks(will=Will("devices/dev/telemetry", bytes(11))),
    ),
    Refused.DEVICE_CONNECTIONS: (GrantLimits(connections_maximum=1), AccountLimits(), asks()),
    Refused.ACCOUNT_CONNECTIONS: (GrantLimits(), AccountLimits(connections_maximum=1), asks()),
    Refused.DEVICE_SESSIONS: (GrantLimits(sessions_maximum=1), AccountLimits(), asks()),
    Refused.ACCOUNT_SESSIONS: (GrantLimits(), AccountLimits(sessions_maximum=1), asks()),
    Refused.PACKET_SIZE: (GrantLimits(), AccountLimits(), asks(properties={"maximum_packet_size": 5})),
}


@pytest.mark.parametrize("refused", REFUSALS, ids=lambda one: one.name)
def test_a_refused_connect_of_a_known_device_says_why(core: Core, refused: Refused) -> None:
    limits, account, asked = REFUSALS[refused]
    core.shard.watch_stories()
    device(core, "dev", limits=limits)
    core.shard.put_account(1, account)
    connect(core, "first")
    stories(core)
    client = core.open()
    client.send(asked)
    assert not client.is_open
    found = event(core)
    assert (found.kind, found.reason, found.text) == (EventKind.REFUSED, refused, "new")
    assert code_of(found) in WORDS


def test_a_full_broker_and_a_bad_disk_are_told_too() -> None:
    core = Core(sessions_maximum=1)
    core.shard.watch_stories()
    device(core, "dev", synced=True)
    connect(core, "first")
    stories(core)
    core.connecting("second", user_name="dev")
    assert event(core).reason == Refused.BROKER_SESSIONS
    core.clients[0].drop()
    stories(core)
    core.shard.set_refusing(True)
    core.connecting("kept", user_name="dev", clean_start=False, properties={"session_expiry_interval": 60})
    assert event(core).reason == Refused.DISK
    core.shard.set_refusing(False)
    core.end()


# ---------------------------------------------------------------- what may happen very often


@VERSIONS
def test_a_denied_topic_is_gathered_with_its_name(told: Core, version: int) -> None:
    client = connect(told, version=version)
    stories(told)
    for _ in range(1000):
        client.publish("devices/other/telemetry")
    client.publish("another")
    assert told.shard.take_rare() == []  # nobody is called for it
    story = only(gathered(told))
    assert [(one.kind, one.text, one.times) for one in story.events] == [
        (EventKind.DENIED_PUBLISH, "devices/other/telemetry", 1000),
        (EventKind.DENIED_PUBLISH, "another", 1),
    ]
    assert story.drops == [(DropReason.NOT_AUTHORIZED, 1001)]
    assert gathered(told) == []


def test_a_denied_filter_is_gathered(told: Core) -> None:
    client = connect(told)
    assert client.subscribe("devices/+/commands", "devices/dev/commands", "$share/g/#") == (0x87, 0, 0x87)
    stories_of_it = only(stories(told))  # what happened to it before is told with its coming
    assert [(one.kind, one.text) for one in stories_of_it.events[1:]] == [
        (EventKind.DENIED_SUBSCRIBE, "devices/+/commands"), (EventKind.DENIED_SUBSCRIBE, "$share/g/#"),
    ]  # fmt: skip
    assert gathered(told) == []


def test_a_long_topic_is_cut_between_two_characters(told: Core) -> None:
    client = connect(told)
    stories(told)
    client.publish("ä" * 400)
    client.publish("a" + "ä" * 400)
    first, second = only(gathered(told)).events
    assert first.text == "ä" * 48 + "..."
    assert second.text == "a" + "ä" * 47 + "..."


def test_many_different_topics_take_a_bounded_room_and_none_is_uncounted(told: Core) -> None:
    client = connect(told)
    stories(told)
    for number in range(500):
        client.publish(f"elsewhere/{number}")
    client.drop()
    story = only(stories(told))
    noise = [one for one in story.events if one.kind == EventKind.DENIED_PUBLISH]
    assert len(noise) == 8
    assert sum(one.times for one in noise) == 500
    assert noise[-1].text == "elsewhere/499"
    assert story.events[-1].kind == EventKind.DISCONNECTED
    assert (story.lost, told.shard.counters()["events_lost"]) == (0, 0)


def test_what_finds_no_room_is_counted(told: Core) -> None:
    for number in range(16):
        connect(told, f"client {number}").drop()
    story = only(stories(told))
    assert len(story.events) == 16
    assert sum(one.times for one in story.events) + story.lost == 32
    assert story.lost == told.shard.counters()["events_lost"] == 0  # all are of two kinds, which are counted on
    for number in range(16):
        connect(told, f"client {number}", name="dev")
    told.clients[-1].drop()
    assert only(stories(told)).lost == told.shard.counters()["events_lost"] == 1


def test_throttling_is_told_once_for_each_excess(core: Core) -> None:
    core.shard.watch_stories()
    device(core, "fast", limits=GrantLimits(messages_per_s=10, burst_messages=10))
    client = connect(core, name="fast")
    stories(core)
    while client.is_open:
        client.send(*(Publish("devices/fast/telemetry", b"") for _ in range(20)))
        core.wait(0.2)
    story = only(stories(core))
    assert [(code_of(one), one.times) for one in story.events] == [("throttled", 1), ("rate_exceeded", 1)]


def test_a_used_up_quota_is_told(told: Core) -> None:
    client = connect(told)
    stories(told)
    told.shard.set_quota(1, 1, 1000)
    for _ in range(3):
        client.publish("devices/dev/telemetry", qos=1)
    (found,) = only(gathered(told)).events
    assert (found.kind, found.times) == (EventKind.QUOTA, 2)


def test_dropped_deliveries_are_gathered_by_their_reason(told: Core) -> None:
    client = told.keep("c", user_name="dev")
    client.subscribe("devices/dev/commands", qos=1)
    client.drop()
    stories(told)
    for _ in range(5):
        told.publish("devices/dev/commands")
    story = only(gathered(told))
    assert (story.events, story.drops) == ([], [(DropReason.CLIENT_AWAY, 5)])
    assert not story.is_online


# ---------------------------------------------------------------- whose turn it is


def test_accounts_take_turns_so_that_a_fleet_keeps_nobody_waiting(core: Core) -> None:
    core.shard.watch_stories()
    for number in range(200):
        device(core, f"fleet-{number}", account_id=1)
        connect(core, name=f"fleet-{number}")
    device(core, "other", account_id=2)
    connect(core, name="other")
    first = [story_of(one).account_id for one in core.shard.take_stories(2)]
    assert sorted(first) == [1, 2]
    assert len(stories(core)) == 199


def test_a_device_that_is_deleted_is_told_to_be_offline(told: Core) -> None:
    connect(told)
    number = told.principals
    stories(told)
    told.shard.remove_grant(told.granted[-1][0][0])
    told.shard.revoke_principal(number, told.now_ns)
    told.run()
    story = only(stories(told))
    assert (story.device_id, story.was_online, story.is_online) == ("dev", True, False)
    assert told.shard.counters()["principals"] == 1  # and nothing is left of it


def test_stories_that_nobody_takes_are_given_back() -> None:
    core = Core()
    core.shard.watch_stories()
    for number in range(10):
        device(core, f"dev-{number}")
        connect(core, name=f"dev-{number}").publish("elsewhere")
    del core  # the sanitizers look


def test_the_broker_s_own_word_is_nobody_s_usage(told: Core) -> None:
    told.connect("app").subscribe("#")
    told.shard.take_usage()
    told.shard.publish(1, b"devices/dev/presence", b"{}", 1, told.now_ns, counted=False)
    told.run()
    ((account_id, _, messages_in, _, messages_out, _),) = told.shard.take_usage()
    assert (account_id, messages_in, messages_out) == (1, 0, 1)  # what is sent to an application counts like all else


def test_every_word_for_an_event_is_in_the_table() -> None:
    codes = {code_of(Event(EventKind.DISCONNECTED, reason, 0, 0, 1, 5, 0, False, "", "", "")) for reason in range(256)}
    codes |= {code_of(Event(EventKind.REFUSED, reason, 0, 0, 1, 5, 0, False, "", "", "")) for reason in Refused}
    codes |= {
        code_of(Event(kind, 0, 0, 0, 1, 5, 0, False, "", "", "")) for kind in EventKind if kind != EventKind.REFUSED
    }
    assert codes <= set(WORDS)
