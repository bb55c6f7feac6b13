"""Who may come in: the key of a request, its rate, and how many are under way at once; plain ASGI.

Here belongs what is decided before a route is looked for. Not here: what a key may do (``rights``), and how errors are
told (``middleware``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable

from starlette.types import ASGIApp, Receive, Scope, Send

from api.callers import address_of, caller_address, presented_key, shows_key
from api.limits import REQUESTS_PER_MINUTE, Buckets
from api.middleware import BUDGET, NS_PER_S
from api.routes import KeyKind, key_kind
from broker.admin import Admin, Clock, KeyContext
from broker.errors import AuthFailed, PermissionDenied, RateLimited, Unavailable

KEY = "iot_broker.key"
REQUESTS_AT_ONCE_MAXIMUM = 1000
ACCOUNT_REQUESTS_AT_ONCE_MAXIMUM = 100
DELAYED_AT_ONCE_MAXIMUM = 100
ADDRESS_REQUESTS_AT_ONCE_MAXIMUM = 50  # of those that need no key
STRANGERS_REQUESTS_AT_ONCE_MAXIMUM = REQUESTS_AT_ONCE_MAXIMUM // 4
UNCOUNTED = ("/healthz", "/readyz", "/metrics")  # who watches over the broker asks as often as it likes


class Admission:
    """Below the base path: proves the key, then takes one request from its bucket.

    A key of the other kind is none: it looks like one that there is not.
    Who proves no key is counted by address, so that guessing is no way around the limit, and waits for up to a second
    when it has shown wrong keys before. More than
    ``REQUESTS_AT_ONCE_MAXIMUM`` requests under way are refused as ``Unavailable``, before anything is read. Those of
    one account may be a tenth of them: its slow bodies and unread answers leave room for the others. Those that need no
    key may be a quarter, and fewer from one address; but for ``UNCOUNTED`` they count for the address's rate as well.
    """

    def __init__(
        self,
        inner: ASGIApp,
        admin: Admin,
        buckets: Buckets,
        clock: Clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._delayed = 0
        self._inner = inner
        self._admin = admin
        self._buckets = buckets
        self._clock = clock
        self._under_way = 0
        self._under_way_of: Counter[Hashable] = Counter()  # by account, or address without a key; none at 0 is kept
        self._strangers = 0  # of those under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request that may be served."""
        if self._under_way >= REQUESTS_AT_ONCE_MAXIMUM:
            raise Unavailable("too many requests at once")
        self._under_way += 1
        try:
            kind = key_kind(scope["path"])
            if kind is not None:
                scope[KEY] = await self._admit(scope, kind)
                account_id = scope[KEY].account_id
                await self._serve_one_of(account_id, ACCOUNT_REQUESTS_AT_ONCE_MAXIMUM, scope, receive, send)
            else:
                await self._serve_stranger(scope, receive, send)
        finally:
            self._under_way -= 1

    async def _serve_stranger(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request that needs no key."""
        if self._strangers >= STRANGERS_REQUESTS_AT_ONCE_MAXIMUM:
            raise Unavailable("too many requests at once")
        address = caller_address(scope)
        if scope["path"] not in UNCOUNTED:
            self._take(scope, address)
        self._strangers += 1
        try:
            await self._serve_one_of(address, ADDRESS_REQUESTS_AT_ONCE_MAXIMUM, scope, receive, send)
        finally:
            self._strangers -= 1

    async def _serve_one_of(self, caller: Hashable, maximum: int, scope: Scope, receive: Receive, send: Send) -> None:
        if self._under_way_of[caller] >= maximum:
            raise RateLimited(f"more than {maximum} requests at once", retry_after_s=1)
        self._under_way_of[caller] += 1
        try:
            await self._inner(scope, receive, send)
        finally:
            self._under_way_of[caller] -= 1
            if not self._under_way_of[caller]:
                del self._under_way_of[caller]

    async def _admit(self, scope: Scope, kind: KeyKind) -> KeyContext:
        try:
            key = proven(self._admin, scope, kind)
        except (AuthFailed, PermissionDenied) as refusal:
            self._take(scope, caller_address(scope))
            if isinstance(refusal, AuthFailed):
                await self._slow_down(scope)
            raise
        self._take(scope, key.key_id)
        return key

    async def _slow_down(self, scope: Scope) -> None:
        """Let who guesses wait; so many at once that they leave room for others."""
        if not shows_key(scope) or self._delayed >= DELAYED_AT_ONCE_MAXIMUM:
            return
        delay_s = self._admin.access.wrong_key_delay_s(address_of(scope))
        if delay_s > 0:
            self._delayed += 1
            try:
                await self._sleep(delay_s)
            finally:
                self._delayed -= 1

    def _take(self, scope: Scope, caller: Hashable) -> None:
        budget = self._buckets.take(caller, self._clock.monotonic_ns() / NS_PER_S)
        scope[BUDGET] = budget
        if not budget.allowed:
            raise RateLimited(f"more than {REQUESTS_PER_MINUTE} requests a minute", retry_after_s=budget.retry_after_s)


def proven(admin: Admin, scope: Scope, kind: KeyKind) -> KeyContext:
    """Give whose key a request shows. Raises ``AuthFailed``, and ``PermissionDenied`` for a suspended account."""
    prove = admin.access.admin_key if kind == "admin" else admin.access.account_key
    return prove(presented_key(scope))
