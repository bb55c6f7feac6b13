"""The rows in which the API describes itself, for programs and for people; they need no key.

Here belong the rows and their answers, which are made once. Not here: how they are made (``openapi``, ``docs_page``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version

from api import docs_page, models
from api.jsontext import compact
from api.openapi import describe
from api.routes import ApiRequest, ApiRoute, Text

HTML = "text/html; charset=utf-8"


class Description:
    """What is answered: made at the first question, in a thread, since it takes some tens of milliseconds.

    Brokers in several threads may share one.
    """

    def __init__(self) -> None:
        self._routes: Sequence[ApiRoute] = ()
        self._lock = threading.Lock()
        self._made: tuple[bytes, docs_page.Page] | None = None

    def fill(self, routes: Sequence[ApiRoute]) -> None:
        """Say which rows there are: all of them, its own two among them."""
        self._routes = routes

    async def openapi(self, _request: ApiRequest) -> Text:
        """Give the description of this API as an OpenAPI 3.1 document."""
        return Text((await self._answers())[0], "application/json")

    async def docs(self, _request: ApiRequest) -> Text:
        """Give the same as a page to read; it has no scripts and fetches nothing."""
        page = (await self._answers())[1]
        return Text(page.body, HTML, docs_page.headers(page))

    async def _answers(self) -> tuple[bytes, docs_page.Page]:
        if self._made is not None:
            return self._made
        return await asyncio.to_thread(self._make)

    def _make(self) -> tuple[bytes, docs_page.Page]:
        with self._lock:
            made = self._made
            if made is None:
                document = describe(self._routes, version("iot-broker"))
                made = compact(document), docs_page.render(document)
                self._made = made
            return made


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
