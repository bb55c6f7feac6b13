"""Connections behind clients' certificates, so that a list which takes a certificate back reaches them too.

Here belongs who has shown what, and cutting. Not here: handshakes, which judge by the list of their moment (the core),
and which device a certificate stands for (``broker.accounts``).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from broker.accounts.certificates import read_certificate
from broker.net.certificates.material import RevokedCertificates
from broker.reasons import ReasonCode

SLICE_CONNECTIONS = 500
LOOKED_AT_FOR_EACH = 2


class Connections(Protocol):
    """The part of the core that is needed."""

    def is_open(self, handle: int) -> bool:
        """Tell whether the handle still names a living connection."""
        ...

    def fail_connection(self, handle: int, reason_code: int) -> None:
        """Close with a reason code; nothing happens when it is already gone."""
        ...


class ShownCertificates:
    """Who came in by the certificates of listeners that have a revocation list.

    Nobody tells when a connection has gone: each one that comes lets the two that were looked at least lately be looked
    at, so that there are never more of the gone than of the others, and nobody waits for a walk over all.
    """

    def __init__(self, core: Connections, soon: Callable[[], None]) -> None:
        """``soon`` is called after connections were cut."""
        self._core = core
        self._soon = soon
        self._lists: dict[int, RevokedCertificates] = {}
        self._shown: OrderedDict[int, tuple[int, tuple[bytes, int]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._shown)

    def set_list(self, listener: int, revoked: RevokedCertificates) -> None:
        """Take the revocation list of a listener; who is connected stays until ``cut``."""
        self._lists[listener] = revoked

    def is_revoked(self, listener: int, certificate: bytes) -> bool:
        """Tell whether a certificate (DER) has been taken back, since its handshake; who cannot read it says yes."""
        revoked = self._lists.get(listener)
        if not revoked:
            return False
        try:
            shown = read_certificate(certificate)
        except ValueError:
            return True
        return (shown.issuer, shown.serial) in revoked

    def note(self, handle: int, listener: int, certificate: bytes) -> None:
        """Remember a connection that came in by a certificate, where its listener has a list."""
        if listener not in self._lists:
            return
        self._look(LOOKED_AT_FOR_EACH)
        try:
            read = read_certificate(certificate)
        except ValueError:
            return  # nothing that a list could name
        self._shown[handle] = listener, (read.issuer, read.serial)

    async def cut(self) -> None:
        """Cut whose certificates have been taken back (0x98), in slices.

        Who is looked at by others meanwhile, or comes, is judged by the same list.
        """
        for _ in range(0, len(self._shown), SLICE_CONNECTIONS):
            self._look(SLICE_CONNECTIONS)
            self._soon()
            await asyncio.sleep(0)

    def _look(self, count: int) -> None:
        """Look at those that were looked at least lately: who has gone is forgotten, who is on a list is cut."""
        for _ in range(min(count, len(self._shown))):
            handle, (listener, certificate) = self._shown.popitem(last=False)
            if not self._core.is_open(handle):
                continue
            if certificate in self._lists[listener]:
                self._core.fail_connection(handle, ReasonCode.ADMINISTRATIVE_ACTION)
            else:
                self._shown[handle] = listener, certificate
