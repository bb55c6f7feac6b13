"""For whom a proxy speaks: nobody who is not trusted is believed, whatever stands in the header."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.net.forwarded import client_address, is_trusted

PROXIES = [ip_network("10.0.0.0/8"), ip_network("::1/128"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.9, 192.0.2.7"], "192.0.2.7"),  # what the client itself has written is no news
        ("10.0.0.1", ["203.0.113.9, 192.0.2.7, 10.1.1.1"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.9", "192.0.2.7,10.1.1.1"], "192.0.2.7"),
        ("10.0.0.1", ["10.0.0.9, 10.1.1.1"], "10.0.0.9"),
        ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.0.0.1", ["[2001:db8::7]"], "2001:db8::7"),
        ("10.0.0.1", ["2001:DB8:0::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("::1", ["192.0.2.7 \t, fd00::2"], "192.0.2.7"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7,"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::7"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::7]x"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7:"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7:70000"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7:\N{ARABIC-INDIC DIGIT ONE}"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7/8"], "10.0.0.1"),
        ("", ["192.0.2.7"], ""),
        ("/run/broker.sock", ["192.0.2.7"], "/run/broker.sock"),
    ],
)
def test_the_first_that_is_not_trusted_from_the_right_is_the_client(peer: str, values: list[str], client: str) -> None:
    assert client_address(peer, values, PROXIES) == client


addresses = st.ip_addresses().map(str)


@given(addresses, st.lists(st.text() | addresses))
def test_who_is_not_trusted_is_taken_at_its_own_address(peer: str, values: list[str]) -> None:
    assert client_address(peer, values, []) == peer


@given(st.lists(st.text(alphabet="0123456789abcdef.:[], \x00") | addresses.map(lambda one: f"{one}, 10.2.3.4")))
def test_no_header_gives_anything_but_an_address(values: list[str]) -> None:
    told = client_address("10.0.0.1", values, PROXIES)
    assert str(ip_address(told)) == told


@given(addresses.filter(lambda one: not is_trusted(ip_address(one), PROXIES)), st.lists(st.text()))
def test_what_stands_left_of_the_client_changes_nothing(client: str, before: list[str]) -> None:
    if getattr(ip_address(client), "ipv4_mapped", None) is None:
        assert client_address("10.0.0.1", [*before, client], PROXIES) == client
