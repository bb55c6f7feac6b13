"""What every answer passes on its way out: the error table, the caller's budget; plain ASGI.

Here belong the layers around the routes. Not here: who may come in (``admission``), routes, and the words of errors
(``errors``).
"""

from __future__ import annotations

import asyncio
import logging
from math import ceil

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.callers import caller_address
from api.errors import error_answer, internal_error_answer
from api.limits import REQUESTS_PER_MINUTE, Buckets, Budget
from api.request_ids import request_id_of
from broker.admin import Clock
from broker.errors import BrokerError, Unavailable

log = logging.getLogger(__name__)

BUDGET = "iot_broker.budget"
MAY_HAVE_CHANGED = "iot_broker.may_have_changed"  # in the scope of a request from when its work begins
NS_PER_S = 1_000_000_000
SHOWN_CHARACTERS = 200
UNSERVED_LINES_PER_S = 10


class ErrorTable:
    """Turns every error into an answer of the contract's shape; what is no error of ours is logged, and a 500.

    Requests that could not be served (503) have a line each too, up to ``UNSERVED_LINES_PER_S``: who sends too many at
    once, or while the disk takes nothing, does not fill the log. A request that the stop cancels is told so if it has
    changed nothing for certain; whose change is under way has no answer, as after a crash.
    """

    def __init__(self, inner: ASGIApp, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock
        self._second = 0
        self._lines = 0

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
        except asyncio.CancelledError:
            if started or MAY_HAVE_CHANGED in scope:
                raise
            answer = error_answer(Unavailable("the broker is stopping"))
        except BrokerError as error:
            answer = self._told(error, scope, started=started)
        except Exception:
            log.exception("a request failed", extra=_which(scope))
            answer = internal_error_answer()
        else:
            return
        if started:
            raise ConnectionAbortedError("the answer broke off")  # the server closes: half an answer is no answer
        await answer(scope, receive, send)

    def _told(self, error: BrokerError, scope: Scope, *, started: bool) -> JSONResponse:
        """Give the answer to an error of ours, and write what has to be known of it."""
        answer = error_answer(error)
        if answer.status_code == 500 or started:
            log.exception("an error that no answer can tell", extra=_which(scope))
        elif answer.status_code > 500:
            self._tell_unserved(error, scope)
        else:
            log.debug("a request was refused: %s", error.code, extra=_which(scope))
        return answer

    def _tell_unserved(self, error: BrokerError, scope: Scope) -> None:
        second = self._clock.monotonic_ns() // NS_PER_S
        if second != self._second:
            left_out = max(self._lines - UNSERVED_LINES_PER_S, 0)
            self._second, self._lines = second, 0
            if left_out:
                log.warning("%d more requests could not be served", left_out)
        self._lines += 1
        if self._lines <= UNSERVED_LINES_PER_S:
            log.warning("a request could not be served: %s", error, extra=_which(scope))


def _which(scope: Scope) -> dict[str, object]:
    """Say which request a line of the log is about: never its headers, nor what it asks by its query."""
    path = scope["path"][:SHOWN_CHARACTERS]
    return {"fields": {"request_id": request_id_of(scope), "method": scope.get("method"), "path": path}}


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
                message["headers"] = [*message["headers"], *self._told(scope)]
            await send(message)

        await self._inner(scope, receive, marked)

    def _told(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        budget: Budget | None = scope.get(BUDGET)
        if budget is None:
            budget = self._buckets.look(caller_address(scope), self._clock.monotonic_ns() / NS_PER_S)
        return [
            (b"x-ratelimit-limit", b"%d" % REQUESTS_PER_MINUTE),
            (b"x-ratelimit-remaining", b"%d" % budget.remaining),
            (b"x-ratelimit-reset", b"%d" % (self._clock.wall_s() + ceil(budget.full_in_s))),
            (b"cache-control", b"no-store"),
        ]
