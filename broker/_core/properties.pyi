"""The property table of MQTT 5 (section 2.2.2.2) and its two directions.

Names are the specification's in snake_case. Values: ``int`` for numbers, ``str``, ``bytes``; ``user_property`` is a
tuple of pairs of ``str`` and ``subscription_identifier`` a tuple of ``int``, also where one alone is allowed.
"""

from collections.abc import Mapping
from typing import NamedTuple

class PropertyRule(NamedTuple):
    """One row of the table; ``kind`` is byte, two_bytes, four_bytes, varint, string, binary or pair."""

    identifier: int
    name: str
    kind: str
    sites: frozenset[str]
    repeatable_at: frozenset[str]

PROPERTIES: tuple[PropertyRule, ...]
SITE_NAMES: tuple[str, ...]
KIND_NAMES: tuple[str, ...]

def decode_properties(data: bytes, site: str) -> dict[str, object]:
    """Read a property list with its length, standing at one of ``SITE_NAMES``; nothing may follow it.

    Raises ``ProtocolViolation``: 0x81 malformed, 0x82 a rule is broken, 0x94 topic alias 0, 0x97 more than 64 user
    properties.
    """

def encode_properties(properties: Mapping[str, object], site: str) -> bytes:
    """Write a property list with its length, in the order of the identifiers; user properties keep theirs.

    Raises ``BadRequest`` for an unknown name, a value of the wrong type or range, or a property not allowed there.
    """
