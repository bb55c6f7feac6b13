"""The answer to bulk registration.

Here belong its fields. Not here: the bodies, which are those of single devices (``device_bodies``).
"""

from __future__ import annotations

from typing import Any

from api.models import Answer, NewDeviceAnswer


class ErrorAnswer(Answer):
    """Why one of many was refused; ``details`` is there when one field is to blame."""

    code: str
    message: str
    details: dict[str, Any] | None = None


class BulkResult(Answer):
    """What became of one item: ``device`` with its credentials at 201, else ``error`` and ``detail``."""

    status: int
    device: NewDeviceAnswer | None = None
    error: ErrorAnswer | None = None
    detail: str | None = None


class BulkAnswer(Answer):
    """What became of each item, in the order of the request."""

    results: list[BulkResult]
    created: int
    failed: int
