"""The errors that cross floors, in one tree; each knows its code in HTTP answers.

Here belong the words for what went wrong. Not here: bytes on a wire (``_core`` turns reason codes into packets, ``api``
turns these into JSON).
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.reasons import ReasonCode


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


class BrokerStopped(Unavailable):
    """The broker does not run, or stopped before it could do what it was asked."""


class Refused(BrokerError):
    """The core said no in the words of MQTT 5: ``reason_code`` is below."""

    code = "NOT_ACCEPTED"

    def __init__(self, message: str, reason_code: ReasonCode) -> None:
        super().__init__(f"{message}: {reason_code.name.lower().replace('_', ' ')} (0x{reason_code:02X})")
        self.reason_code = reason_code


class PublishRefused(Refused):
    """A message that was published from inside the process was not accepted."""

    def __init__(self, topic_name: str, reason_code: ReasonCode) -> None:
        super().__init__(f"the message to {topic_name!r} was not accepted", reason_code)


class SubscribeRefused(Refused):
    """A subscription from inside the process was not granted."""

    def __init__(self, topic_filters: Sequence[str], reason_code: ReasonCode) -> None:
        super().__init__(f"the subscription to {', '.join(topic_filters)} was not granted", reason_code)


class SubscriptionEnded(Refused):
    """The broker ended a subscription from inside the process while it went on itself."""

    def __init__(self, topic_filters: Sequence[str], reason_code: ReasonCode) -> None:
        super().__init__(f"the subscription to {', '.join(topic_filters)} was ended", reason_code)


class StoreError(BrokerError):
    """The store could not be opened, read or committed."""

    code = "UNAVAILABLE"


class StoreDamaged(StoreError):
    """What is on disk is no store of this broker, or no longer."""


class StoreTooNew(StoreError):
    """The store was written by a later version of the broker."""


class DataDirLocked(StoreError):
    """Another process owns the data directory."""

    code = "UNAVAILABLE"


class WrongThread(BrokerError):
    """A shard was called from a thread that does not own it."""
