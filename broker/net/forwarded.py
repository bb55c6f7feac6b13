"""For whom a proxy speaks: X-Forwarded-For, believed as far as it was written by those who are trusted.

Here belongs the one rule, as a pure function. Not here: whose header that is (HTTP's, an upgrade's), and the
PROXY protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def client_address(peer: str, header_values: Sequence[str], trusted: Sequence[Network]) -> str:
    """Tell who is at the other end: the peer, or whom a chain of trusted proxies names.

    Each proxy adds at the right whom it was connected by, so the list is read from there for as long as who is speaking
    is trusted: the first address that is not is the client's. Where all are trusted it is the leftmost. What is no
    address where one is due says nothing, and the answer is the peer.
    """
    speaking = _parsed(peer)
    if speaking is None or not header_values or not is_trusted(speaking, trusted):
        return peer
    for text in _from_the_right(header_values):
        named = _parsed(text)
        if named is None:
            return peer
        speaking = named
        if not is_trusted(speaking, trusted):
            break
    return str(speaking)


def is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    """Tell whether an address is in one of the networks."""
    return any(address in network for network in trusted)


def speaks_for_others(peer: str, trusted: Sequence[Network]) -> bool:
    """Tell whether a peer's address, as text, is in one of the networks."""
    address = _parsed(peer) if trusted else None
    return address is not None and is_trusted(address, trusted)


def _from_the_right(header_values: Sequence[str]) -> Iterator[str]:
    for value in reversed(header_values):
        for text in reversed(value.split(",")):
            yield text.strip(" \t")


def _parsed(text: str) -> Address | None:
    """Read an address; a port behind it, and brackets around it, say nothing about who it is."""
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not (port[0] == ":" and _is_port(port[1:]))):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(port):
            return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= 65_535 if len(text) <= 5 else False
