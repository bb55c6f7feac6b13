"""Who sends a request, as its bytes say it: the key in its headers, the address that it came from.

Here belongs reading them. Not here: whether the key is one (``broker.admin``).
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache

from starlette.types import Scope

from broker.doors import is_loopback, network_of

ADDRESSES_REMEMBERED = 1000
FORWARDED = frozenset((b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"))
AUTHORIZATION = b"authorization"
API_KEY_HEADER = b"x-api-key"


def values_of(scope: Scope, name: bytes) -> list[str]:
    """Give what a request says under a header's name, which is in lower case."""
    return [value.decode("latin-1") for one, value in scope["headers"] if one == name]


def presented_key(scope: Scope) -> str:
    """Give the key of ``Authorization: Bearer`` (in any case) or ``X-API-Key``; empty when there is none to take.

    A request may show one key in several places, and not several keys: nobody could tell which of them was meant, and a
    proxy in between might have looked at another one.
    """
    shown = {_bearer(one) for one in values_of(scope, AUTHORIZATION)}
    shown |= {one.strip() for one in values_of(scope, API_KEY_HEADER)}
    return shown.pop() if len(shown) == 1 else ""


def shows_key(scope: Scope) -> bool:
    """Tell whether a request shows anything in a key's place."""
    return any(name in (AUTHORIZATION, API_KEY_HEADER) for name, _ in scope["headers"])


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
    return client is not None and _is_loopback(client[0]) and not any(one in FORWARDED for one, _ in scope["headers"])


@lru_cache(ADDRESSES_REMEMBERED)
def _is_loopback(address: str) -> bool:
    return is_loopback(address)


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
