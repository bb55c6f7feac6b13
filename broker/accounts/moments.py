"""Moments as people write them: ISO 8601 in UTC, whole seconds, with ``Z``.

Here belong writing and reading one. Not here: which moments are allowed where.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

MOMENT_MAXIMUM = 253_402_300_800  # the year 10,000
SECONDS_PER_DAY = 86_400
MOMENT_EXPECTED = "a moment in UTC such as 2030-01-31T12:00:00Z"

_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@lru_cache(maxsize=64)  # ten thousand clients that come back at once do so in the same few seconds
def moment_text(seconds: int) -> str:
    """Write seconds of UTC since 1970."""
    days, second = divmod(seconds, SECONDS_PER_DAY)
    minute, second = divmod(second, 60)
    return f"{_day_text(days)}T{minute // 60:02}:{minute % 60:02}:{second:02}Z"


@lru_cache(maxsize=512)  # a list of devices shows three moments of each, and hardly any of them twice
def _day_text(days: int) -> str:
    return datetime.fromtimestamp(days * SECONDS_PER_DAY, UTC).strftime("%Y-%m-%d")


def maybe_moment_text(seconds: int | None) -> str | None:
    """Write a moment, if there is one."""
    return None if seconds is None else moment_text(seconds)


def parse_moment(text: str) -> int:
    """Read what ``moment_text`` writes: seconds of UTC since 1970. Raises ``ValueError`` for anything else."""
    if _MOMENT.fullmatch(text) is None:
        raise ValueError(MOMENT_EXPECTED)
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise ValueError(MOMENT_EXPECTED) from error
