"""Rules of what a request passes before its route, where the route is one that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Receive, Scope, Send

from api.admission import ACCOUNT_REQUESTS_AT_ONCE_MAXIMUM, Admission
from api.limits import Buckets
from broker.errors import RateLimited
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

    async def ask(self, account: str) -> None:
        async def never() -> dict[str, object]:
            raise AssertionError("nothing is read or sent here")

        async def nothing(_message: object) -> None: ...

        headers = [(b"x-api-key", self.keys[account].encode())]
        scope = {"type": "http", "path": "/v1/iot/devices", "headers": headers, "client": ("192.0.2.1", 1)}
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
        assert not waiting.admission._under_way_of
        assert waiting.admission._under_way == 0

    run(body)
