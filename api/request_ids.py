"""The id of each request: in its answer, in the log where it fails, and in the audit log.

Here belongs where it comes from. Not here: who else tells it.
"""

from __future__ import annotations

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.callers import values_of

REQUEST_ID = "iot_broker.request_id"
HEADER = b"x-request-id"
DRAWN_BYTES = 16

_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=+/@-]{0,127}")


class RequestIds:
    """Gives each request an id: the caller's, where it sends one that is well-formed, else a new one."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and mark its answer."""
        scope[REQUEST_ID] = request_id = chosen_id(values_of(scope, HEADER))

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, request_id.encode())]
            await send(message)

        await self._inner(scope, receive, marked)


def chosen_id(sent: list[str]) -> str:
    """Take the one id that a caller has sent, if it can stand in a log as it is; else draw one."""
    if len(sent) == 1 and _WELL_FORMED.fullmatch(sent[0]):
        return sent[0]
    return secrets.token_hex(DRAWN_BYTES)


def request_id_of(scope: Scope) -> str:
    """Give the id of a request; empty outside ``RequestIds``."""
    found: str = scope.get(REQUEST_ID, "")
    return found
