"""Judging the fields of a body: one error is told, however many there are."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from api.app import FIELDS_MAXIMUM, QUERY_MAXIMUM_BYTES, judged_query, parse_query, validated
from api.device_bodies import DeviceBody
from api.models import Query
from api.table import ROUTES
from broker.errors import BadRequest

QUERIES = pytest.mark.parametrize("query", sorted({row.query for row in ROUTES}, key=lambda query: query.__name__))


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


def test_of_a_parameter_that_is_there_twice_only_so_much_is_told_as_is_shown() -> None:
    name = "x" * 3_000
    with pytest.raises(BadRequest) as caught:
        judged_query(Query, f"{name}=1&{name}=2".encode())
    assert len(str(caught.value)) < 200
    assert len(caught.value.field) < 200


def test_a_query_has_so_many_bytes_and_no_more() -> None:
    assert parse_query(b"a=" + b"x" * (QUERY_MAXIMUM_BYTES - 2)) == {"a": "x" * (QUERY_MAXIMUM_BYTES - 2)}
    with pytest.raises(BadRequest, match="over 8192 bytes"):
        parse_query(b"a=" + b"x" * (QUERY_MAXIMUM_BYTES - 1))


@QUERIES
@pytest.mark.parametrize("value", ["", "1", "%00"])
def test_an_unknown_parameter_is_refused_by_name_whatever_its_value(query: type[Query], value: str) -> None:
    for query_string in (f"unknown={value}", *(f"{known}=&unknown={value}" for known in query.model_fields)):
        with pytest.raises(BadRequest, match="unknown field 'unknown'") as caught:
            judged_query(query, query_string.encode())
        assert caught.value.field == "unknown"


@QUERIES
def test_a_known_parameter_is_taken_once_and_empty_is_none(query: type[Query]) -> None:
    for known in query.model_fields:
        assert judged_query(query, f"{known}=".encode()) == query()
        for values in (("", ""), ("1", ""), ("1", "1")):
            with pytest.raises(BadRequest, match=f"{known} is there twice"):
                judged_query(query, "&".join(f"{known}={value}" for value in values).encode())
