"""An answer whose body is there: what nearly all are.

Here belongs how it is sent. Not here: what it says (``app``), and errors (``errors``).
"""

from __future__ import annotations

from starlette.responses import Response


class JsonAnswer(Response):
    """A status and JSON; Starlette would go through headers that nobody has given."""

    def __init__(self, body: bytes, status: int) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
