"""Rules of the words in which a request is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from api.device_bodies import DeviceBody
from api.errors import as_bad_request


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
