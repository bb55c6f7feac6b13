"""What has happened to a device, in words: the verb behind ``GET /devices/{device_id}/timeline``.

Here belongs an entry as people read it. Not here: keeping entries (``accounts.timeline``), and JSON (``api``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from broker.accounts.directory import Directory
from broker.accounts.timeline_records import Entry
from broker.accounts.timeline_words import is_about_topic, remedy_of, sentence_of

MS_PER_S = 1000


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """What has happened ``count`` times from ``first_at`` to ``at`` (seconds of UTC); the rest is of the last time.

    ``number`` grows with time, in one device's timeline. What is not known is empty.
    """

    number: int
    at: int
    first_at: int
    count: int
    code: str
    message: str
    remedy: str
    protocol: str
    mqtt_version: str
    address: str
    other_address: str
    client_id: str
    topic: str


@dataclass(frozen=True, slots=True)
class TimelinePage:
    """Entries, newest first; ``has_more`` when there are older ones."""

    entries: Sequence[TimelineEntry]
    has_more: bool


async def _nothing() -> None:
    pass


class Timelines:
    """Reads timelines. ``gather`` brings what has happened until now."""

    def __init__(self, directory: Directory, gather: Callable[[], Awaitable[None]] = _nothing) -> None:
        self._devices = directory.devices
        self._gather = gather

    async def read(self, account_id: int, device_id: str, limit: int, before: int | None = None) -> TimelinePage:
        """Give up to ``limit`` entries of a device, those before the one with a number where one is given.

        Raises ``NotFound``, and ``Unavailable`` where the disk cannot be read.
        """
        device = self._devices.get(account_id, device_id)
        await self._gather()
        entries, has_more = await self._devices.timeline.read(device.device_number, limit, before)
        return TimelinePage([_shown(entry) for entry in entries], has_more)


def _shown(entry: Entry) -> TimelineEntry:
    protocol, _, version = entry.protocol.rpartition(" ")
    about_topic = is_about_topic(entry.code)
    return TimelineEntry(
        number=entry.number,
        at=entry.last_ms // MS_PER_S,
        first_at=entry.first_ms // MS_PER_S,
        count=entry.count,
        code=entry.code,
        message=sentence_of(entry.code, entry.text, entry.address, entry.other),
        remedy=remedy_of(entry.code),
        protocol=protocol,
        mqtt_version=version,
        address=entry.address,
        other_address=entry.other,
        client_id="" if about_topic else entry.text,
        topic=entry.text if about_topic else "",
    )
