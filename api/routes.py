"""What a route is, and the request that reaches its handler: the words in which the one table is written.

Here belongs the shape of the table. Not here: the table itself (``table``), nor what the handlers do (``handlers``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from api.models import Answer, Body, Query
from broker.admin import Admin, Companion, KeyContext
from broker.errors import BrokerError

if TYPE_CHECKING:
    from api.idempotency import Once

BASE_PATH = "/v1/iot"

OutcomeT = TypeVar("OutcomeT")


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that passed key, rate limit and validation; ``query`` and ``body`` are the route's models.

    ``from_loopback`` is True for a caller on this machine that speaks for nobody else, as a proxy does.
    """

    admin: Admin
    account_id: int
    path: Mapping[str, str]
    query: Any
    body: Any
    from_loopback: bool = False
    once: Once | None = None

    def keeping(self, rendered: Callable[[OutcomeT], Answer]) -> Callable[[OutcomeT], Companion] | None:
        """Let the outcome's answer be kept for who asks again, where the caller has named a key for that."""
        return None if self.once is None else self.once.keeping(rendered)


@dataclass(frozen=True, slots=True)
class Streamed:
    """A JSON answer in parts, for what is too long to render at once."""

    parts: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that is no JSON."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class WithStatus:
    """An answer whose status is not the route's success."""

    status: int
    answer: Answer


Scope = Literal["devices:read", "devices:write", "publish", "subscribe", "usage:read"]

Handler = Callable[[ApiRequest], Awaitable[Answer | Streamed | Text | WithStatus | None]]


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One row of the table; a path below ``BASE_PATH`` needs a key, and one with this scope where one is named.

    An ``idempotent`` one does its work once for each Idempotency-Key: its handler gives ``admin`` what
    ``request.keeping`` makes of the outcome. One that ``waits`` for somebody is given up when its caller hangs up.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    query: type[Query]
    body: type[Body] | None
    answer: type[Answer] | None
    status: int
    errors: tuple[type[BrokerError], ...] = ()
    body_may_be_missing: bool = False
    scope: Scope | None = None
    idempotent: bool = False
    waits: bool = False


def needs_key(path: str) -> bool:
    """Tell whether a path lies below the base path."""
    return path == BASE_PATH or path.startswith(BASE_PATH + "/")


NO_KEY = KeyContext(account_id=0, key_id=0, key_name="")
