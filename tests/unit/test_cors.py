"""CORS: which pages may ask from a browser, what is said to the others, and that no preflight needs a key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import httpx
import pytest

import api
from tests.upper import Upper

APP, OTHER = "https://app.example.org", "https://evil.example.org"
ASKING = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}

Body = Callable[[httpx.AsyncClient, dict[str, str]], Awaitable[None]]


def run(body: Body, allowed: Sequence[str] = (APP, "null")) -> None:
    async def whole() -> None:
        upper = Upper()
        key = {"X-API-Key": await upper.bootstrap()}
        transport = httpx.ASGITransport(api.application(upper.admin, upper.clock, allowed))
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as http:
            await body(http, key)

    asyncio.run(whole())


def said(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("origin", [APP, "null"])
def test_a_preflight_of_an_allowed_page_needs_no_key(origin: str) -> None:
    async def body(http: httpx.AsyncClient, _key: dict[str, str]) -> None:
        answer = await http.options("/v1/iot/devices", headers={"Origin": origin, **ASKING})
        assert (answer.status_code, answer.content) == (204, b"")
        assert said(answer)["access-control-allow-origin"] == origin
        assert {"PATCH", "DELETE", "POST"} <= set(said(answer)["access-control-allow-methods"].split(", "))
        assert {"Authorization", "X-API-Key", "Content-Type"} <= set(
            said(answer)["access-control-allow-headers"].split(", ")
        )
        assert "Origin" in answer.headers["vary"]
        assert answer.headers["x-ratelimit-limit"] == "1000"

    run(body)


@pytest.mark.parametrize("origin", [OTHER, APP + "/", APP.upper(), APP + ".evil.example.org", "http://app.example.org"])
def test_a_preflight_of_any_other_page_is_refused_in_the_contract_s_shape(origin: str) -> None:
    async def body(http: httpx.AsyncClient, _key: dict[str, str]) -> None:
        answer = await http.options("/v1/iot/devices", headers={"Origin": origin, **ASKING})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "INSUFFICIENT_PERMISSIONS"
        assert said(answer) == {}
        assert answer.headers["vary"] == "Origin"

    run(body)


@pytest.mark.parametrize("with_key", [True, False], ids=["answer", "error"])
def test_an_allowed_page_reads_answers_and_errors_alike(with_key: bool) -> None:
    async def body(http: httpx.AsyncClient, key: dict[str, str]) -> None:
        headers = {"Origin": APP, **(key if with_key else {})}
        answer = await http.get("/v1/iot/devices", headers=headers)
        assert answer.status_code == (200 if with_key else 401)
        assert said(answer) == {"access-control-allow-origin": APP, "access-control-expose-headers": "*"}
        assert answer.headers["vary"] == "Origin"

    run(body)


@pytest.mark.parametrize("headers", [{}, {"Origin": OTHER}], ids=["no origin", "another"])
def test_who_is_not_allowed_is_answered_as_without_cors_and_no_cache_mixes_them_up(headers: dict[str, str]) -> None:
    async def body(http: httpx.AsyncClient, key: dict[str, str]) -> None:
        answer = await http.get("/v1/iot/devices", headers={**key, **headers})
        assert answer.status_code == 200
        assert said(answer) == {}
        assert answer.headers["vary"] == "Origin"

    run(body)


def test_any_page_may_ask_where_all_may_and_never_with_cookies() -> None:
    async def body(http: httpx.AsyncClient, key: dict[str, str]) -> None:
        preflight = await http.options("/v1/iot/devices", headers={"Origin": OTHER, **ASKING})
        answer = await http.get("/v1/iot/devices", headers={"Origin": OTHER, "Cookie": "a=b", **key})
        for one in (preflight, answer):
            assert said(one)["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in one.headers

    run(body, ["*"])


def test_nothing_is_said_where_nobody_is_configured() -> None:
    async def body(http: httpx.AsyncClient, key: dict[str, str]) -> None:
        preflight = await http.options("/v1/iot/devices", headers={"Origin": APP, **ASKING})
        assert preflight.status_code == 401
        answer = await http.get("/v1/iot/devices", headers={"Origin": APP, **key})
        assert said(answer) == {}
        assert "vary" not in answer.headers

    run(body, [])


def test_options_that_is_no_preflight_takes_the_usual_way() -> None:
    async def body(http: httpx.AsyncClient, key: dict[str, str]) -> None:
        answer = await http.options("/v1/iot/devices", headers={"Origin": APP, **key})
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD, POST"
        assert said(answer)["access-control-allow-origin"] == APP

    run(body)
