"""The description of the API: valid by the specification, complete by the route table, and a page that is inert."""

from __future__ import annotations

import re
from base64 import b64encode
from contextlib import nullcontext
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import ValidationError

from api import docs_page
from api.errors import STATUS
from api.examples import EXAMPLES
from api.openapi import describe
from api.routes import ApiRoute, key_kind
from api.table import ROUTES

DOCUMENT = describe(ROUTES, "1.2.3")
OPERATIONS = {
    (method.upper(), path): operation for path, rows in DOCUMENT["paths"].items() for method, operation in rows.items()
}


def test_the_document_is_valid_openapi_3_1() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_row_is_described_once_and_nothing_else() -> None:
    assert sorted(OPERATIONS) == sorted((row.method, row.path) for row in ROUTES)
    ids = [one["operationId"] for one in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)


def test_every_row_has_an_example_and_every_example_a_row() -> None:
    assert set(EXAMPLES) == {(row.method, row.path) for row in ROUTES}


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: f"{row.method} {row.path}")
def test_an_example_is_what_its_row_takes(row: Any) -> None:
    example = EXAMPLES[row.method, row.path]
    assert set(example.path) == set(re.findall(r"{(\w+)}", row.path))
    row.query.model_validate({name: str(value) for name, value in example.query.items()})
    assert (example.body is None) == (row.body is None)
    if row.body is not None:
        assert example.body is not None
        for body in example.body[row.many.name] if row.many else [example.body]:
            row.body.model_validate(body)


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: f"{row.method} {row.path}")
def test_security_scope_and_errors_are_those_of_the_row(row: Any) -> None:
    operation = OPERATIONS[row.method, row.path]
    assert bool(operation["security"]) == (key_kind(row.path) is not None)
    assert operation.get("x-required-scope") == row.scope
    statuses = {str(row.status), *map(str, row.other_answers), *(str(STATUS[one]) for one in row.errors), "400", "500"}
    assert statuses <= set(operation["responses"])
    for answer in operation["responses"].values():
        assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= set(answer["headers"])
    if key_kind(row.path) is not None:
        assert "Retry-After" in operation["responses"]["429"]["headers"]


def test_limits_of_parameters_are_told() -> None:
    limit = next(one for one in OPERATIONS["GET", "/v1/iot/devices"]["parameters"] if one["name"] == "limit")
    assert limit == {
        "name": "limit",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
        "example": 20,
    }


BODIES: list[tuple[str, dict[str, Any], bool]] = [
    ("DeviceBody", {"name": "abc", "type": "sensor"}, True),
    ("DeviceBody", {"name": "abc", "device_type": "thermostat"}, True),
    ("DeviceBody", {"name": "abc", "device_id": "boiler-7", "type": None}, True),
    ("DeviceBody", {"name": "abc"}, False),
    ("DeviceBody", {"name": "abc", "type": None}, False),
    ("DeviceBody", {"name": "abc", "device_id": "bulk"}, False),
    ("DeviceBody", {"name": "abc", "device_id": "a/b"}, False),
    ("DeviceBody", {"name": "abc", "type": "sensor", "certificate_fingerprint": "ab:" * 31 + "AB"}, True),
    ("DeviceBody", {"name": "abc", "type": "sensor", "certificate_fingerprint": "ab"}, False),
    ("DeviceBody", {"name": "abc", "type": "sensor", "colour": "red"}, False),
    ("DeviceChangeBody", {}, True),
    ("DeviceChangeBody", {"description": None, "metadata": None, "certificate_fingerprint": None}, True),
    ("DeviceChangeBody", {"name": None}, False),
    ("DeviceChangeBody", {"status": None}, False),
    ("DeviceChangeBody", {"is_active": None}, False),
    ("WebhookBody", {"url": "https://hooks.example.com/", "events": ["presence"]}, True),
    ("WebhookBody", {"url": "gopher://hooks.example.com/", "events": ["presence"]}, False),
    ("WebhookBody", {"url": "https://hooks.example.com/", "events": ["presence", "presence"]}, False),
    ("WebhookBody", {"url": "https://hooks.example.com/", "events": ["presence"], "topic_filter": "a/#"}, False),
    ("WebhookBody", {"url": "https://hooks.example.com/", "events": ["telemetry"], "topic_filter": "a/#"}, True),
    ("WebhookChangeBody", {"topic_filter": None}, True),
    ("MessageBody", {}, False),
    ("MessageBody", {"payload": None}, True),
    ("MessageBody", {"payload": 1, "payload_base64": None}, True),
    ("MessageBody", {"payload": 1, "payload_base64": ""}, False),
    ("MessageBody", {"payload": None, "payload_base64": "YQ=="}, False),
    ("MessageBody", {"payload_base64": None}, False),
    ("MessageBody", {"payload_base64": ""}, True),
    ("MessageBody", {"payload_base64": "YWE="}, True),
    ("MessageBody", {"payload_base64": "YWE"}, False),
    ("MessageBody", {"payload_base64": "Y-E="}, False),
    ("MessageBody", {"payload": 1, "message_id": "a/b"}, False),
    ("MessageBody", {"payload": 1, "message_id": None}, True),
    ("PolicyCheckBody", {"device_id": "d", "action": "publish", "topic": "t", "retain": True}, True),
    ("PolicyCheckBody", {"device_id": "d", "action": "subscribe", "topic": "t", "retain": True}, False),
    ("PolicyCheckBody", {"device_id": "d", "action": "subscribe", "topic": "t", "payload_bytes": 1}, False),
    ("PolicyCheckBody", {"device_id": "d", "key_name": None, "action": "subscribe", "topic": "t"}, True),
    ("PolicyCheckBody", {"device_id": "d", "key_name": "k", "action": "publish", "topic": "t"}, False),
    ("PolicyCheckBody", {"key_name": "k", "action": "publish", "topic": "t"}, True),
    ("PolicyCheckBody", {"action": "publish", "topic": "t"}, False),
    ("WebhookChangeBody", {"events": None}, False),
]


@pytest.mark.parametrize(("model", "body", "good"), BODIES, ids=str)
def test_a_body_is_judged_by_its_schema_as_it_is_by_its_model(model: str, body: dict[str, Any], good: bool) -> None:
    schema = DOCUMENT["components"]["schemas"][model]
    assert Draft202012Validator(schema).is_valid(body) == good
    row = next(one for one in ROUTES if one.body is not None and one.body.__name__ == model)
    assert row.body is not None
    refused = nullcontext() if good or "gopher" in str(body) else pytest.raises(ValidationError)  # admin looks at URLs
    with refused:
        row.body.model_validate(body)


@pytest.mark.parametrize(
    "row", [row for row in ROUTES if row.body is not None], ids=lambda row: f"{row.method} {row.path}"
)
def test_how_large_a_body_may_be_is_told(row: ApiRoute) -> None:
    told = OPERATIONS[row.method, row.path]["requestBody"]
    assert told["x-maximum-bytes"] == row.request_maximum_bytes <= 3 * 512 * 1024
    assert f"{row.request_maximum_bytes:,}" in told["description"]


def test_an_offset_that_needs_a_limit_says_so() -> None:
    offset = next(one for one in OPERATIONS["GET", "/v1/iot/credentials"]["parameters"] if one["name"] == "offset")
    assert "limit" in offset["description"]


# ---------------------------------------------------------------- the page


class Elements(HTMLParser):
    """All elements of a page with their attributes, and all ids."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(body: bytes) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(body.decode())
    return parser.found


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    found = elements(docs_page.render(DOCUMENT).body)
    assert {tag for tag, _ in found}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "base"})
    for _, attributes in found:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attributes)
        assert (attributes.get("href") or "#").startswith(("#", "/openapi.json"))


def test_the_page_s_own_style_is_what_its_policy_allows() -> None:
    page = docs_page.render(DOCUMENT)
    style = re.search(rb"<style>(.*?)</style>", page.body, re.DOTALL)
    assert style is not None
    policy = docs_page.headers(page)["Content-Security-Policy"]
    assert f"'sha256-{b64encode(sha256(style.group(1)).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_every_link_of_the_page_leads_somewhere() -> None:
    found = elements(docs_page.render(DOCUMENT).body)
    ids = {attributes["id"] for _, attributes in found if "id" in attributes}
    links = {str(attributes["href"]).removeprefix("#") for tag, attributes in found if tag == "a"}
    assert len(ids) > len(OPERATIONS)
    assert links - ids == {"/openapi.json"}


def test_words_of_a_document_are_text_on_the_page_and_nothing_more() -> None:
    hostile = describe(ROUTES, "<script>alert(1)</script>")
    hostile["paths"]["/v1/iot/devices"]["get"]["summary"] = '"><img src=x onerror=alert(1)>'
    found = elements(docs_page.render(hostile).body)
    assert {tag for tag, _ in found}.isdisjoint({"script", "img"})
