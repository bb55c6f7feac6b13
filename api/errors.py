"""The one place that turns an error into an HTTP answer of the contract's shape.

Here belong statuses, codes and the body of an error. Not here: what causes one.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse

from api.jsontext import EscapedJSONResponse
from broker.errors import (
    AuthFailed,
    BadRequest,
    BrokerError,
    Conflict,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    StoreError,
    Unavailable,
)

STATUS: dict[type[BrokerError], int] = {
    BadRequest: 400,
    AuthFailed: 401,
    PermissionDenied: 403,
    QuotaExceeded: 403,
    NotFound: 404,
    Conflict: 409,
    PayloadTooLarge: 413,
    RateLimited: 429,
    StoreError: 503,
    Unavailable: 503,
}

SHOWN_CHARACTERS = 100

# Of a large value only so much is written as is shown.
BRIEFLY = reprlib.Repr()
BRIEFLY.maxstring = BRIEFLY.maxother = BRIEFLY.maxlong = SHOWN_CHARACTERS
BRIEFLY.maxlist = BRIEFLY.maxdict = SHOWN_CHARACTERS // 4

# What a model's own words begin with; what is left reads on after "expected".
OPENINGS = re.compile(r"^(Value error, |Input should be |String should have )")


class MethodNotAllowed(BrokerError):
    """The path is known, the method is not one of ``allowed``."""

    code = "METHOD_NOT_ALLOWED"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"this path takes {allowed}")
        self.allowed = allowed


def error_answer(error: BrokerError) -> JSONResponse:
    """Render an error of this package; one that the table does not know is a 500 without its words."""
    status = 405 if isinstance(error, MethodNotAllowed) else _status(error)
    if status == 500:
        return internal_error_answer()
    return _render(status, error.code, str(error), _details(error), _headers(error))


def error_body(error: BrokerError) -> tuple[int, dict[str, Any]]:
    """Give status and body of an error that is one of many in an answer."""
    answered = _status(error)
    return answered, _body(error.code, str(error), _details(error))


def internal_error_answer() -> JSONResponse:
    """Render a failure that is ours and not the caller's business."""
    return _render(500, "INTERNAL_ERROR", "something went wrong here; it has been logged", None, {})


def shape() -> dict[str, Any]:
    """Describe the body of every error, as a JSON schema."""
    text = {"type": "string"}
    details = {
        "type": "object",
        "description": "There when one field is to blame",
        "properties": {"field": text, "provided": {"description": "What was there"}, "expected": text},
        "required": ["field", "provided", "expected"],
    }
    error = {
        "type": "object",
        "properties": {"code": text, "message": text, "details": details},
        "required": ["code", "message"],
    }
    return {
        "type": "object",
        "description": "Why a request was refused; `detail` repeats the message",
        "properties": {"error": error, "detail": text},
        "required": ["error", "detail"],
    }


def as_bad_request(error: ValidationError) -> BadRequest:
    """Turn the first thing that a model refused into the contract's words."""
    first = error.errors(include_url=False)[0]
    field = cut(".".join(str(part) for part in first["loc"])) or first.get("ctx", {}).get("field", "")
    provided = None if first["type"] == "refused" else shown(first["input"])
    if first["type"] == "extra_forbidden":
        return BadRequest(f"unknown field {field!r}", field=field, provided=provided, expected="no such field")
    if first["type"] == "missing":
        return BadRequest(f"{field} is required", field=field, expected="a value")
    expected = OPENINGS.sub("", first["msg"])
    place = f"{field}: " if field else ""
    return BadRequest(f"{place}expected {expected}", field=field, provided=provided, expected=expected)


def shown(value: object) -> object:
    """Give back what was provided, cut to what an answer should carry."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    return cut(value if isinstance(value, str) else BRIEFLY.repr(value))


def cut(text: str) -> str:
    """Cut a text to what an answer should carry: a caller's own name for a field may be a megabyte."""
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _status(error: BrokerError) -> int:
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def _details(error: BrokerError) -> dict[str, Any] | None:
    if not isinstance(error, BadRequest) or not error.field:
        return None
    return {"field": error.field, "provided": shown(error.provided), "expected": error.expected}


def _headers(error: BrokerError) -> dict[str, str]:
    if isinstance(error, MethodNotAllowed):
        return {"Allow": error.allowed}
    if isinstance(error, RateLimited):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, AuthFailed):
        return {"WWW-Authenticate": "Bearer"}
    return {}


def _render(
    status: int, code: str, message: str, details: dict[str, Any] | None, headers: Mapping[str, str]
) -> JSONResponse:
    return EscapedJSONResponse(_body(code, message, details), status_code=status, headers=dict(headers))


def _body(code: str, message: str, details: dict[str, Any] | None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message}
    if details is not None:
        error["details"] = details
    return {"error": error, "detail": message}
