"""Where a webhook's endpoint may be: what its URL says, and which addresses are public.

Here belong rules that need nothing but the text and the number. Not here: what a name means (``broker.webhooks``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from broker.errors import BadRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_MAXIMUM_CHARACTERS = 2048
VISIBLE = re.compile(r"[!-~]+")
HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?|[0-9a-f:.]*:[0-9a-f:.]*")
DEFAULT_PORTS = {"https": 443, "http": 80}
NOT_PUBLIC = (
    IPv4Network("168.63.129.16/32"),  # a machine of Azure finds the platform itself there, as others at 169.254.169.254
    IPv4Network("192.88.99.0/24"),  # whoever translates between IPv6 and IPv4 nearby
)


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint's URL in its parts; ``path`` has the query, and ``authority`` is the host as HTTP names it."""

    scheme: str
    host: str
    port: int
    path: str
    authority: str


def parse_url(url: str, *, allow_http: bool) -> Target:
    """Take a URL apart. Raises ``BadRequest`` for one that is none, and for what no endpoint should have."""
    try:
        if VISIBLE.fullmatch(url) is None or len(url) > URL_MAXIMUM_CHARACTERS:
            raise ValueError("characters")
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
        usable = HOST.fullmatch(host) and port != 0 and "@" not in parts.netloc and not parts.fragment
        if not usable or parts.scheme not in (("https", "http") if allow_http else ("https",)):
            raise ValueError("parts")
    except ValueError as error:
        expected = f"{'http:// or ' if allow_http else ''}https://, a host, and a path: without user, password and #"
        raise BadRequest(f"url: expected {expected}", field="url", provided=url, expected=expected) from error
    own = f"[{host}]" if ":" in host else host
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    return Target(
        parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], path, own if port is None else f"{own}:{port}"
    )


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public Internet's hosts, whatever way it is written.

    Addresses of IPv6 that carry one of IPv4 for somebody to translate (6to4, Teredo, NAT64) are not.
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None or address.is_site_local or address.scope_id:
            return False
    if any(address in network for network in NOT_PUBLIC):
        return False
    special = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    return address.is_global and not special and not address.is_reserved and not address.is_unspecified


def may_be_told(address: Address, allowed: Sequence[Network]) -> bool:
    """Tell whether an endpoint may be at an address."""
    plain = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped is not None else address
    return is_public(address) or any(plain in network for network in allowed)
