"""Stories of devices on their way from the core to those who want to know: presence, timelines, the disk.

Here belongs when stories are taken and written, and how much at a time. Not here: what happens (the core), and what
becomes of it (``presence``, ``timeline``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator

from broker.accounts.devices import Devices
from broker.accounts.timeline import TimelineBook
from broker.accounts.timeline_records import Entry
from broker.accounts.timeline_words import code_of, code_of_drop
from broker.errors import Unavailable
from broker.reasons import DropReason
from broker.stories import PROTOCOLS_OF_DOORS, VERSIONS, Announcer, Event, EventKind, Story, StorySource

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
TOLD_AT_ONCE = 16  # within a round of the core, which has other things to do
GATHERED_AT_ONCE = 64  # between two turns of the loop
WRITE_S = 1.0
FRESH_S = 0.05
REST = 3  # times as long as a write took
REST_S = 10.0
LEFT_AT_ONCE = 50
SAID_BY = {DropReason.NOT_AUTHORIZED: EventKind.DENIED_PUBLISH, DropReason.QUOTA_EXCEEDED: EventKind.QUOTA}
"""What has an event of its own already, with the topic."""


class Telling:
    """Tells what happens to devices. ``wall_ns`` is nanoseconds of UTC, ``monotonic_ns`` those of the core's clock.

    Devices that were online when the process before this one ended have ``grace_s`` to come back.
    """

    def __init__(
        self,
        devices: Devices,
        source: StorySource,
        announcer: Announcer,
        wall_ns: Callable[[], int],
        monotonic_ns: Callable[[], int],
        grace_s: float,
    ) -> None:
        self._devices = devices
        self._source = source
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._grace_ends_s = self._now_s() + grace_s
        self._failing = False
        self._refreshed_s = -FRESH_S
        devices.presence.announce_by(announcer)

    @property
    def timeline(self) -> TimelineBook:
        """Where entries are noted."""
        return self._devices.timeline

    # ------------------------------------------------------------ taking

    def take(self) -> None:
        """Take some stories: the core has called. It calls again when there are more."""
        self._tell_all(self._source.take_stories(TOLD_AT_ONCE))

    def take_all(self) -> None:
        """Take everything: for whoever is about to move the clock, or looks."""
        while stories := [*self._source.take_stories(GATHERED_AT_ONCE), *self._source.take_gathered(GATHERED_AT_ONCE)]:
            self._tell_all(stories)

    async def refresh(self) -> None:
        """Take what was gathered until now, for whoever asks; not more often than it is worth."""
        now_s = self._now_s()
        if not 0 <= now_s - self._refreshed_s < FRESH_S:
            self._refreshed_s = now_s
            await self.gather()

    async def gather(self) -> None:
        """Take what was gathered until now, in pieces."""
        left = self._source.gathered()
        while left > 0:
            self._tell_all(self._source.take_gathered(min(left, GATHERED_AT_ONCE)))
            left -= GATHERED_AT_ONCE
            await asyncio.sleep(0)

    def _tell_all(self, stories: Iterable[Story]) -> None:
        for story in stories:
            try:
                self._tell(story)
            except Exception:  # one device's trouble is not the others'
                log.exception("a story of a device could not be told")

    def _tell(self, story: Story) -> None:
        wall_ns = self._wall_ns()
        self._devices.presence.take(story, wall_ns // NS_PER_S, self._now_s())
        self.timeline.note(story.principal_id, *_entries(story, wall_ns // NS_PER_MS))

    # ------------------------------------------------------------ time

    async def run(self) -> None:
        """Gather and write every second, until the task is cancelled."""
        loop = asyncio.get_running_loop()
        pause_s = WRITE_S
        while True:
            await asyncio.sleep(pause_s)
            started = loop.time()
            try:
                await self.look()
            except Exception:
                log.exception("timelines could not be kept")
            pause_s = max(WRITE_S, min(REST * (loop.time() - started), REST_S))

    async def look(self) -> None:
        """Take what was gathered, let rested presence go on, and write."""
        await self.gather()
        now_s = self._now_s()
        self._devices.presence.pass_time(now_s)
        if now_s >= self._grace_ends_s:
            await self._give_up_left_behind()
        await self.write()

    async def finish(self) -> None:
        """Take and write all that is left; nothing happens any more."""
        self.take_all()
        await self.write()

    async def write(self) -> None:
        """Store what was noted; where the disk takes nothing it is kept for later."""
        try:
            await self._devices.presence.write()
            await self.timeline.write()
        except Unavailable as error:
            if not self._failing:
                log.warning("timelines could not be stored: %s", error)
            self._failing = True
        else:
            self._failing = False

    async def _give_up_left_behind(self) -> None:
        for place, number in enumerate(self._devices.presence.left_behind, 1):
            device = self._devices.numbered(number)
            if device is None:
                self._devices.presence.forget_record(number)
                continue
            wall_s = self._wall_ns() // NS_PER_S
            self._devices.presence.came_not_back(device.account_id, number, device.device_id, wall_s, self._now_s())
            self.timeline.note_now(number, "broker_restarted")
            if place % LEFT_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _now_s(self) -> float:
        return self._monotonic_ns() / NS_PER_S


def _entries(story: Story, now_ms: int) -> Iterator[Entry]:
    yield from map(_entry, story.events)
    kinds = {event.kind for event in story.events}
    for reason, how_often in story.drops:
        if SAID_BY.get(reason) not in kinds:
            yield Entry(code_of_drop(reason), now_ms, now_ms, how_often)
    if story.lost:
        yield Entry("events_lost", now_ms, now_ms, story.lost)


def _entry(event: Event) -> Entry:
    protocol = f"{PROTOCOLS_OF_DOORS[event.door]} {VERSIONS.get(event.version, '')}".rstrip()
    first_ms, last_ms = event.first_ns // NS_PER_MS, event.last_ns // NS_PER_MS
    return Entry(code_of(event), first_ms, last_ms, event.times, protocol, event.address, event.other, event.text)
