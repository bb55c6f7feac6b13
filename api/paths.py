"""Which path a request means: the one that it has sent.

Here belongs how percent-encoding is read. Not here: which paths there are (``table``).
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

# What RFC 3986 calls unreserved: that alone means the same with and without its percent sign.
ODD = re.compile(rb"%(?!2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE])")


class SentPaths:
    """Leaves a path as it was sent where decoding would change what it says: no route has a percent sign.

    (The server decodes each path: ``%2F`` would be a slash, and ``%0A`` an end of line, before which patterns match.)
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        sent: bytes = scope.get("raw_path") or scope["path"].encode()
        if ODD.search(sent):
            scope = {**scope, "path": sent.partition(b"?")[0].decode("latin-1")}
        await self._inner(scope, receive, send)
