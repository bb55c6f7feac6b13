"""What a route is, and the request that reaches its handler: the words in which the one table is written.

Here belongs the shape of the table. Not here: the table itself (``table``), nor what the handlers do (``handlers``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from api.models import Answer, Body, Query
from broker.admin import Admin, Companion, KeyContext
from broker.errors import BrokerError

if TYPE_CHECKING:
    from api.idempotency import Once

BASE_PATH = "/v1/iot"
ADMIN_PATH = "/v1/admin"

LARGE_BODY_BYTES = 3 * 512 * 1024  # 1.5 MiB: the contract's

OutcomeT = TypeVar("OutcomeT")


def nobody() -> None:
    """Give way where nobody else is."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that passed key, rate limit and validation; ``query`` and ``body`` are the route's models.

    ``from_loopback`` is True for a caller on this machine that speaks for nobody else, as a proxy does. ``give_way`` is
    for handlers that do a tenth of a millisecond's work and more in one go.
    """

    admin: Admin
    key: KeyContext
    path: Mapping[str, str]
    query: Any
    body: Any
    from_loopback: bool = False
    once: Once | None = None
    give_way: Callable[[], None] = nobody

    def keeping(self, rendered: Callable[[OutcomeT], Answer]) -> Callable[[OutcomeT], Companion] | None:
        """Let the outcome's answer be kept for who asks again, where the caller has named a key for that."""
        return None if self.once is None else self.once.keeping(rendered)

    @property
    def account_id(self) -> int:
        """The account that the key acts for."""
        return self.key.account_id


@dataclass(frozen=True, slots=True)
class Streamed:
    """A JSON answer in parts, for what is too long to render at once."""

    parts: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that is no JSON, or is JSON already; with headers of its own."""

    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WithStatus:
    """An answer whose status is not the route's success."""

    status: int
    answer: Answer


Scope = Literal["devices:read", "devices:write", "publish", "subscribe", "usage:read"]

Outcome = Answer | Streamed | Text | WithStatus | None


class Handler(Protocol):
    """What a row does: a function with a name."""

    __name__: str

    def __call__(self, request: ApiRequest, /) -> Awaitable[Outcome]:
        """Answer one request."""
        ...


@dataclass(frozen=True, slots=True)
class Many:
    """A body that is a list of bodies, ``name`` its one field; each is judged by itself.

    The handler gets what ``kept`` makes of each: a thousand models are work for the garbage collector.
    """

    name: str
    maximum: int
    kept: Callable[[Any], object]
    whole_maximum_bytes: int = LARGE_BODY_BYTES


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One row of the table; its path says which kind of key it needs (``key_kind``), ``scope`` what that has to allow.

    A row with scope ``publish`` names the topic that it publishes to, with the path's parameters in braces: a key that
    is bound to patterns needs one that covers it. An ``idempotent`` one does its work once for each Idempotency-Key:
    its handler gives ``admin`` what ``request.keeping`` makes of the outcome. With ``many`` the handler gets a list:
    for each item its ``body``, or the ``BadRequest`` that it deserves. What a row with another method than GET does is
    a change, and noted in the audit log under its handler's name, unless ``changes`` says otherwise; a message is none.
    A body, and each of many, has up to ``body_maximum_bytes``; a row with ``raw`` gets this field as text
    (``RawJson``).
    ``content_type`` is that of the success; ``other_answers`` are those, by status, that are no error's. One that
    ``waits`` for somebody is given up when its caller hangs up.
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
    topic: str = ""
    idempotent: bool = False
    many: Many | None = None
    content_type: str = "application/json"
    other_answers: Mapping[int, type[Answer]] = field(default_factory=dict)
    body_maximum_bytes: int = 64 * 1024
    raw: str = ""
    changes: bool = True
    waits: bool = False

    @property
    def request_maximum_bytes(self) -> int:
        """What a request to this row may carry."""
        return self.body_maximum_bytes if self.many is None else self.many.whole_maximum_bytes

    @property
    def is_change(self) -> bool:
        """Whether what this row does belongs into the audit log."""
        return self.changes and self.method != "GET" and self.scope != "publish"


KeyKind = Literal["account", "admin"]


def key_kind(path: str) -> KeyKind | None:
    """Tell which kind of key a path needs: an account's below ``BASE_PATH``, an admin key below ``ADMIN_PATH``."""
    for root, kind in _ROOTS:
        if path == root or path.startswith(root + "/"):
            return kind
    return None


_ROOTS: tuple[tuple[str, KeyKind], ...] = ((BASE_PATH, "account"), (ADMIN_PATH, "admin"))

NO_KEY = KeyContext(account_id=0, key_id=0, key_name="", scopes=())
