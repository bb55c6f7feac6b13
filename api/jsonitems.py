"""A body that is a list of many objects, read and judged a few at a time, so that nobody else waits for it.

Here belongs reading such a list. Not here: the rules of JSON text (``jsontext``), and what an item may say
(``models``).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

from api.jsontext import decoder, not_json
from broker.errors import BadRequest

BLANKS = re.compile(r"[ \t\n\r]*")
TURN_ITEMS = 16  # read between two turns of the loop
TURN_CHARACTERS = 16 * 1024

Judge = Callable[[Any], Any]


async def read_items(body: bytes, name: str, maximum: int, judge: Judge) -> list[Any]:
    """Read the list ``name``, the one thing in the object that a body is, and judge each of its items.

    Raises ``BadRequest`` for what is no such object, and for a list that is empty or has more than ``maximum`` items.
    """
    try:
        return await _Reader(body.decode("utf-8"), name, maximum, judge).read()
    except (ValueError, RecursionError) as error:
        raise not_json(error) from error


class _Reader:
    """Where in the text reading is."""

    def __init__(self, text: str, name: str, maximum: int, judge: Judge) -> None:
        self._text = text
        self._name = name
        self._maximum = maximum
        self._judge = judge
        self._decoder = decoder()
        self._at = 0

    async def read(self) -> list[Any]:
        """Read the whole text."""
        items = await self._object()
        if self._next():
            raise self._unexpected("the end")
        if items is None:
            raise BadRequest(f"{self._name} is required", field=self._name, expected="a value")
        if not 1 <= len(items) <= self._maximum:
            raise self._refused(f"{len(items)} items")
        return items

    async def _object(self) -> list[Any] | None:
        if self._next() != "{":
            self._value()
            raise BadRequest("the body must be a JSON object")
        self._at += 1
        items = None
        while self._next() != "}" or items is not None:
            key = self._key()
            if items is not None and key == self._name:
                raise ValueError(f"the key {key!r} is there twice")
            if key != self._name:
                raise BadRequest(f"unknown field {key[:100]!r}", field=key[:100], expected="no such field")
            items = await self._items()
            if not self._goes_on("}"):
                return items
        self._at += 1
        return None

    def _key(self) -> str:
        if self._next() != '"':
            raise self._unexpected("a name in double quotes")
        key = self._value()
        if self._next() != ":":
            raise self._unexpected("a colon")
        self._at += 1
        return str(key)

    async def _items(self) -> list[Any]:
        if self._next() != "[":
            raise self._refused(self._value())
        self._at += 1
        items: list[Any] = []
        if self._next() == "]":
            self._at += 1
            return items
        turn_at = self._at
        while True:
            value = self._value()
            if len(items) <= self._maximum:  # one more than allowed is enough to know
                items.append(self._judge(value) if len(items) < self._maximum else None)
            if not self._goes_on("]"):
                return items
            if len(items) % TURN_ITEMS == 0 or self._at - turn_at > TURN_CHARACTERS:
                await asyncio.sleep(0)
                turn_at = self._at

    def _goes_on(self, end: str) -> bool:
        """Take what follows a value: a comma, or the end."""
        found = self._next()
        if found not in (",", end) or not found:
            raise self._unexpected(f"a comma or {end}")
        self._at += 1
        return found == ","

    def _next(self) -> str:
        """Give the next character that is no blank, and stay before it; empty at the end."""
        blanks = BLANKS.match(self._text, self._at)
        assert blanks is not None  # none at all is a match
        self._at = blanks.end()
        return self._text[self._at : self._at + 1]

    def _value(self) -> Any:
        self._next()
        value, self._at = self._decoder.raw_decode(self._text, self._at)
        return value

    def _unexpected(self, expected: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(f"Expecting {expected}", self._text, self._at)

    def _refused(self, provided: Any) -> BadRequest:
        expected = f"a list of 1 to {self._maximum} objects"
        return BadRequest(f"{self._name}: expected {expected}", field=self._name, provided=provided, expected=expected)
