"""Where endpoints may be: addresses in every spelling, URLs, filters, and names that lie."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.accounts.endpoints import is_public, may_be_told, parse_url
from broker.accounts.webhooks import check_topic_filter
from broker.errors import BadRequest
from broker.webhooks.addresses import NoAddress, Resolver

PRIVATE = [
    "127.0.0.1",
    "127.255.0.3",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "168.63.129.16",
    "::ffff:168.63.129.16",
    "192.88.99.1",
    "192.0.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:1:2:3:4:5:6",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "100::1",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_no_public_host_is_refused_in_every_spelling(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.216.34", "::ffff:8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1"])
def test_public_hosts_are_told(text: str) -> None:
    assert is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_an_address_of_ipv4_stays_what_it_is_when_it_is_mapped(address: IPv4Address) -> None:
    assert is_public(IPv6Address(f"::ffff:{address}")) == is_public(address)


def test_private_networks_can_be_allowed_and_no_others_with_them() -> None:
    allowed = [ip_network("10.20.0.0/16"), ip_network("::1/128")]
    assert may_be_told(ip_address("10.20.3.4"), allowed)
    assert may_be_told(ip_address("::ffff:10.20.3.4"), allowed)
    assert may_be_told(ip_address("::1"), allowed)
    assert not may_be_told(ip_address("10.21.0.1"), allowed)
    assert not may_be_told(ip_address("127.0.0.1"), allowed)


# ---------------------------------------------------------------- URLs


def test_a_url_is_taken_apart_as_http_needs_it() -> None:
    target = parse_url("https://Hooks.Example.com:8443/iot/a%20b?x=1&y=2", allow_http=False)
    assert (target.scheme, target.host, target.port) == ("https", "hooks.example.com", 8443)
    assert (target.path, target.authority) == ("/iot/a%20b?x=1&y=2", "hooks.example.com:8443")
    bare = parse_url("http://[2606:4700::1]", allow_http=True)
    assert (bare.host, bare.port, bare.path, bare.authority) == ("2606:4700::1", 80, "/", "[2606:4700::1]")


NO_URLS = [
    "",
    "hooks.example.com",
    "//hooks.example.com/",
    "http://hooks.example.com/",
    "ftp://hooks.example.com/",
    "file:///etc/passwd",
    "https://",
    "https:///x",
    "https://user@hooks.example.com/",
    "https://user:password@hooks.example.com/",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:65536/",
    "https://hooks.example.com:x/",
    "https://hooks.example.com/#part",
    "https://hooks.example.com/a b",
    "https://hooks.example.com/\r\nX: y",
    "https://hooks.example.com/\n",
    "https://hooks.example.com\t/",
    "https://müller.example/",
    "https://hooks_*.example.com/",
    "https://[::1/",
    "https://[x]/",
    "https://-/",
    "https://hooks.example.com/" + "x" * 2048,
]


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_endpoint_s_url_is_refused(url: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_url(url, allow_http=False)
    assert refused.value.field == "url"


@given(st.text(max_size=60), st.booleans())
def test_any_text_is_a_url_or_is_refused(text: str, allow_http: bool) -> None:
    for url in (text, "https://" + text, "https://example.com/" + text):
        try:
            target = parse_url(url, allow_http=allow_http)
        except BadRequest:
            continue
        assert all(
            "!" <= character <= "~" for part in (target.host, target.path, target.authority) for character in part
        )
        assert target.host
        assert 0 < target.port < 65_536


@pytest.mark.parametrize("text", ["devices/#", "#", "+/+", "devices/+/telemetry/temperature", "/", "a//b", "devices/é"])
def test_filters_in_an_account_s_own_space_are_taken(text: str) -> None:
    check_topic_filter(text, 128)


@pytest.mark.parametrize("text", ["", "a#", "#/a", "a/+b", "a/#/b", "$share/g/a", "$SYS/#", "a\0b", "/" * 200])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="topic_filter"):
        check_topic_filter(text, 128)


# ---------------------------------------------------------------- names


def test_a_name_is_judged_by_all_that_it_means_and_the_judged_address_is_used() -> None:
    async def body() -> None:
        names = {"mixed": ["127.0.0.1", "10.0.0.1", "8.8.8.8"], "inside": ["169.254.169.254", "::1"], "none": []}
        resolver = Resolver((), lambda host, _port: names[host])
        assert await resolver.find(1, "mixed", 443) == "8.8.8.8"
        for host in ("inside", "none", "127.0.0.1", "::ffff:10.0.0.1"):
            with pytest.raises(NoAddress, match="public"):
                await resolver.find(1, host, 443)
        resolver.close()

    asyncio.run(body())


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost"])
def test_spellings_that_only_the_system_understands_are_judged_by_what_they_mean(host: str) -> None:
    async def body() -> None:
        resolver = Resolver(())
        with pytest.raises(NoAddress):
            await resolver.find(1, host, 443)
        resolver.close()

    asyncio.run(body())


def test_an_account_whose_names_are_slow_waits_for_them_alone() -> None:
    async def body() -> None:
        release = threading.Event()

        def lookup(host: str, _port: int) -> list[str]:
            if host == "slow":
                release.wait(10)
            return ["8.8.8.8"]

        resolver = Resolver((), lookup)
        slow = [asyncio.create_task(resolver.find(1, "slow", 443)) for _ in range(2)]
        await asyncio.sleep(0)
        slow[0].cancel()  # nobody waits for it: it still takes a thread
        with pytest.raises(NoAddress, match="too long"):
            await resolver.find(1, "fast", 443)
        assert await resolver.find(2, "fast", 443) == "8.8.8.8"
        release.set()
        assert await slow[1] == "8.8.8.8"
        await asyncio.sleep(0.05)
        assert await resolver.find(1, "fast", 443) == "8.8.8.8"
        resolver.close()

    asyncio.run(body())
