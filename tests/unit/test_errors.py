"""Rules of the words in which a request is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from api.device_bodies import DeviceBody
from api.errors import SHOWN_CHARACTERS, as_bad_request, shown


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "ab", "type": "sensor"}, "name: expected at least 3 characters"),
        ({"name": "a" * 101, "type": "sensor"}, "name: expected at most 100 characters"),
        ({"name": 3, "type": "sensor"}, "name: expected a valid string"),
        ({"name": "abc", "type": "lamp"}, "type: expected 'sensor', 'actuator', 'gateway' or 'other'"),
        (
            {"name": "abc", "type": "sensor", "device_id": "bulk"},
            "device_id: expected an id that is not a reserved word",
        ),
        ({"name": "abc", "type": "sensor", "colour": 1}, "unknown field 'colour'"),
        ({"type": "sensor"}, "name is required"),
    ],
)
def test_a_refusal_names_the_field_and_reads_as_a_sentence(body: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DeviceBody.model_validate(body)
    assert str(as_bad_request(caught.value)) == message


def test_of_a_name_that_nobody_knows_only_so_much_is_told_as_is_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        DeviceBody.model_validate({"name": "abc", "type": "sensor", "x" * 100_000: 1})
    refusal = as_bad_request(caught.value)
    assert refusal.field == "x" * SHOWN_CHARACTERS + "..."
    assert str(refusal) == f"unknown field {refusal.field!r}"


class Counted:
    """Knows how often it was written."""

    written = 0

    def __repr__(self) -> str:
        Counted.written += 1
        return "x"


def test_of_a_large_value_only_so_much_is_written_as_is_shown() -> None:
    for value in (
        [Counted()] * 100_000,
        {number: Counted() for number in range(100_000)},
        [[Counted()] * 1_000] * 1_000,
    ):
        text = shown(value)
        assert isinstance(text, str)
        assert 0 < len(text) <= SHOWN_CHARACTERS + 3
    assert Counted.written < 3_000


def test_a_small_value_is_shown_as_it_is() -> None:
    assert shown(["a", 1, {"b": None}]) == "['a', 1, {'b': None}]"
    assert shown(10**50) == str(10**50)
