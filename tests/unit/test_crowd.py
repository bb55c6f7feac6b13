"""How many connections over HTTP there may be, in all and from one address."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_network

import pytest
from starlette.responses import PlainTextResponse

from broker.net.crowd import Crowd
from broker.net.http import HttpServer

REQUEST = b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n"


def test_one_address_has_its_part_and_others_come_in() -> None:
    crowd = Crowd(10, 3)
    assert [crowd.enter("192.0.2.1") for _ in range(4)] == [True, True, True, False]
    assert crowd.enter("192.0.2.2")
    crowd.leave("192.0.2.1")
    assert crowd.enter("192.0.2.1")
    assert crowd.inside == 4


def test_all_together_have_a_limit_and_who_leaves_makes_room() -> None:
    crowd = Crowd(2, 2)
    assert crowd.enter("192.0.2.1")
    assert crowd.enter("192.0.2.2")
    assert not crowd.enter("192.0.2.3")
    crowd.leave("192.0.2.1")
    assert crowd.enter("192.0.2.3")
    assert (crowd.inside, crowd.room) == (2, 0)


def test_of_ipv6_a_network_is_one_address() -> None:
    crowd = Crowd(10, 2)
    assert [crowd.enter(f"2001:db8::{number}") for number in range(3)] == [True, True, False]
    assert crowd.enter("2001:db8:0:1::1")


def test_a_trusted_proxy_has_the_room_of_all_and_no_more() -> None:
    crowd = Crowd(4, 1, [ip_network("10.0.0.0/8")])
    assert [crowd.enter("10.1.2.3") for _ in range(5)] == [True] * 4 + [False]


def test_those_who_have_left_are_forgotten() -> None:
    crowd = Crowd()
    for number in range(100):
        assert crowd.enter(f"192.0.2.{number}")
    for number in range(100):
        crowd.leave(f"192.0.2.{number}")
    assert crowd.inside == 0
    assert not crowd._by_network


@pytest.mark.parametrize("crowd", [Crowd(3, 10), Crowd(10, 3)], ids=["in all", "from one address"])
def test_plain_http_closes_who_has_no_room_and_serves_the_rest(crowd: Crowd) -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = HttpServer(PlainTextResponse("here"), listening, crowd=crowd)
            await server.start()
            address = listening.getsockname()
            inside = [await asyncio.open_connection(*address) for _ in range(3)]
            for reader, writer in inside:
                writer.write(REQUEST)
                assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
            assert await refused(address)
            inside.pop()[1].close()
            while await refused(address):
                pass
            for _, writer in inside:
                writer.close()
            await server.stop()
        await asyncio.sleep(0)
        assert crowd.inside == 0

    async def refused(address: tuple[str, int]) -> bool:
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(REQUEST)
            return not await asyncio.wait_for(reader.read(8), 5)
        except ConnectionError:
            return True
        finally:
            writer.close()

    asyncio.run(asyncio.wait_for(body(), 20))
