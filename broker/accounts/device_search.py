"""Finding devices of an account by what lists may be asked for: status, type, and text in name or description.

Here belong the question, what of a device is looked at, and the walk with turns of the loop. Not here: the looking
itself (the core's ``roster``), and when a device is in error (whoever asks says so).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from broker._core.roster import ACTIVE, ANY, ERROR, INACTIVE, Roster
from broker.accounts.records import Device

STATUSES = {"": ANY, "inactive": INACTIVE, "active": ACTIVE, "error": ERROR}
HOLD_NS = 800_000  # between two turns of the loop, at most about
BETWEEN = b"\xff"  # is in no text, so that nothing is found across it


@dataclass(frozen=True, slots=True)
class Sought:
    """Which devices are meant; empty strings match all. ``text`` may be in name or description, in any case."""

    text: str = ""
    device_type: str = ""
    status: str = ""


def searched(device: Device) -> tuple[bytes, bytes, bool]:
    """Give what is looked at of a device: its type, its folded text, and whether it is active."""
    text = BETWEEN.join((_bytes(device.name.casefold()), _bytes(device.description.casefold())))
    return _bytes(device.device_type), text, device.active


async def search(
    roster: Roster,
    sought: Sought,
    is_in_error: Callable[[int], bool],
    record: Callable[[int], Device],
    limit: int,
    offset: int,
    hold_ns: int = HOLD_NS,
) -> tuple[list[Device], int]:
    """Give a page of the devices that match, newest first, and how many match in all.

    ``is_in_error`` is asked about active devices that were refused, ``record`` gives what is found, by their numbers.
    The walk takes turns with the loop: each device is told as it was when it was looked at. What is added or removed
    meanwhile neither repeats nor hides another one.
    """
    needle, device_type = _bytes(sought.text.casefold()), _bytes(sought.device_type)
    status = STATUSES[sought.status]
    found: list[Device] = []
    total, below = 0, None
    while True:
        skip, take = max(offset - total, 0), limit - len(found)
        matching, numbers, below = roster.scan(below, needle, device_type, status, is_in_error, skip, take, hold_ns)
        found += map(record, numbers)
        total += matching
        if below is None:
            return found, total
        await asyncio.sleep(0)


def _bytes(text: str) -> bytes:
    """Encode any text so that a part of it is a part of its bytes."""
    return text.encode("utf-8", "surrogatepass")
