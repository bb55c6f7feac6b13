"""Which ids devices may have that register themselves: the form of a chosen id, and patterns over ids.

Here belong both and their matching. Not here: who has a pattern (``claims``, ``authorities``).
"""

from __future__ import annotations

import re

from broker.accounts.device_description import CHOSEN_ID, RESERVED_IDS
from broker.errors import BadRequest

ANY_ID = "*"
PATTERN = re.compile(r"[A-Za-z0-9_*-]{1,64}")
PATTERN_EXPECTED = "1 to 64 letters, digits, dashes and underscores, with * for any number of them"


def is_chosen_id(device_id: str) -> bool:
    """Tell whether somebody may choose this id for a device."""
    return CHOSEN_ID.fullmatch(device_id) is not None and device_id not in RESERVED_IDS


def check_pattern(pattern: str) -> str:
    """Return a pattern of ids. Raises ``BadRequest`` for what is none."""
    if PATTERN.fullmatch(pattern) is None:
        raise BadRequest(
            f"device_id_pattern: expected {PATTERN_EXPECTED}",
            field="device_id_pattern",
            provided=pattern,
            expected=PATTERN_EXPECTED,
        )
    return pattern


def matches(pattern: str, device_id: str) -> bool:
    """Tell whether an id is one of a pattern's; in time linear in the id for each ``*``, whatever they say."""
    first, *rest = pattern.split("*")
    if not rest:
        return first == device_id
    *middle, last = rest
    if len(device_id) < len(first) + len(last) or not device_id.startswith(first) or not device_id.endswith(last):
        return False
    at, end = len(first), len(device_id) - len(last)
    for part in middle:  # the earliest place of each leaves the most to those behind it
        found = device_id.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
