"""What every request passes before its route: the error table, the key, the rate limit; plain ASGI, in that order.

Here belong the layers around the routes. Not here: routes, and the words of errors (``errors``).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable
from math import ceil

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import error_answer, internal_error_answer
from api.limits import REQUESTS_PER_MINUTE, Buckets, Budget
from api.routes import needs_key
from broker.admin import Admin, Clock, KeyContext
from broker.doors import is_loopback, network_of
from broker.errors import AuthFailed, BrokerError, PermissionDenied, RateLimited, Unavailable

log = logging.getLogger(__name__)

KEY = "iot_broker.key"
BUDGET = "iot_broker.budget"
NS_PER_S = 1_000_000_000
REQUESTS_AT_ONCE_MAXIMUM = 1000
ACCOUNT_REQUESTS_AT_ONCE_MAXIMUM = 100
FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class ErrorTable:
    """Turns every error into an answer of the contract's shape; what is no error of ours is logged, and a 500."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever becomes of it."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._inner(scope, receive, watched)
        except ClientDisconnect:
            return
        except BrokerError as error:
            answer = error_answer(error)
            if answer.status_code == 500 or started:
                log.exception("an error that no answer can tell")
        except Exception:
            log.exception("a request failed")
            answer = internal_error_answer()
        else:
            return
        if started:
            raise ConnectionAbortedError("the answer broke off")  # the server closes: half an answer is no answer
        await answer(scope, receive, send)


class BudgetHeaders:
    """Puts the caller's budget into every answer, errors included."""

    def __init__(self, inner: ASGIApp, buckets: Buckets, clock: Clock) -> None:
        self._inner = inner
        self._buckets = buckets
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and mark its answer."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._mark(scope, MutableHeaders(scope=message))
            await send(message)

        await self._inner(scope, receive, marked)

    def _mark(self, scope: Scope, headers: MutableHeaders) -> None:
        budget: Budget | None = scope.get(BUDGET)
        if budget is None:
            budget = self._buckets.look(caller_address(scope), self._clock.monotonic_ns() / NS_PER_S)
        headers["X-RateLimit-Limit"] = str(REQUESTS_PER_MINUTE)
        headers["X-RateLimit-Remaining"] = str(budget.remaining)
        headers["X-RateLimit-Reset"] = str(self._clock.wall_s() + ceil(budget.full_in_s))
        headers["Cache-Control"] = "no-store"


class Admission:
    """Below the base path: proves the key, then takes one request from its bucket.

    Who proves no key is counted by address, so that guessing is no way around the limit. More than
    ``REQUESTS_AT_ONCE_MAXIMUM`` requests under way are refused as ``Unavailable``, before anything is read. Those of
    one account may be a tenth of them: its slow bodies and unread answers leave room for the others.
    """

    def __init__(self, inner: ASGIApp, admin: Admin, buckets: Buckets, clock: Clock) -> None:
        self._inner = inner
        self._admin = admin
        self._buckets = buckets
        self._clock = clock
        self._under_way = 0
        self._under_way_of: Counter[int] = Counter()  # by account; none at 0 is kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request that may be served."""
        if self._under_way >= REQUESTS_AT_ONCE_MAXIMUM:
            raise Unavailable("too many requests at once")
        self._under_way += 1
        try:
            if needs_key(scope["path"]):
                scope[KEY] = self._admit(scope)
                await self._serve_account(scope[KEY].account_id, scope, receive, send)
            else:
                await self._inner(scope, receive, send)
        finally:
            self._under_way -= 1

    async def _serve_account(self, account_id: int, scope: Scope, receive: Receive, send: Send) -> None:
        if self._under_way_of[account_id] >= ACCOUNT_REQUESTS_AT_ONCE_MAXIMUM:
            raise RateLimited(f"more than {ACCOUNT_REQUESTS_AT_ONCE_MAXIMUM} requests at once", retry_after_s=1)
        self._under_way_of[account_id] += 1
        try:
            await self._inner(scope, receive, send)
        finally:
            self._under_way_of[account_id] -= 1
            if not self._under_way_of[account_id]:
                del self._under_way_of[account_id]

    def _admit(self, scope: Scope) -> KeyContext:
        try:
            key = self._admin.authenticate_key(presented_key(Headers(scope=scope)))
        except (AuthFailed, PermissionDenied):
            self._take(scope, caller_address(scope))
            raise
        self._take(scope, key.key_id)
        return key

    def _take(self, scope: Scope, caller: Hashable) -> None:
        budget = self._buckets.take(caller, self._clock.monotonic_ns() / NS_PER_S)
        scope[BUDGET] = budget
        if not budget.allowed:
            raise RateLimited(f"more than {REQUESTS_PER_MINUTE} requests a minute", retry_after_s=budget.retry_after_s)


def presented_key(headers: Headers) -> str:
    """Give the key of ``Authorization: Bearer`` (in any case) or ``X-API-Key``; empty when there is none."""
    authorization = headers.get("authorization")
    if authorization is None:
        return headers.get("x-api-key", "").strip()
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def caller_address(scope: Scope) -> Hashable:
    """Give the address that a request came from, in a form that no key id can equal."""
    client = scope.get("client")
    return ("address", network_of(client[0]) if client else "")


def is_from_loopback(scope: Scope) -> bool:
    """Tell whether the caller is on this machine and speaks for itself: a proxy says for whom it speaks."""
    client = scope.get("client")
    headers = Headers(scope=scope)
    return client is not None and is_loopback(client[0]) and not any(name in headers for name in FORWARDED)
