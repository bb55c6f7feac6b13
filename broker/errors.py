"""The errors that cross floors, in one tree; each knows its code in HTTP answers.

Here belong the words for what went wrong. Not here: bytes on a wire (``_core`` turns reason codes into packets, ``api``
turns these into JSON).
"""

from __future__ import annotations


class BrokerError(Exception):
    """Base of all errors that this package raises on purpose."""

    code = "INTERNAL_ERROR"


class ConfigError(BrokerError):
    """The configuration cannot be used; the message names the key and what was expected."""

    code = "INVALID_CONFIG"


class BadRequest(BrokerError):
    """A value is of the wrong type or out of range; ``field``, ``provided`` and ``expected`` say which and why."""

    code = "INVALID_PARAMETER"

    def __init__(self, message: str, *, field: str = "", provided: object = None, expected: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.provided = provided
        self.expected = expected


class AuthFailed(BrokerError):
    """No key, or one that is malformed, unknown, expired or revoked: one text for all of them."""

    code = "AUTH_FAILED"


class PermissionDenied(BrokerError):
    """The key is valid but lacks the scope."""

    code = "INSUFFICIENT_PERMISSIONS"


class QuotaExceeded(BrokerError):
    """The plan's number of devices is reached."""

    code = "QUOTA_EXCEEDED"


class NotFound(BrokerError):
    """There is no such thing, or it belongs to another account: both look the same."""

    code = "NOT_FOUND"


class Conflict(BrokerError):
    """The id is taken."""

    code = "CONFLICT"


class PayloadTooLarge(BrokerError):
    """A body or message is over its limit."""

    code = "PAYLOAD_TOO_LARGE"


class RateLimited(BrokerError):
    """Too many requests; ``retry_after_s`` says when one will be taken again."""

    code = "RATE_LIMITED"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(BrokerError):
    """The store cannot be written, or the broker is stopping."""

    code = "UNAVAILABLE"


class StoreError(BrokerError):
    """The store could not be opened, read or committed."""

    code = "UNAVAILABLE"


class DataDirLocked(StoreError):
    """Another process owns the data directory."""

    code = "UNAVAILABLE"


class WrongThread(BrokerError):
    """A shard was called from a thread that does not own it."""
