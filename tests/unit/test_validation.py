"""Judging the fields of a body: one error is told, however many there are."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from api.app import FIELDS_MAXIMUM, validated
from api.device_bodies import DeviceBody
from api.table import ROUTES
from broker.errors import BadRequest


def test_of_very_many_unknown_fields_one_is_judged() -> None:
    values = {"name": "abc", "type": "sensor"} | {f"x{number}": 0 for number in range(10 * FIELDS_MAXIMUM)}
    with pytest.raises(BadRequest, match="unknown field 'x0'") as caught:
        validated(DeviceBody, values)
    assert isinstance(caught.value.__cause__, ValidationError)
    assert caught.value.__cause__.error_count() == 1


def test_no_body_and_no_query_has_so_many_fields() -> None:
    for row in ROUTES:
        for model in (row.query, row.body):
            assert model is None or len(model.model_fields) < FIELDS_MAXIMUM
            assert model is None or all(field.alias is None for field in model.model_fields.values())
