"""The ASGI application: the route table behind key and rate limit, in front of ``admin``.

Here belongs the way of a request through routing, validation and rendering. Not here: what happens before (middleware)
and what a route does (handlers).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.admission import KEY, Admission, proven
from api.answers import JsonAnswer
from api.audit import deed_of
from api.bulk import prepare
from api.callers import is_from_loopback
from api.cors import Cors
from api.errors import MethodNotAllowed, as_bad_request, cut
from api.idempotency import begin, presented_idempotency_key
from api.jsonitems import read_items
from api.jsontext import members_of, object_of, read_body, scan
from api.limits import Buckets
from api.middleware import MAY_HAVE_CHANGED, BudgetHeaders, ErrorTable
from api.paths import SentPaths
from api.request_ids import RequestIds
from api.rights import require
from api.router import Paths
from api.routes import NO_KEY, ApiRequest, ApiRoute, Many, Outcome, Streamed, Text, WithStatus, key_kind, nobody
from api.streaming import Parts, until_gone
from api.table import ROUTES
from api.turns import Turns
from broker.admin import Admin, Clock, SystemClock
from broker.errors import BadRequest, NotFound

JSON = "application/json"
QUERY_FIELDS_MAXIMUM = 20
QUERY_MAXIMUM_BYTES = 8 * 1024  # three times what the longest values take with each byte as a percent sign
FIELDS_MAXIMUM = 100  # more than any model has

ModelT = TypeVar("ModelT", bound=BaseModel)


def application(
    admin: Admin,
    clock: Clock | None = None,
    allowed_origins: Sequence[str] = (),
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    give_way: Callable[[], None] = nobody,
) -> ASGIApp:
    """Build the REST API on an ``Admin``; serve it with any ASGI server, on the loop that ``admin`` belongs to.

    ``allowed_origins`` are those of pages that may use it in browsers, as ``plain_origin`` spells them, or ``*``.
    ``sleep`` is how the answers to wrong keys wait. ``give_way`` is called between the steps of a request, so that
    those who share the loop wait for one of them, and not for all.
    """
    clock = clock or SystemClock()
    buckets = Buckets()
    by_path: defaultdict[str, list[ApiRoute]] = defaultdict(list)
    for route in ROUTES:
        by_path[route.path].append(route)
    turns = Turns()
    prepare()
    router = Router({path: PathEndpoint(admin, rows, turns, give_way) for path, rows in by_path.items()})
    told = Cors(ErrorTable(Admission(router, admin, buckets, clock, sleep), clock), allowed_origins)
    return HttpOnly(SentPaths(RequestIds(BudgetHeaders(told, buckets, clock))))


class Router:
    """Hands a request to what stands behind its path, and refuses a path that no route has."""

    def __init__(self, by_path: Mapping[str, ASGIApp]) -> None:
        self._paths = Paths(by_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = self._paths.find(scope["path"])
        if found is None:
            raise NotFound("there is no such path")
        endpoint, scope["path_params"] = found
        await endpoint(scope, receive, send)


class HttpOnly:
    """Lets HTTP through, answers the server's lifespan, and closes WebSockets."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope of the server."""
        if scope["type"] == "http":
            await self._inner(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._live(receive, send)

    @staticmethod
    async def _live(receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


class PathEndpoint:
    """All methods of one path: picks the row, validates, calls its handler, renders."""

    def __init__(self, admin: Admin, rows: Sequence[ApiRoute], turns: Turns, give_way: Callable[[], None]) -> None:
        self._admin = admin
        self._turns = turns
        self._give_way = give_way
        self._rows = {row.method: row for row in rows}
        self._allowed = ", ".join(sorted({*self._rows, *(["HEAD"] if "GET" in self._rows else [])}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request to this path."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        row = self._rows.get(method)
        self._give_way()
        if row is None:
            raise MethodNotAllowed(self._allowed)
        key = scope.get(KEY, NO_KEY)
        require(self._admin, row, key, scope["path_params"])
        query = judged_query(row.query, scope["query_string"])
        body, given = await read_and_judge(row, scope, receive, self._turns)
        request = ApiRequest(
            admin=self._admin,
            key=key,
            path=scope["path_params"],
            query=query,
            body=body,
            from_loopback=is_from_loopback(scope),
            give_way=self._give_way,
        )
        self._give_way()
        once = presented_idempotency_key(scope) if row.idempotent else None
        if row.method != "GET":
            scope[MAY_HAVE_CHANGED] = True
        long = row.many is not None  # of an account one such request is worked on, however many come
        async with self._turns.of(request.account_id) if long else nullcontext():
            if row.body is not None and (kind := key_kind(row.path)) is not None:
                proven(self._admin, scope, kind)  # it may have ended while the body came, or others had their turn
            work = answered(row, request, scope) if once is None else answered_once(row, request, once, scope, given)
            answer = await (until_gone(work, receive) if row.waits and request.query.wait else work)
        self._give_way()
        await answer(scope, receive, send)


async def answered(row: ApiRoute, request: ApiRequest, scope: Scope) -> Response:
    """Do what a request asks for, as a deed of its key where it is a change."""
    async with deed_of(row, request, scope):
        outcome = await row.handler(request)
        request.give_way()
        return rendered(row, outcome)


async def answered_once(row: ApiRoute, request: ApiRequest, key: str, scope: Scope, given: dict[str, Any]) -> Response:
    """Do it unless it has been done under this key: then the answer is the same, to the byte.

    What a request has waited for is in its own answer alone.
    """
    begun = await begin(request.admin, request.account_id, key, scope, given, row.status)
    if isinstance(begun, Response):
        return begun
    try:
        answer = await answered(row, replace(request, once=begun), scope)
        return answer if row.waits and request.query.wait else begun.answer or answer
    finally:
        begun.end()


async def read_and_judge(row: ApiRoute, scope: Scope, receive: Receive, turns: Turns) -> tuple[Any, dict[str, Any]]:
    """Give the body of a request as its row says (None, one model, or a list), and the object that it came from.

    Raises ``BadRequest``, and ``PayloadTooLarge``.
    """
    if row.body is None:
        return None, {}
    body = await read_body(scope, receive, row.request_maximum_bytes)
    async with turns.of(scope.get(KEY, NO_KEY).account_id):
        if row.many is not None:
            judge = partial(judged, row.body, row.many)
            maximum_bytes = row.body_maximum_bytes
            many = row.many
            return await read_items(body, many.name, many.maximum, judge, turns, item_maximum_bytes=maximum_bytes), {}
        given = await read_object(row, body, turns)
        await turns.between(len(body))
        judged_body = validated(row.body, given)
        await turns.between(len(body))
        return judged_body, given


def judged(model: type[BaseModel], many: Many, value: Any) -> object:
    """Judge one of many values: what its row keeps of it, or a ``BadRequest``."""
    if not isinstance(value, dict):
        return BadRequest(f"each of {many.name} has to be a JSON object")
    try:
        return many.kept(model.model_validate(value))
    except ValidationError as error:
        return as_bad_request(error)


async def read_object(row: ApiRoute, body: bytes, turns: Turns) -> dict[str, Any]:
    """Read the object that a request carries; nothing is an empty one where the route allows it."""
    if not body and row.body_may_be_missing:
        return {}
    reading = await scan(body, turns)
    return members_of(reading, row.raw, row.body.model_fields) if row.raw and row.body else object_of(reading)


def rendered(row: ApiRoute, answer: Outcome) -> Response:
    """Turn what a handler gave into bytes."""
    if isinstance(answer, Streamed):
        return Parts(answer.parts, row.status, media_type=JSON)
    if isinstance(answer, Text):
        return Response(answer.body, row.status, headers={"Content-Type": answer.content_type, **answer.headers})
    if isinstance(answer, WithStatus):
        return JsonAnswer(answer.answer.model_dump_json().encode(), answer.status)
    if answer is None:
        return Response(status_code=row.status)
    return JsonAnswer(answer.model_dump_json().encode(), row.status)


def validated(model: type[ModelT], values: Mapping[str, Any]) -> ModelT:
    """Judge values by a model. Raises ``BadRequest`` that names the field."""
    if len(values) > FIELDS_MAXIMUM:  # each that is unknown would be an error of its own, and one is told
        known = {name: values[name] for name in model.model_fields if name in values}
        values = known | dict(islice(((name, one) for name, one in values.items() if name not in known), 1))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise as_bad_request(error) from error


def judged_query(model: type[ModelT], query_string: bytes) -> ModelT:
    """Judge a query string by a model; an empty value is the same as none, for a field that there is.

    Raises ``BadRequest`` that names the field, also for one given twice.
    """
    given = parse_query(query_string)
    return validated(model, {name: value for name, value in given.items() if value or name not in model.model_fields})


def parse_query(query_string: bytes) -> dict[str, str]:
    """Parse a query string. Raises ``BadRequest`` for one that is too long, and for a field given twice."""
    if not query_string:
        return {}
    if len(query_string) > QUERY_MAXIMUM_BYTES:
        raise BadRequest(f"the query string is over {QUERY_MAXIMUM_BYTES} bytes")
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAXIMUM)
    except ValueError as error:
        raise BadRequest(f"the query string has more than {QUERY_FIELDS_MAXIMUM} fields") from error
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = cut(next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1))
        raise BadRequest(f"{twice} is there twice", field=twice, expected="one value")
    return values
