"""CORS: which web pages of other origins may read the answers of this API in their visitors' browsers.

Here belong preflights and the headers of answers. Not here: which origins those are (the configuration). Keys travel in
headers that a page sets itself, so that credentials of the browser (cookies) are never allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import error_answer
from broker.errors import PermissionDenied
from broker.origins import ANY

METHODS = "DELETE, GET, HEAD, PATCH, POST, PUT"
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-API-Key"
REMEMBERED_S = 600
REFUSED = "pages of this origin may not ask: it is not in http.allowed_origins"
ASKED = "access-control-request-method"


class Cors:
    """Answers preflights, without a key, and lets the pages of ``allowed`` origins read answers, errors included.

    ``*`` among them is every page. Where none is allowed nothing is different from a server without CORS.
    """

    def __init__(self, inner: ASGIApp, allowed: Sequence[str]) -> None:
        self._inner = inner
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if not self._allowed:
            await self._inner(scope, receive, send)
            return
        headers = Headers(scope=scope)
        granted = self._granted(headers.get("origin", ""))
        if scope["method"] == "OPTIONS" and ASKED in headers and "origin" in headers:
            await self._preflight(granted)(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._mark(MutableHeaders(scope=message), granted)
            await send(message)

        await self._inner(scope, receive, marked)

    def _granted(self, origin: str) -> str:
        """Give what is said of an origin; empty when nothing is."""
        if ANY in self._allowed:
            return ANY
        return origin if origin in self._allowed else ""

    def _mark(self, headers: MutableHeaders, granted: str) -> None:
        if granted:
            headers["Access-Control-Allow-Origin"] = granted
            headers["Access-Control-Expose-Headers"] = ANY
        if ANY not in self._allowed:  # also where none is granted: what is kept must not be shown to another origin
            headers.add_vary_header("Origin")

    def _preflight(self, granted: str) -> Response:
        answer = Response(status_code=204) if granted else error_answer(PermissionDenied(REFUSED))
        self._mark(answer.headers, granted)
        if not granted:
            return answer
        answer.headers.add_vary_header("Access-Control-Request-Method, Access-Control-Request-Headers")
        answer.headers["Access-Control-Allow-Methods"] = METHODS
        answer.headers["Access-Control-Allow-Headers"] = REQUEST_HEADERS
        answer.headers["Access-Control-Max-Age"] = str(REMEMBERED_S)
        return answer
