"""Origins of web pages as the configuration lists them: in the one spelling that browsers send.

Here belongs that spelling, and the words of its refusal. Not here: who may come (``net.upgrades``, ``api.cors``).
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._~-]*)(?::([0-9]{1,5}))?/?", re.IGNORECASE)
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
NEED_A_HOST = ("http", "https")
OPAQUE = "null"  # what pages from files send
ANY = "*"
EXPECTED = "expected an origin as browsers send it, such as https://app.example.org or http://localhost:3000"


def plain_origin(text: str) -> str:
    """Give an origin as browsers send it: in small letters, without the scheme's own port and without a slash.

    A browser's ``Origin`` is compared byte by byte, so that any other spelling would keep everybody out. Raises
    ``ValueError`` for what no browser sends: a path, a pattern, a host that is not ASCII.
    """
    if text == OPAQUE:
        return text
    found = ORIGIN.fullmatch(text)
    if found is None:
        raise ValueError(f"{EXPECTED}, not {text!r}")
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    if (scheme in NEED_A_HOST and not host) or (port is not None and not 0 < int(port) < 65_536):
        raise ValueError(f"{EXPECTED}, not {text!r}")
    own = port is None or int(port) == DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}" if own else f"{scheme}://{host}:{int(port)}"


def _plain_or_any(text: str) -> str:
    return text if text == ANY else plain_origin(text)


PageOrigin = Annotated[str, AfterValidator(plain_origin)]
PageOriginOrAny = Annotated[str, AfterValidator(_plain_or_any)]
