"""Who is online, as it is published: transitions in order, bounded in number, and right again after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.accounts.presence import WINDOW_S, WINDOW_TRANSITIONS, PresenceEvent
from broker.admin import DeviceDescription
from broker.ports import OpenConnection
from broker.storage.tables import ONLINE
from broker.stories import Event, EventKind, Farewell, Story
from tests.upper import GRACE_S, NOW_S, Upper

SENSOR = DeviceDescription("Sensor", "sensor")
COMES = Event(EventKind.CONNECTED, 0, NOW_S * 10**9, NOW_S * 10**9, 1, 5, 1, False, "192.0.2.7", "", "c")
GOES = COMES._replace(kind=EventKind.DISCONNECTED, reason=Farewell.LOST)


class Fleet:
    """One device, its stories as a core would tell them, and what is published of it."""

    def __init__(self, upper: Upper, device_id: str, number: int) -> None:
        self.upper = upper
        self.device_id = device_id
        self.number = number

    def story(self, was: bool, now: bool, *events: Event) -> Story:
        return Story(1, self.number, self.device_id, was, now, events, (), 0)

    def comes(self) -> None:
        self.tell(self.story(False, True, COMES))

    def goes(self) -> None:
        self.tell(self.story(True, False, GOES))

    def tell(self, story: Story) -> None:
        self.upper.core.stories.append(story)
        self.upper.telling.take()

    def states(self) -> list[str]:
        """What was published since the last look."""
        told, self.upper.core.announced = self.upper.core.announced, []
        assert all(topic == f"devices/{self.device_id}/presence" for _, topic, _ in told)
        return [str(payload["state"]) for _, _, payload in told]

    def rows(self) -> int:
        return len(self.upper.store.load(ONLINE))

    def restarted(self) -> Fleet:
        return Fleet(self.upper.restart(), self.device_id, self.number)


def run(body: Callable[[Fleet], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        await upper.bootstrap()
        view, _ = await upper.admin.create_device(1, SENSOR)
        await body(Fleet(upper, view.device_id, upper.directory.devices.get(1, view.device_id).device_number))

    asyncio.run(whole())


def test_an_event_says_who_since_when_by_what_and_why() -> None:
    async def body(fleet: Fleet) -> None:
        heard: list[PresenceEvent] = []
        fleet.upper.directory.devices.presence.watch(heard.append)
        fleet.comes()
        fleet.goes()
        shared = {
            "device_id": fleet.device_id,
            "at": "2025-11-05T10:30:00Z",
            "protocol": "mqtts",
            "address": "192.0.2.7",
        }
        topic = f"devices/{fleet.device_id}/presence"
        assert fleet.upper.core.announced == [
            (1, topic, {**shared, "state": "online", "reason": "connected"}),
            (1, topic, {**shared, "state": "offline", "reason": "connection_lost"}),
        ]
        assert [one.online for one in heard] == [True, False]

    run(body)


def test_a_story_without_a_transition_publishes_nothing() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.tell(fleet.story(True, True, GOES, COMES))
        fleet.tell(fleet.story(False, False, COMES, GOES))
        assert fleet.states() == []

    run(body)


def test_a_transition_whose_event_found_no_room_is_published_all_the_same() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.tell(fleet.story(False, True))
        ((_, _, payload),) = fleet.upper.core.announced
        assert (payload["state"], payload["reason"], payload["address"]) == ("online", "unknown", None)
        assert payload["at"] == "2025-11-05T10:30:00Z"

    run(body)


def test_an_id_that_is_no_level_of_a_topic_is_passed_over() -> None:
    async def body(fleet: Fleet) -> None:
        for name in ("a/b", "+", "#", "a\0b"):
            fleet.tell(fleet.story(False, True, COMES)._replace(device_id=name))
        assert fleet.upper.core.announced == []

    run(body)


def test_one_who_watches_and_fails_keeps_nobody_from_hearing() -> None:
    async def body(fleet: Fleet) -> None:
        heard: list[PresenceEvent] = []

        def fails(_: PresenceEvent) -> None:
            raise ValueError

        fleet.upper.directory.devices.presence.watch(fails)
        fleet.upper.directory.devices.presence.watch(heard.append)
        fleet.comes()
        assert len(heard) == 1

    run(body)


def test_a_reconnect_storm_is_told_a_bounded_number_of_times_and_its_end_is_right() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.comes()
        for _ in range(500):
            fleet.goes()
            fleet.comes()
        told = fleet.states()
        assert len(told) == WINDOW_TRANSITIONS
        assert told == ["online", "offline"] * (WINDOW_TRANSITIONS // 2)  # and it is online
        fleet.upper.clock.pass_s(WINDOW_S)
        await fleet.upper.telling.look()
        assert fleet.states() == ["online"]
        fleet.goes()
        assert fleet.states() == ["offline"]

    run(body)


def test_a_storm_that_ends_where_it_was_told_to_be_says_nothing_more() -> None:
    async def body(fleet: Fleet) -> None:
        for _ in range(50):
            fleet.comes()
            fleet.goes()
        assert fleet.states()[-1] == "offline"
        fleet.upper.clock.pass_s(WINDOW_S)
        await fleet.upper.telling.look()
        assert fleet.states() == []

    run(body)


# ---------------------------------------------------------------- after a crash


def test_who_was_online_and_does_not_come_back_is_told_to_be_offline() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.comes()
        await fleet.upper.telling.look()
        after = fleet.restarted()
        await after.upper.telling.look()
        assert after.states() == []  # it has time to come back
        after.upper.clock.pass_s(GRACE_S)
        await after.upper.telling.look()
        ((_, _, payload),) = after.upper.core.announced
        assert (payload["state"], payload["reason"]) == ("offline", "broker_restarted")
        assert after.rows() == 0
        entries, _ = await after.upper.directory.devices.timeline.read(fleet.number, 10)
        assert entries[0].code == "broker_restarted"
        assert after.restarted().upper.directory.devices.presence.left_behind == []

    run(body)


def test_a_crash_in_the_middle_of_a_storm_leaves_nobody_online() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.comes()
        for _ in range(WINDOW_TRANSITIONS // 2 - 1):
            fleet.goes()
            fleet.comes()
        fleet.upper.clock.pass_s(WINDOW_S)  # it is published to be online, in a new window
        fleet.goes()
        for _ in range(WINDOW_TRANSITIONS):
            fleet.comes()
            fleet.goes()
        told = fleet.states()
        fleet.comes()  # and rests
        fleet.goes()
        await fleet.upper.telling.look()
        after = fleet.restarted()
        after.upper.clock.pass_s(GRACE_S)
        await after.upper.telling.look()
        told += after.states()
        assert told[-1] == "offline"
        assert all(one != other for one, other in pairwise(told))

    run(body)


def test_who_comes_back_after_a_crash_is_told_to_be_online_again() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.comes()
        await fleet.upper.telling.look()
        after = fleet.restarted()
        after.comes()
        after.upper.clock.pass_s(GRACE_S)
        await after.upper.telling.look()
        assert after.states() == ["online"]
        assert after.rows() == 1

    run(body)


def test_who_went_in_good_order_is_not_missed() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.comes()
        await fleet.upper.telling.look()
        assert fleet.rows() == 1
        fleet.goes()
        await fleet.upper.telling.finish()
        assert fleet.rows() == 0

    run(body)


def test_what_the_disk_did_not_take_is_written_later() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.upper.store.fail(OSError("full"), 1)
        fleet.comes()
        await fleet.upper.telling.look()
        assert fleet.rows() == 0
        await fleet.upper.telling.look()
        assert fleet.rows() == 1

    run(body)


def test_a_deleted_device_leaves_no_record_and_is_not_missed() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.comes()
        await fleet.upper.telling.look()
        await fleet.upper.admin.delete_device(1, fleet.device_id)
        fleet.goes()  # which its deletion has caused
        assert fleet.states() == ["online", "offline"]
        await fleet.upper.telling.look()
        assert fleet.rows() == 0

    run(body)


def test_a_record_of_no_device_goes_by_itself() -> None:
    async def body(fleet: Fleet) -> None:
        fleet.comes()
        await fleet.upper.telling.look()
        after = fleet.restarted()
        after.upper.directory.devices._index.remove(fleet.number)
        after.upper.clock.pass_s(GRACE_S)
        await after.upper.telling.look()
        assert (after.states(), after.rows()) == ([], 0)

    run(body)


def test_the_device_s_own_answer_tells_its_connection() -> None:
    async def body(fleet: Fleet) -> None:
        shown = await fleet.upper.admin.get_device(1, fleet.device_id)
        assert (shown.connected_at, shown.protocol, shown.address) == (None, "", "")
        fleet.upper.core.open[fleet.number] = OpenConnection(NOW_S, "wss", "192.0.2.7")
        shown = await fleet.upper.admin.get_device(1, fleet.device_id)
        assert (shown.connected_at, shown.protocol, shown.address) == (NOW_S, "wss", "192.0.2.7")

    run(body)


@given(st.lists(st.sampled_from([*["turn"] * 12, "second", "window", "crash"]), max_size=60))
@settings(max_examples=40)
def test_what_was_published_last_is_what_is_in_the_end(steps: list[str]) -> None:
    """Whatever comes, goes and crashes: events alternate, and when all has settled the last one is right."""

    async def body(fleet: Fleet) -> None:
        online = False
        told: list[str] = []
        for step in steps:
            if step == "turn":
                online = not online
                fleet.comes() if online else fleet.goes()
            elif step == "crash":
                await fleet.upper.telling.look()
                told += fleet.states()
                fleet = fleet.restarted()
                online = False
                fleet.upper.clock.pass_s(GRACE_S)
                await fleet.upper.telling.look()
            else:
                fleet.upper.clock.pass_s(1 if step == "second" else WINDOW_S)
                await fleet.upper.telling.look()
            told += fleet.states()
        fleet.upper.clock.pass_s(WINDOW_S)
        await fleet.upper.telling.look()
        told += fleet.states()
        assert (told[-1] if told else "offline") == ("online" if online else "offline")
        assert all(one != other for one, other in pairwise(told))

    run(body)
