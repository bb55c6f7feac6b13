"""The rows in which the API describes itself, for programs and for people; they need no key.

Here belong the rows and their answers, which are made once. Not here: how they are made (``openapi``, ``docs_page``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version

from api import docs_page, models
from api.jsontext import compact
from api.openapi import describe
from api.routes import ApiRequest, ApiRoute, Text

HTML = "text/html; charset=utf-8"


class Description:
    """What is answered; filled when all rows are known, its own ones among them."""

    def __init__(self) -> None:
        self._document = b""
        self._page = docs_page.Page(b"", "")

    def fill(self, routes: Sequence[ApiRoute]) -> None:
        """Make both answers: it takes some tens of milliseconds, which no request should wait for."""
        document = describe(routes, version("iot-broker"))
        self._document = compact(document)
        self._page = docs_page.render(document)

    async def openapi(self, _request: ApiRequest) -> Text:
        """Give the description of this API as an OpenAPI 3.1 document."""
        return Text(self._document, "application/json")

    async def docs(self, _request: ApiRequest) -> Text:
        """Give the same as a page to read; it has no scripts and fetches nothing."""
        return Text(self._page.body, HTML, docs_page.headers(self._page))


def described(rows: Sequence[ApiRoute]) -> tuple[ApiRoute, ...]:
    """Give the rows, and behind them the two that describe all of them."""
    description = Description()
    routes = (
        *rows,
        _row("/openapi.json", description.openapi, "Describe this API", "application/json"),
        _row("/docs", description.docs, "Describe this API for people", "text/html"),
    )
    description.fill(routes)
    return routes


def _row(path: str, handler: Callable[[ApiRequest], Awaitable[Text]], summary: str, content_type: str) -> ApiRoute:
    return ApiRoute(
        "GET",
        path,
        handler,
        summary,
        query=models.Nothing,
        body=None,
        answer=None,
        status=200,
        content_type=content_type,
    )
