"""Rules of what a request passes before its route, where the route is one that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from api.admission import (
    ACCOUNT_REQUESTS_AT_ONCE_MAXIMUM,
    ADDRESS_REQUESTS_AT_ONCE_MAXIMUM,
    STRANGERS_REQUESTS_AT_ONCE_MAXIMUM,
    Admission,
)
from api.limits import CAPACITY, Buckets
from api.middleware import MAY_HAVE_CHANGED, ErrorTable
from broker.errors import RateLimited, Unavailable
from tests.upper import NOW_S, Upper

LIMIT = ACCOUNT_REQUESTS_AT_ONCE_MAXIMUM


class Waiting:
    """An admission in front of a route that waits until it is told to go on."""

    def __init__(self, upper: Upper, keys: dict[str, str]) -> None:
        self.go_on = asyncio.Event()
        self.inside = 0
        self.keys = keys
        self.admission = Admission(self.route, upper.admin, Buckets(), upper.clock)

    async def route(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        self.inside += 1
        await self.go_on.wait()

    async def ask(self, account: str, path: str = "/v1/iot/devices", address: str = "192.0.2.1") -> None:
        async def never() -> dict[str, object]:
            raise AssertionError("nothing is read or sent here")

        async def nothing(_message: object) -> None: ...

        headers = [(b"x-api-key", self.keys[account].encode())] if account else []
        scope = {"type": "http", "path": path, "headers": headers, "client": (address, 1)}
        await self.admission(scope, never, nothing)


def run(body: Callable[[Waiting], Awaitable[None]]) -> None:
    async def whole() -> None:
        upper = Upper()
        keys = {"default": await upper.bootstrap()}
        other = await upper.directory.accounts.create("other", NOW_S)
        _, keys["other"] = await upper.directory.keys.create(other.account_id, "main", NOW_S)
        await body(Waiting(upper, keys))

    asyncio.run(whole())


def test_an_account_whose_requests_hang_is_refused_more_and_leaves_room_for_others() -> None:
    async def body(waiting: Waiting) -> None:
        hanging = [asyncio.create_task(waiting.ask("default")) for _ in range(LIMIT)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimited) as caught:
            await waiting.ask("default")
        assert caught.value.retry_after_s == 1
        hanging.append(asyncio.create_task(waiting.ask("other")))
        await asyncio.sleep(0)
        assert waiting.inside == LIMIT + 1
        waiting.go_on.set()
        await asyncio.gather(*hanging)
        await waiting.ask("default")

    run(body)


def test_nothing_is_remembered_of_an_account_without_requests() -> None:
    async def body(waiting: Waiting) -> None:
        waiting.go_on.set()
        await waiting.ask("default")
        await waiting.ask("", "/docs")
        assert not waiting.admission._under_way_of
        assert waiting.admission._under_way == waiting.admission._strangers == 0

    run(body)


def test_strangers_who_do_not_read_their_answers_leave_room_for_each_other_and_for_accounts() -> None:
    async def body(waiting: Waiting) -> None:
        hanging = [asyncio.create_task(waiting.ask("", "/docs")) for _ in range(ADDRESS_REQUESTS_AT_ONCE_MAXIMUM)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimited):
            await waiting.ask("", "/healthz")
        more = STRANGERS_REQUESTS_AT_ONCE_MAXIMUM - len(hanging)
        others = [f"198.51.100.{number % 10}" for number in range(more)]
        hanging += [asyncio.create_task(waiting.ask("", "/docs", address)) for address in others]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await waiting.ask("", "/docs", "203.0.113.1")
        hanging.append(asyncio.create_task(waiting.ask("default")))
        await asyncio.sleep(0)
        assert waiting.inside == STRANGERS_REQUESTS_AT_ONCE_MAXIMUM + 1
        waiting.go_on.set()
        await asyncio.gather(*hanging)
        await waiting.ask("", "/docs")

    run(body)


def test_what_needs_no_key_counts_for_the_rate_of_an_address_but_for_who_watches_over_the_broker() -> None:
    async def body(waiting: Waiting) -> None:
        waiting.go_on.set()
        for _ in range(CAPACITY):
            await waiting.ask("", "/openapi.json")
        for path in ("/openapi.json", "/no/such/path"):
            with pytest.raises(RateLimited):
                await waiting.ask("", path)
        for path in ("/healthz", "/readyz", "/metrics"):
            await waiting.ask("", path)
        await waiting.ask("", "/docs", "198.51.100.7")

    run(body)


@pytest.mark.parametrize(("more", "status"), [({}, 503), ({MAY_HAVE_CHANGED: True}, None)])
def test_a_request_that_a_stop_cancels_is_told_so_unless_it_may_have_changed_something(
    more: dict[str, object], status: int | None
) -> None:
    sent: list[Message] = []

    async def route(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.sleep(3600)

    async def receive() -> Message:
        raise AssertionError("nothing is read here")

    async def send(message: Message) -> None:
        sent.append(message)

    async def body() -> None:
        scope = {"type": "http", "method": "GET", "path": "/v1/iot/devices", "headers": [], **more}
        task = asyncio.ensure_future(ErrorTable(route, Upper().clock)(scope, receive, send))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == (status is None)

    asyncio.run(body())
    assert (sent[0]["status"] if sent else None) == status
