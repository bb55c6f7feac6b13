"""Who sends a request, as its bytes say it: the key in its headers, the address that it came from.

Here belongs reading them. Not here: whether the key is one (``broker.admin``).
"""

from __future__ import annotations

from collections.abc import Hashable

from starlette.datastructures import Headers
from starlette.types import Scope

from broker.doors import is_loopback, network_of

FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
AUTHORIZATION = "authorization"
API_KEY_HEADER = "x-api-key"


def presented_key(headers: Headers) -> str:
    """Give the key of ``Authorization: Bearer`` (in any case) or ``X-API-Key``; empty when there is none to take.

    A request may show one key in several places, and not several keys: nobody could tell which of them was meant, and a
    proxy in between might have looked at another one.
    """
    shown = {_bearer(one) for one in headers.getlist(AUTHORIZATION)}
    shown |= {one.strip() for one in headers.getlist(API_KEY_HEADER)}
    return shown.pop() if len(shown) == 1 else ""


def shows_key(headers: Headers) -> bool:
    """Tell whether a request shows anything in a key's place."""
    return AUTHORIZATION in headers or API_KEY_HEADER in headers


def address_of(scope: Scope) -> str:
    """Give the address that a request came from; empty when there is none."""
    client = scope.get("client")
    return client[0] if client else ""


def caller_address(scope: Scope) -> Hashable:
    """Give the address that a request came from, in a form that no key id can equal."""
    address = address_of(scope)
    return ("address", network_of(address) if address else "")


def is_from_loopback(scope: Scope) -> bool:
    """Tell whether the caller is on this machine and speaks for itself: a proxy says for whom it speaks."""
    client = scope.get("client")
    headers = Headers(scope=scope)
    return client is not None and is_loopback(client[0]) and not any(name in headers for name in FORWARDED)


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
