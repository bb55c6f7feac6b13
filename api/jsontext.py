"""JSON as this API reads and writes it: stricter than Python's, and never over its size.

Here belong reading a body and the few rules of JSON text. Not here: which fields a body has (``models``).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope

from broker.errors import BadRequest, PayloadTooLarge

BODY_MAXIMUM_BYTES = 3 * 512 * 1024  # 1.5 MiB
DEPTH_MAXIMUM = 100  # of a value that is kept or passed on: what writes answers goes down 255 levels and no further


class EscapedJSONResponse(JSONResponse):
    """JSON in ASCII alone, for answers that quote what may not be text at all (lone surrogates)."""

    def render(self, content: Any) -> bytes:
        """Encode with every other character escaped."""
        return escaped(content)


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Read a whole body of at most 1.5 MiB; one byte more raises ``PayloadTooLarge``, without reading the rest."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > BODY_MAXIMUM_BYTES:
            raise _too_large()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > BODY_MAXIMUM_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a body that must be one JSON object in UTF-8. Raises ``BadRequest``."""
    try:
        value = _loaded(body)
    except (ValueError, RecursionError) as error:
        raise not_json(error) from error
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    return value


def decoder() -> json.JSONDecoder:
    """Give what reads JSON text by the rules of this API: no key twice, no NaN, no number that overflows."""
    return json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant, parse_float=_finite)


def not_json(error: Exception) -> BadRequest:
    """Say that a body is not JSON, and why."""
    return BadRequest(f"the body is not valid JSON: {_first_line(error)}")


def parse_value(text: bytes) -> Any:
    """Parse JSON text in UTF-8 that can be written again as it is. Raises ``ValueError`` for anything else."""
    try:
        value = _loaded(text)
        compact(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _loaded(text: bytes) -> Any:
    return decoder().decode(text.decode("utf-8"))


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


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice[:100]!r} is there twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:100]} is too large")
    return number


def _first_line(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is over {BODY_MAXIMUM_BYTES} bytes")
