"""How a request shows its key, in every wrong way, and how long wrong keys wait."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import api
from api import admission
from tests.integration.test_rest import Caller, assert_error, run
from tests.upper import Upper

PATH = "/v1/iot/devices"


async def with_headers(caller: Caller, *headers: tuple[bytes, bytes]) -> httpx.Response:
    """Ask with these headers and no other."""
    caller.http.headers.pop("authorization", None)
    return await caller.http.get(PATH, headers=list(headers))


@pytest.mark.parametrize(
    "shown",
    [
        [("authorization", "Bearer KEY")],
        [("authorization", "bEaReR   KEY  ")],
        [("x-api-key", "KEY")],
        [("x-api-key", " KEY "), ("authorization", "Bearer KEY")],
        [("authorization", "Bearer KEY"), ("authorization", "Bearer KEY")],
    ],
)
def test_one_key_is_taken_wherever_it_stands(shown: list[tuple[str, str]]) -> None:
    async def body(caller: Caller) -> None:
        headers = [(name.encode(), value.replace("KEY", caller.key).encode()) for name, value in shown]
        assert (await with_headers(caller, *headers)).status_code == 200

    run(body)


@pytest.mark.parametrize(
    "shown",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "BearerKEY")],
        [("authorization", "KEY")],
        [("authorization", "Basic KEY")],
        [("authorization", "Bearer KEY KEY")],
        [("authorization", "Bearer KEY, Bearer KEY")],
        [("authorization", "Bearer KEYx")],
        [("authorization", 'Bearer "KEY"')],
        [("authorization", "Bearer KEY"), ("authorization", "Bearer other")],
        [("authorization", "Bearer other"), ("authorization", "Bearer KEY")],
        [("authorization", "Basic other"), ("x-api-key", "KEY")],
        [("authorization", "Bearer KEY"), ("x-api-key", "other")],
        [("x-api-key", "KEY"), ("x-api-key", "")],
        [("x-api-key", "Bearer KEY")],
        [("authorization", "Bearer KEY" + "x" * 30_000)],
        [("x-api-key", "x" * 30_000)],
        [("x-api-key", "clé")],
        [("x-api-key", "KEY\u00a0x")],
        [("cookie", "KEY")],
    ],
)
def test_no_key_several_and_what_is_none_get_one_answer(shown: list[tuple[str, str]]) -> None:
    async def body(caller: Caller) -> None:
        headers = [(name.encode(), value.replace("KEY", caller.key).encode("latin-1")) for name, value in shown]
        answer = await with_headers(caller, *headers)
        assert_error(answer, 401, "AUTH_FAILED")
        assert answer.json()["detail"] == "a valid API key is required"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert caller.key not in answer.text

    run(body)


BYTES = st.binary(max_size=60)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key"]), BYTES | BYTES.map(b"Bearer ".__add__))))
def test_any_bytes_in_a_keys_place_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    async def whole() -> None:
        sent: list[dict[str, object]] = []
        upper = Upper()
        await upper.bootstrap()

        async def nothing() -> dict[str, object]:
            raise AssertionError("no body is read")

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": PATH, "query_string": b"", "headers": headers, "client": None}
        await api.application(upper.admin, upper.clock)(scope, nothing, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 401

    asyncio.run(whole())


class Guesser:
    """Somebody at an address who shows keys, and how long the answers waited."""

    def __init__(self, upper: Upper) -> None:
        self.upper = upper
        self.waits: list[float] = []
        self.app = api.application(upper.admin, upper.clock, sleep=self.sleep)
        self.held = asyncio.Event()
        self.held.set()

    async def sleep(self, delay_s: float) -> None:
        self.waits.append(delay_s)
        await self.held.wait()

    async def show(self, key: str | None, address: str = "192.0.2.1") -> int:
        transport = httpx.ASGITransport(self.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as http:
            return (await http.get(PATH, headers={} if key is None else {"X-API-Key": key})).status_code


def guessing(body: object) -> None:
    async def whole() -> None:
        upper = Upper()
        key = await upper.bootstrap()
        await body(Guesser(upper), key)  # type: ignore[operator]

    asyncio.run(whole())


def test_wrong_keys_wait_longer_and_longer_and_right_ones_never() -> None:
    async def body(guesser: Guesser, key: str) -> None:
        for number in range(9):
            assert await guesser.show(f"guess-{number}") == 401
            assert await guesser.show(key) == 200
        assert guesser.waits == [0.125, 0.25, 0.5, 1, 1, 1]
        assert await guesser.show("guess", "198.51.100.1") == 401  # somebody else
        assert await guesser.show(None) == 401  # no guess
        assert len(guesser.waits) == 6
        guesser.upper.clock.pass_s(61)
        assert await guesser.show("guess") == 401
        assert len(guesser.waits) == 6

    guessing(body)


def test_guesses_that_wait_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "DELAYED_AT_ONCE_MAXIMUM", 2)

    async def body(guesser: Guesser, key: str) -> None:
        for _ in range(3):
            await guesser.show("guess")
        guesser.held.clear()
        waiting = [asyncio.create_task(guesser.show("guess")) for _ in range(2)]
        await asyncio.wait(waiting, timeout=0.2)
        assert await guesser.show("guess") == 401
        assert await guesser.show(key) == 200
        assert not any(one.done() for one in waiting)
        guesser.held.set()
        assert await asyncio.gather(*waiting) == [401, 401]

    guessing(body)
