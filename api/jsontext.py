"""JSON as this API reads and writes it: stricter than Python's, never over its size, and in turns.

Here belong reading a body and making values of it. Not here: the rules of JSON text (``_jsonscan``), and which fields a
body has (``models``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope

from api._jsonscan import JsonScan
from api.turns import Turns
from broker.errors import BadRequest, PayloadTooLarge

DEPTH_MAXIMUM = 100  # of a value that is kept or passed on: what writes answers goes down 255 levels and no further
BODY_DEPTH_MAXIMUM = DEPTH_MAXIMUM + 1
VALUES_MAXIMUM = 10_000  # of a body of which Python makes values: more than 16 KiB of metadata can be
BRIEF_BYTES = 4096
TEXT = "text without lone surrogates"
TURN_COST = 32 * 1024  # what is read between two turns of the loop, some half a millisecond


class EscapedJSONResponse(JSONResponse):
    """JSON in ASCII alone, for answers that quote what may not be text at all (lone surrogates)."""

    def render(self, content: Any) -> bytes:
        """Encode with every other character escaped."""
        return escaped(content)


@dataclass(frozen=True, slots=True)
class RawJson:
    """A JSON value of which nobody here wants to know more than its text, in UTF-8 and without blanks."""

    text: bytes


async def read_body(scope: Scope, receive: Receive, maximum_bytes: int) -> bytes:
    """Read a whole body of at most so many bytes; one more raises ``PayloadTooLarge``, without reading the rest."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > maximum_bytes):
            raise _too_large(maximum_bytes)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > maximum_bytes:
            raise _too_large(maximum_bytes)
        if not message.get("more_body", False):
            return bytes(body)


async def scan(body: bytes, turns: Turns, items_maximum: int = 0) -> JsonScan:
    """Judge a body that must be JSON in UTF-8, in turns. Raises ``BadRequest``."""
    try:
        reading = _begun(body, items_maximum)
        await turns.between(len(body))
        while not reading.advance(TURN_COST):
            await turns.next()
    except ValueError as error:
        raise not_json(error) from error
    await turns.between(len(body))
    return reading


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a body that must be one JSON object in UTF-8. Raises ``BadRequest``."""
    try:
        return object_of(_scanned(body))
    except ValueError as error:
        raise not_json(error) from error


def object_of(reading: JsonScan) -> dict[str, Any]:
    """Make the object that has been read. Raises ``BadRequest`` for what is none, or has very many values."""
    if not reading.is_object:
        raise BadRequest("the body must be a JSON object")
    if reading.value_count > VALUES_MAXIMUM:
        raise BadRequest(f"the body has more than {VALUES_MAXIMUM} values")
    value: dict[str, Any] = json.loads(reading.compact)
    return value


def members_of(reading: JsonScan, raw: str, names: Iterable[str]) -> dict[str, Any]:
    """Make an object's members of these names, and of all others the first, which is enough to refuse the object.

    One is wanted as text; in other places long lists and objects are not made. Raises ``BadRequest`` for what is no
    object.
    """
    if not reading.is_object:
        raise BadRequest("the body must be a JSON object")
    wanted = {name.encode() for name in names}
    wanted.update(islice((key for key, *_ in reading.members if key not in wanted), 1))
    members = {}
    for key, start, end, is_no_text in reading.members:
        if key not in wanted:
            continue
        name, text = key.decode("utf-8", "surrogatepass"), reading.piece(start, end)
        if name == raw and is_no_text:
            raise BadRequest(f"{raw}: expected {TEXT}", field=raw, expected=TEXT)
        members[name] = RawJson(text) if name == raw else brief(text)
    return members


def brief(text: bytes) -> Any:
    """Make a value of JSON text that has been judged; of a long list or object, which nobody takes, how it begins."""
    if len(text) > BRIEF_BYTES and not text.startswith(b'"'):
        return text[:BRIEF_BYTES].decode(errors="replace")
    return json.loads(text)


def not_json(error: Exception) -> BadRequest:
    """Say that a body is not JSON, and why."""
    return BadRequest(f"the body is not valid JSON: {error}")


def parse_value(text: bytes) -> Any:
    """Parse JSON text in UTF-8 that can be written again as it is. Raises ``ValueError`` for anything else."""
    reading = _scanned(text, DEPTH_MAXIMUM)
    if reading.has_lone_surrogates:
        raise ValueError(f"expected {TEXT}")
    return json.loads(reading.compact)


def _scanned(text: bytes, depth_maximum: int = BODY_DEPTH_MAXIMUM) -> JsonScan:
    reading = _begun(text, depth_maximum=depth_maximum)
    while not reading.advance(TURN_COST):
        pass
    return reading


def _begun(text: bytes, items_maximum: int = 0, depth_maximum: int = BODY_DEPTH_MAXIMUM) -> JsonScan:
    text.decode("utf-8")  # raises what is a ValueError
    return JsonScan(text, depth_maximum, items_maximum)


def kept_object(text: str) -> dict[str, Any]:
    """Make an object of text that has been kept; null stands for what is deeper than may be written.

    An earlier version took such metadata.
    """
    if text == "{}":  # as most devices have it
        return {}
    try:
        value: dict[str, Any] = json.loads(text)
    except RecursionError:
        return {}
    if text.count("[") + text.count("{") > DEPTH_MAXIMUM:
        _cut(value)
    return value


def _cut(value: dict[str, Any]) -> None:
    """Put null in the place of everything that is too deep."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAXIMUM - 1):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for values in inner for one in values if isinstance(one, dict | list)]
    for one in level:
        for place, deep in list(one.items() if isinstance(one, dict) else enumerate(one)):
            if isinstance(deep, dict | list):
                one[place] = None


def compact(value: Any) -> bytes:
    """Write a JSON value as compact UTF-8. Raises ``ValueError`` for text that is none, or too deep a value."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        if text.count(b"[") + text.count(b"{") > DEPTH_MAXIMUM and _is_too_deep(value):
            raise RecursionError
    except (UnicodeEncodeError, RecursionError) as error:
        raise ValueError(f"text without lone surrogates, nested {DEPTH_MAXIMUM} levels deep at most") from error
    return text


def escaped(value: Any) -> bytes:
    """Write a JSON value in ASCII alone: what is quoted may not be text at all (lone surrogates)."""
    return json.dumps(value).encode("ascii")


def _is_too_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []  # a text may have brackets too
    for _ in range(DEPTH_MAXIMUM):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for values in inner for one in values if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _too_large(maximum_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is over {maximum_bytes} bytes")
