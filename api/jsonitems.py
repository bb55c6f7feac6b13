"""A body that is a list of many objects, read and judged a few at a time, so that nobody else waits for it.

Here belongs reading such a list. Not here: the rules of JSON text (``_jsonscan``), and what an item may say
(``models``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from api.jsontext import scan
from api.turns import Turns
from broker.errors import BadRequest, PayloadTooLarge

TURN_ITEMS = 8  # judged between two turns of the loop
TURN_BYTES = 16 * 1024
SHOWN_BYTES = 200

Judge = Callable[[Any], Any]


async def read_items(
    body: bytes, name: str, maximum: int, judge: Judge, turns: Turns, *, item_maximum_bytes: int
) -> list[Any]:
    """Read the list ``name``, the one thing in the object that a body is, and judge each of its items.

    An item over its maximum is judged to be a ``PayloadTooLarge``. Raises ``BadRequest`` for what is no such object,
    and for a list that is empty or has more than ``maximum`` items.
    """
    reading = await scan(body, turns, maximum)
    if not reading.is_object:
        raise BadRequest("the body must be a JSON object")
    shown = [(key, reading.piece(start, min(end, start + SHOWN_BYTES))) for key, start, end, _ in reading.members[:2]]
    _require_list(name, maximum, shown)
    if not 1 <= reading.item_count <= maximum:
        raise _refused(name, maximum, f"{reading.item_count} items")
    items: list[Any] = []
    unseen_bytes = 0
    for start, end in reading.items:
        if end - start > item_maximum_bytes:
            items.append(PayloadTooLarge(f"one of {name} is over {item_maximum_bytes} bytes"))
        else:
            items.append(judge(json.loads(reading.piece(start, end))))
            unseen_bytes += end - start
        if len(items) % TURN_ITEMS == 0 or unseen_bytes > TURN_BYTES:
            unseen_bytes = 0
            await turns.next()
    return items


def _require_list(name: str, maximum: int, members: list[tuple[bytes, bytes]]) -> None:
    for key, _ in members:
        if key != name.encode():
            other = key.decode("utf-8", "surrogatepass")[:100]
            raise BadRequest(f"unknown field {other!r}", field=other, expected="no such field")
    if not members:
        raise BadRequest(f"{name} is required", field=name, expected="a value")
    if not members[0][1].startswith(b"["):
        raise _refused(name, maximum, members[0][1].decode(errors="replace"))


def _refused(name: str, maximum: int, provided: Any) -> BadRequest:
    expected = f"a list of 1 to {maximum} objects"
    return BadRequest(f"{name}: expected {expected}", field=name, provided=provided, expected=expected)
