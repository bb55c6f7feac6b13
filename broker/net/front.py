"""The REST API's two doors: one application behind a plain server and one with TLS.

Here belongs that both are one: limits are of both together, they stop together. Not here: serving (``http``), TLS
(``https``), and the application (``api``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp

from broker.config import BrokerConfig
from broker.net.certificates import HTTPS, CertificateStore, TlsMaterial
from broker.net.crowd import Crowd
from broker.net.handshake_turns import HandshakeTurns
from broker.net.http import HttpServer
from broker.net.https import SecureDoor
from broker.net.listeners import Doors


class HttpFront:
    """Serves an application on the HTTP sockets of a broker, with the certificate for HTTPS of the store.

    While ``has_traffic``, messages come, for whose sake handshakes rest.
    """

    def __init__(
        self,
        application: ASGIApp,
        doors: Doors,
        certificates: CertificateStore,
        config: BrokerConfig,
        give_way: Callable[[], None],
        has_traffic: Callable[[], bool],
    ) -> None:
        trusted, http = config.trusted_proxies, config.http
        crowd = Crowd(http.connections_maximum, http.connections_per_address_maximum, trusted)
        shared: dict[str, Any] = {"trusted_proxies": trusted, "crowd": crowd, "give_way": give_way}
        self._servers = [HttpServer(application, doors.http, **shared)]
        self._door: SecureDoor | None = None
        if doors.https is not None:
            self._door = SecureDoor(certificates.material(HTTPS), turns=HandshakeTurns(has_traffic))
            self._servers.append(HttpServer(application, doors.https, door=self._door, **shared))

    def take(self, material: TlsMaterial) -> None:
        """Use this certificate for handshakes that begin from now on. Raises ``ValueError``; the old one stays then."""
        if self._door is not None:
            self._door.take(material)

    async def start(self) -> None:
        """Serve from now on. Raises what a server could not start for."""
        for server in self._servers:
            await server.start()

    async def stop(self) -> None:
        """Finish the requests that are running, within two seconds, and close."""
        await asyncio.gather(*(server.stop() for server in self._servers))
