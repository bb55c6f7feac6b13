"""The notation of the wire table: packets one can read, exact to the byte, well-formed or not.

Here belongs turning notation into bytes, and into patterns for what must come back. Not here: rows (``table``) and
conversations (``conversation``). The notation is described in ``README.md`` beside this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

V311, V5 = 4, 5

PACKETS: Final = {
    "CONNECT": 0x10, "CONNACK": 0x20, "PUBLISH": 0x30, "PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x62, "PUBCOMP": 0x70,
    "SUBSCRIBE": 0x82, "SUBACK": 0x90, "UNSUBSCRIBE": 0xA2, "UNSUBACK": 0xB0, "PINGREQ": 0xC0, "PINGRESP": 0xD0,
    "DISCONNECT": 0xE0, "AUTH": 0xF0,
}  # fmt: skip
FLAGS: Final = {"retain": 0x01, "1": 0x02, "2": 0x04, "3": 0x06, "dup": 0x08}
PROPERTIES: Final = {
    "payload_format_indicator": 0x01, "message_expiry_interval": 0x02, "content_type": 0x03, "response_topic": 0x08,
    "correlation_data": 0x09, "subscription_identifier": 0x0B, "session_expiry_interval": 0x11,
    "assigned_client_identifier": 0x12, "server_keep_alive": 0x13, "authentication_method": 0x15,
    "authentication_data": 0x16, "request_problem_information": 0x17, "will_delay_interval": 0x18,
    "request_response_information": 0x19, "response_information": 0x1A, "server_reference": 0x1C,
    "reason_string": 0x1F, "receive_maximum": 0x21, "topic_alias_maximum": 0x22, "topic_alias": 0x23,
    "maximum_qos": 0x24, "retain_available": 0x25, "user_property": 0x26, "maximum_packet_size": 0x27,
    "wildcard_subscription_available": 0x28, "subscription_identifier_available": 0x29,
    "shared_subscription_available": 0x2A,
}  # fmt: skip

TOKEN = re.compile(
    rf"""\s+ | \#[^\n]*
    | (?P<count>\d+)\*
    | (?P<string>"[^"]*") | (?P<text>'[^']*')
    | (?P<gap>\.\.\.) | (?P<any>\?\?)
    | \$(?P<variable>[a-z]+)
    | (?P<word>(?:{"|".join(PACKETS)})(?:\.[a-z0-9]+)*)
    | (?P<hex>(?:[0-9A-F]{{2}})+)
    | (?P<property>[a-z_]+)
    | (?P<mark>[][(){{}}<>|])
    """,
    re.VERBOSE,
)
CLOSED_BY: Final = {"(": ")", "{": "}", "[": "]", "<": ">"}
READ: Final = 64
"""So many pieces of notation are remembered with what they mean: more than a row has."""
BODY_MAXIMUM: Final = 268_435_455
"""Bytes: what a Variable Byte Integer can say."""
VARINT_PATTERN: Final = rb"[\x80-\xff]{0,3}[\x00-\x7f]"


class NotationError(ValueError):
    """The text is not in this notation."""


class Bytes:
    """Bytes with holes: a pattern, or plain bytes when there are none. ``size`` is None when it is not known."""

    def __init__(self, pattern: bytes = b"", size: int | None = 0, plain: bytes | None = b"") -> None:
        self.pattern, self.size, self.plain = pattern, size, plain

    @classmethod
    def exactly(cls, data: bytes) -> Bytes:
        return cls(re.escape(data), len(data), data)

    def __add__(self, other: Bytes) -> Bytes:
        size = None if self.size is None or other.size is None else self.size + other.size
        plain = None if self.plain is None or other.plain is None else self.plain + other.plain
        return Bytes(self.pattern + other.pattern, size, plain)

    def __mul__(self, count: int) -> Bytes:
        size = None if self.size is None else self.size * count
        return Bytes(self.pattern * count, size, None if self.plain is None else self.plain * count)


def varint(value: int) -> bytes:
    """A variable byte integer in its shortest form; what is too long for one is a mistake of the table."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            break
    if len(out) > 4:
        raise NotationError("longer than a packet can be")
    return bytes(out)


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """The kinds and texts of what stands in a text, comments left out."""
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise NotationError(f"not understood: {text[at : at + 20]!r}")
        at = found.end()
        if found.lastgroup is not None:
            yield found.lastgroup, found[found.lastgroup]


class Reader:
    """Reads one text for one version; ``variables`` are what ``$name`` stands for."""

    def __init__(self, text: str, version: int, variables: Mapping[str, bytes]) -> None:
        self.tokens = [*tokens(text), ("end", "")]
        self.at = 0
        self.version = version
        self.variables = variables

    def next(self) -> tuple[str, str]:
        self.at += 1
        return self.tokens[self.at - 1]

    def all(self, *until: str) -> Bytes:
        """Everything up to one of these marks, which is taken as well."""
        found = Bytes()
        while True:
            kind, text = self.next()
            if text in until and kind in {"mark", "end"}:
                return found
            if kind == "end" or (kind == "mark" and text not in CLOSED_BY):
                raise NotationError(f"{text!r} where one of {until} belongs")
            found += self.item(kind, text)

    def packets(self) -> list[Bytes]:
        """A list of whole packets: each is a first byte and a body in parentheses."""
        found = []
        while self.tokens[self.at][0] != "end":
            kind, text = self.next()
            times = int(text) if kind == "count" else 1
            found += [self.item(*(self.next() if kind == "count" else (kind, text)))] * times
            if self.tokens[self.at - 1] != ("mark", ")"):
                raise NotationError("a packet that is expected is a first byte and a body in parentheses")
        return found

    def item(self, kind: str, text: str) -> Bytes:
        """One item; a first byte takes the body behind it along."""
        if kind == "count":
            if int(text) > BODY_MAXIMUM:  # said before it is made
                raise NotationError("longer than a packet can be")
            return self.item(*self.next()) * int(text)
        found = self.atom(kind, text)
        if kind in {"hex", "word", "any"} and self.tokens[self.at] == ("mark", "("):
            found += self.atom(*self.next())
        return found

    def atom(self, kind: str, text: str) -> Bytes:
        if kind == "mark":
            return self.group(text)
        if kind == "gap":
            return Bytes(rb".*", None, None)
        if kind == "any":
            return Bytes(rb".", 1, None)
        return Bytes.exactly(self.plain(kind, text))

    def plain(self, kind: str, text: str) -> bytes:
        if kind == "hex":
            return bytes.fromhex(text)
        if kind == "variable":
            return self.variables[text]
        if kind == "word":
            return bytes([first_byte(text)])
        if kind == "property":
            return bytes([PROPERTIES[text]])
        data = text[1:-1].encode()
        return len(data).to_bytes(2, "big") + data if kind == "string" else data

    def group(self, mark: str) -> Bytes:
        if mark == "<":
            return self.by_version()
        inner = self.all(CLOSED_BY[mark])
        if mark == "{" and self.version < V5:
            return Bytes()
        if inner.size is None:
            return Bytes(rb".." if mark == "[" else VARINT_PATTERN, None, None) + inner
        return Bytes.exactly(inner.size.to_bytes(2, "big") if mark == "[" else varint(inner.size)) + inner

    def by_version(self) -> Bytes:
        of_5 = self.all("|", ">")
        of_311 = self.all(">") if self.tokens[self.at - 1][1] == "|" else Bytes()
        return of_5 if self.version == V5 else of_311


def first_byte(word: str) -> int:
    """The first byte of ``PUBLISH.1.dup``."""
    name, *flags = word.split(".")
    if name not in PACKETS or any(flag not in FLAGS for flag in flags):
        raise NotationError(f"no such packet: {word}")
    return PACKETS[name] | sum(FLAGS[flag] for flag in flags)


def to_bytes(text: str, version: int, variables: Mapping[str, bytes]) -> bytes:
    """What is sent: bytes without holes."""
    return _to_bytes(text, version, tuple(variables.items()))


# Each row is carried out in many cuts, and means the same in all of them.
@lru_cache(maxsize=READ)
def _to_bytes(text: str, version: int, variables: tuple[tuple[str, bytes], ...]) -> bytes:
    found = Reader(text, version, dict(variables)).all("").plain
    if found is None:
        raise NotationError("what is sent has no holes")
    return found


def to_patterns(text: str, version: int, variables: Mapping[str, bytes]) -> list[re.Pattern[bytes]]:
    """What must come back: a pattern for each packet."""
    return _to_patterns(text, version, tuple(variables.items()))


@lru_cache(maxsize=READ)
def _to_patterns(text: str, version: int, variables: tuple[tuple[str, bytes], ...]) -> list[re.Pattern[bytes]]:
    return [re.compile(one.pattern, re.DOTALL) for one in Reader(text, version, dict(variables)).packets()]
