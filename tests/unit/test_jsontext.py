"""Rules of JSON bodies that a hostile caller would like to be different."""

from __future__ import annotations

import pytest

from api.jsontext import parse_object
from broker.errors import BadRequest


def test_a_key_given_twice_is_found_without_looking_at_every_pair() -> None:
    # Looking for each name among all names took minutes here, and the loop stood still meanwhile.
    names = ",".join(f'"{number:x}":0' for number in range(130_000))
    with pytest.raises(BadRequest, match="the key 'z' is there twice"):
        parse_object(f'{{"payload":{{{names},"z":0,"z":0}}}}'.encode())
