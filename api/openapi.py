"""The API described by itself: an OpenAPI 3.1 document made of the rows that route and validate.

Here belongs what a row looks like to others. Not here: the rows (``*_table``), their examples (``examples``), and the
page for people (``docs_page``).
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from api.errors import STATUS, shape
from api.examples import EXAMPLES, Example
from api.idempotency import FORM as IDEMPOTENCY_FORM
from api.idempotency import HEADER as IDEMPOTENCY_HEADER
from api.limits import BURST_REQUESTS, REQUESTS_PER_MINUTE
from api.routes import ApiRoute, KeyKind, Many, key_kind
from broker.errors import AuthFailed, BadRequest, BrokerError, PayloadTooLarge, PermissionDenied, RateLimited

Json = dict[str, Any]

REF = "#/components/schemas/{model}"
NAME_OF_PATH = re.compile(r"{([a-z_]+)}")
JSON = "application/json"
WORDS = {"ge": "minimum", "le": "maximum"}  # pydantic's, behind a validator of our own
KEYS: dict[KeyKind | None, list[Json]] = {
    "account": [{"bearer": []}, {"apiKey": []}],
    "admin": [{"adminBearer": []}, {"adminKey": []}],
    None: [],
}
RATE_HEADERS = {
    "X-RateLimit-Limit": "Requests a minute",
    "X-RateLimit-Remaining": "Requests that would be taken at once now",
    "X-RateLimit-Reset": "When all of them would be, in seconds since 1970",
}
IDEMPOTENCY_KEY: Json = {
    "name": IDEMPOTENCY_HEADER,
    "in": "header",
    "required": False,
    "description": "The same request with the same key gets the same answer for a day, and is done once",
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_FORM.pattern}$"},
}
ABOUT = f"""Devices, their credentials, messages to them, and what is used of the plan.

A success is durable before it is sent. Times are ISO 8601 in UTC, in whole seconds. Each key may make
{REQUESTS_PER_MINUTE} requests a minute, and {BURST_REQUESTS} more at once. A field or parameter that is not named here
is refused by its name."""


def describe(routes: Sequence[ApiRoute], version: str) -> Json:
    """Make the document of all rows, in their order."""
    paths: defaultdict[str, Json] = defaultdict(dict)
    for row in routes:
        paths[row.path][row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {"title": "IoT broker", "version": version, "description": ABOUT},
        "servers": [{"url": "/"}],
        "paths": dict(paths),
        "components": {
            "schemas": _schemas(routes),
            "headers": {name: _header(text, {"type": "integer"}) for name, text in RATE_HEADERS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key"},
                "adminBearer": {"type": "http", "scheme": "bearer", "description": "A key of the operator"},
                "adminKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key"},
            },
        },
    }


def _operation(row: ApiRoute) -> Json:
    example = EXAMPLES.get((row.method, row.path), Example())
    operation: Json = {
        "operationId": _operation_id(row),
        "summary": row.summary,
        "description": _description(row),
        "tags": [_tag(row)],
        "security": KEYS[key_kind(row.path)],
        "parameters": [*_path_parameters(row, example), *_query_parameters(row, example), *_header_parameters(row)],
        "responses": {**_successes(row), **_failures(row)},
    }
    if row.scope is not None:
        operation["x-required-scope"] = row.scope
    if row.body is not None:
        content: Json = {"schema": _ref(row.body) if row.many is None else _list(row.body, row.many)}
        if example.body is not None:
            content["example"] = dict(example.body)
        operation["requestBody"] = {
            "required": not row.body_may_be_missing,
            "description": _size(row),
            "x-maximum-bytes": row.request_maximum_bytes,
            "content": {JSON: content},
        }
    return operation


def _size(row: ApiRoute) -> str:
    size = f"At most {row.request_maximum_bytes:,} bytes"
    return size if row.many is None else f"{size}, and {row.body_maximum_bytes:,} for each of `{row.many.name}`"


def _list(model: type[BaseModel], many: Many) -> Json:
    items = {"type": "array", "items": _ref(model), "minItems": 1, "maxItems": many.maximum}
    return {"type": "object", "properties": {many.name: items}, "required": [many.name], "additionalProperties": False}


def _operation_id(row: ApiRoute) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", row.path.removeprefix("/v1/iot").lower()).strip("_")
    return f"{row.method.lower()}_{words}"


def _description(row: ApiRoute) -> str:
    about = inspect.getdoc(row.handler) or ""
    return about if row.scope is None else f"{about}\n\nA key with scopes needs `{row.scope}`.".strip()


def _tag(row: ApiRoute) -> str:
    parts = row.path.strip("/").split("/")
    return parts[2] if len(parts) > 2 else "process"


# ---------------------------------------------------------------- what is asked


def _path_parameters(row: ApiRoute, example: Example) -> list[Json]:
    return [
        _with_example({"name": name, "in": "path", "required": True, "schema": {"type": "string"}}, example.path)
        for name in NAME_OF_PATH.findall(row.path)
    ]


def _header_parameters(row: ApiRoute) -> list[Json]:
    return [IDEMPOTENCY_KEY] if row.idempotent else []


def _query_parameters(row: ApiRoute, example: Example) -> list[Json]:
    schema = row.query.model_json_schema()
    required = schema.get("required", ())
    return [
        _with_example(_query_parameter(name, one, required=name in required), example.query)
        for name, one in schema.get("properties", {}).items()
    ]


def _query_parameter(name: str, schema: Json, *, required: bool) -> Json:
    plain = _not_null(schema)
    about = {"description": plain.pop("description")} if "description" in plain else {}
    return {"name": name, "in": "query", "required": required, **about, "schema": plain}


def _with_example(parameter: Json, values: Any) -> Json:
    return {**parameter, "example": values[parameter["name"]]} if parameter["name"] in values else parameter


def _not_null(schema: Json) -> Json:
    """Say of a parameter that may be left out what it is when it is there."""
    plain = {key: value for key, value in _tidy(schema).items() if key not in ("default", "anyOf")}
    if schema.get("default") is not None:
        plain["default"] = schema["default"]
    for one in schema.get("anyOf", ()):
        if one != {"type": "null"}:
            plain |= _tidy(one)
    return plain


def _tidy(schema: Json) -> Json:
    """Leave out the title that repeats a field's name, and name limits as JSON schema does."""
    return {WORDS.get(key, key): value for key, value in schema.items() if key != "title"}


# ---------------------------------------------------------------- what is answered


def _successes(row: ApiRoute) -> Json:
    answers: Json = {str(row.status): _answer("What was asked for", row.content_type, _success_schema(row))}
    if row.status == 204:
        answers["204"] = _answer("It is done; there is no body", "", None)
    for status, model in row.other_answers.items():
        answers[str(status)] = _answer(_first_line(model), JSON, _ref(model))
    return answers


def _success_schema(row: ApiRoute) -> Json:
    if row.answer is not None:
        return _ref(row.answer)
    return {"type": "object"} if row.content_type == JSON else {"type": "string"}


def _failures(row: ApiRoute) -> Json:
    kinds: list[type[BrokerError]] = [BadRequest, *row.errors]
    if key_kind(row.path) is not None:
        kinds += [AuthFailed, PermissionDenied, RateLimited]
    if row.body is not None:
        kinds.append(PayloadTooLarge)
    by_status: defaultdict[int, list[type[BrokerError]]] = defaultdict(list)
    for kind in dict.fromkeys(kinds):
        by_status[STATUS[kind]].append(kind)
    answers = {str(status): _failure(by_status[status]) for status in sorted(by_status)}
    answers["500"] = _answer("`INTERNAL_ERROR`: a fault of ours; it is in the log", JSON, {"$ref": _name("Error")})
    return {status: one for status, one in answers.items() if int(status) not in row.other_answers}


def _failure(kinds: Sequence[type[BrokerError]]) -> Json:
    words = "; ".join(f"`{kind.code}`: {_first_line(kind)}" for kind in kinds)
    answer = _answer(words, JSON, {"$ref": _name("Error")})
    if RateLimited in kinds:
        answer["headers"]["Retry-After"] = _header("Seconds until one is taken again", {"type": "integer"})
    if AuthFailed in kinds:
        answer["headers"]["WWW-Authenticate"] = _header("How to say who asks", {"type": "string"})
    return answer


def _answer(description: str, content_type: str, schema: Json | None) -> Json:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in RATE_HEADERS}
    answer: Json = {"description": description, "headers": headers}
    if schema is not None:
        answer["content"] = {content_type: {"schema": schema}}
    return answer


def _header(description: str, schema: Json) -> Json:
    return {"description": description, "schema": schema}


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


# ---------------------------------------------------------------- models


def _schemas(routes: Iterable[ApiRoute]) -> Json:
    modes: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
    for row in routes:
        if row.body is not None:
            modes[row.body, "validation"] = None
        for model in (row.answer, *row.other_answers.values()):
            if model is not None:
                modes[model, "serialization"] = None
    _, defined = models_json_schema(list(modes), ref_template=REF)
    schemas: Json = defined.get("$defs", {})
    return {name: _untitled(one) for name, one in sorted(schemas.items())} | {"Error": shape()}


def _untitled(schema: Json) -> Json:
    """Tidy the fields of a model."""
    fields = {name: _tidy(one) for name, one in schema.get("properties", {}).items()}
    return {**schema, "properties": fields} if fields else schema


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": _name(model.__name__)}


def _name(model: str) -> str:
    return REF.format(model=model)
