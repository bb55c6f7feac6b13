"""Who is online, as the broker publishes it: the first connection of a device that comes, and the last that goes.

Here belong the events on ``devices/{device_id}/presence``, and that they are right again after a crash. Not here: how
many connections a device has (the core), what else happened to it (``timeline``).

An event is published when its story is taken, so that a device that is gone and back within a turn of the loop was not
away. Whoever comes and goes all the time has its say ``WINDOW_TRANSITIONS`` times in a window; what it is at the end of
that is published then. Events are not retained: each would be a write to disk and a part of the account's budgets, and
be wrong from a crash on until somebody corrects it. Who is online is asked for over HTTP.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from broker.accounts.ledger import Ledger
from broker.accounts.moments import moment_text
from broker.accounts.records import encode_number
from broker.accounts.timeline_words import code_of
from broker.ports import Change
from broker.storage.tables import ONLINE, key_number, number_key
from broker.stories import PROTOCOLS_OF_DOORS, Announcer, Event, EventKind, Story

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
WINDOW_S = 10
WINDOW_TRANSITIONS = 10
WRITTEN_AT_ONCE = 1000
FORBIDDEN_IN_LEVEL = frozenset("+#/\0")
RESTARTED = "broker_restarted"
UNKNOWN = "unknown"
ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class PresenceEvent:
    """A device is ``online`` or ``offline`` since ``at`` (seconds of UTC); ``reason`` is a code of the timeline.

    ``protocol`` and ``address`` are of the connection that came or went, empty where they are not known.
    """

    account_id: int
    device_number: int
    device_id: str
    online: bool
    at: int
    protocol: str
    address: str
    reason: str

    @property
    def topic_name(self) -> str:
        """Where it is published."""
        return f"devices/{self.device_id}/presence"

    def payload(self) -> bytes:
        """JSON text."""
        return ENCODER.encode(
            {
                "device_id": self.device_id,
                "state": "online" if self.online else "offline",
                "at": moment_text(self.at),
                "protocol": self.protocol or None,
                "address": self.address or None,
                "reason": self.reason,
            }
        ).encode()


Watcher = Callable[[PresenceEvent], None]


class PresenceBook:
    """Publishes presence; ``is_there`` tells whether a number is that of a registered device that is not being removed.

    What is on disk says who was published to be online a moment ago, for the start after a crash.
    """

    def __init__(self, ledger: Ledger, is_there: Callable[[int], bool]) -> None:
        self._ledger = ledger
        self._is_there = is_there
        self._announcer: Announcer | None = None
        self._watchers: list[Watcher] = []
        self._transitions: dict[int, int] = {}  # in this window, by device
        self._resting: dict[int, tuple[bool, PresenceEvent]] = {}  # what was published last, and what is to be
        self._window_ends_s = 0.0
        self._recorded: set[int] = set()  # online, as the disk has it
        self._unwritten: dict[int, int] = {}  # since when, 0: it is offline
        self._left_behind: set[int] = set()  # online when the process before this one ended

    def load(self) -> None:
        """Read who was online when the broker ended."""
        self._recorded = {key_number(key) for key, _ in self._ledger.rows(ONLINE)}
        self._left_behind = set(self._recorded)

    def announce_by(self, announcer: Announcer) -> None:
        """Publish from now on."""
        self._announcer = announcer

    def watch(self, watcher: Watcher) -> None:
        """Call back with each event that is published."""
        self._watchers.append(watcher)

    @property
    def left_behind(self) -> list[int]:
        """Devices that were online when the process before this one ended, and have not been seen since."""
        return list(self._left_behind)

    def forget(self, device_number: int) -> None:
        """Forget a device that was removed; its record goes with the device's."""
        self._recorded.discard(device_number)
        self._unwritten.pop(device_number, None)
        self._left_behind.discard(device_number)

    # ------------------------------------------------------------ transitions

    def take(self, story: Story, wall_s: int, now_s: float) -> None:
        """Publish what a story says about presence, if it says anything new.

        ``wall_s`` is seconds of UTC, ``now_s`` those of the clock by which storms are bounded.
        """
        if story.is_online:
            self._left_behind.discard(story.principal_id)
        if story.was_online == story.is_online or FORBIDDEN_IN_LEVEL & set(story.device_id):
            return
        self._change(_event(story, wall_s), now_s)

    def came_not_back(self, account_id: int, device_number: int, device_id: str, wall_s: int, now_s: float) -> None:
        """Publish that a device is offline that was online when the process before this one ended."""
        if device_number in self._left_behind:
            self._left_behind.discard(device_number)
            self._change(PresenceEvent(account_id, device_number, device_id, False, wall_s, "", "", RESTARTED), now_s)

    def pass_time(self, now_s: float) -> None:
        """Begin another window when this one is over, and publish what has rested."""
        if now_s < self._window_ends_s:
            return
        self._window_ends_s = now_s + WINDOW_S
        self._transitions = {}
        resting, self._resting = self._resting, {}
        for published, event in resting.values():
            if event.online != published:
                self._publish(event)

    def _change(self, event: PresenceEvent, now_s: float) -> None:
        self.pass_time(now_s)
        number = event.device_number
        if number in self._resting:
            self._resting[number] = self._resting[number][0], event
            return
        count = self._transitions[number] = self._transitions.get(number, 0) + 1
        if count > WINDOW_TRANSITIONS:
            self._resting[number] = not event.online, event
        else:
            self._publish(event)

    def _publish(self, event: PresenceEvent) -> None:
        self._record(event)
        if self._announcer is not None:
            self._announcer.announce(event.account_id, event.topic_name, event.payload())
        for watcher in self._watchers:
            try:
                watcher(event)
            except Exception:
                log.exception("one who watches presence failed")

    # ------------------------------------------------------------ the record

    def _record(self, event: PresenceEvent) -> None:
        if self._is_there(event.device_number):
            self._unwritten[event.device_number] = event.at if event.online else 0

    def forget_record(self, device_number: int) -> None:
        """Let a record go whose device is none any more."""
        self._left_behind.discard(device_number)
        self._unwritten[device_number] = 0

    async def write(self) -> None:
        """Store who is online now. Raises ``Unavailable``; what could not be stored is kept."""
        while part := dict(islice(self._unwritten.items(), WRITTEN_AT_ONCE)):
            for number in part:
                del self._unwritten[number]
            changes = [change for change in map(self._put, part.items()) if change is not None]
            if changes:
                await self._ledger.commit(changes, partial(self._note, changes), partial(self._keep, part))

    def _put(self, row: tuple[int, int]) -> Change | None:
        """Make the change that stores one; None where the disk has it already."""
        number, since = row
        if (since > 0) == (number in self._recorded) or (since and not self._is_there(number)):
            return None
        return Change(ONLINE, number_key(number), encode_number(since) if since else None)

    def _note(self, changes: Iterable[Change]) -> None:
        for _, key, value in changes:
            (self._recorded.discard if value is None else self._recorded.add)(key_number(key))

    def _keep(self, part: dict[int, int]) -> None:
        """Store them once more, unless there is something newer."""
        self._unwritten = {**part, **self._unwritten}


def _event(story: Story, wall_s: int) -> PresenceEvent:
    kind = EventKind.CONNECTED if story.is_online else EventKind.DISCONNECTED
    last: Event | None = next((one for one in reversed(story.events) if one.kind == kind), None)
    number, account_id, device_id = story.principal_id, story.account_id, story.device_id
    if last is None:  # it found no room
        return PresenceEvent(account_id, number, device_id, story.is_online, wall_s, "", "", UNKNOWN)
    protocol = PROTOCOLS_OF_DOORS[last.door]
    at = last.last_ns // NS_PER_S
    return PresenceEvent(account_id, number, device_id, story.is_online, at, protocol, last.address, code_of(last))
