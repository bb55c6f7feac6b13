"""TLS before the HTTP server: a handshake in time, with the certificate of the moment, then a connection as usual.

Here belong the context of HTTPS and the way from an accepted socket to an encrypted transport. Not here: HTTP
(``http``), where certificates come from (``certificates``), and TLS for MQTT (the core).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sized

from broker._core.tls_settings import python_context
from broker.net.certificates import TlsMaterial

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
SHUTDOWN_TIMEOUT_S = 1.0
ACCEPT_PAUSE_S = 0.5
HANDSHAKES_MAXIMUM = 1000
HANDSHAKES_PER_ADDRESS_MAXIMUM = 200
CONNECTIONS_MAXIMUM = 5000


def server_context(material: TlsMaterial) -> ssl.SSLContext:
    """Make a context for HTTPS: TLS 1.2 and later, no compression, no renegotiation. Raises ``ValueError``."""
    return python_context(material.certificate_chain_pem, material.private_key_pem, protocol="http/1.1")


class SecureDoor:
    """Lets connections in through TLS: those that begin now get the certificate of now, those that are in stay.

    A handshake has ``handshake_timeout_s``; of unfinished ones there are 1,000 at most, and 200 of one address; of all
    connections 5,000. What does not speak TLS is closed without a word. (The loop's own server would keep one context
    for ever, let handshakes stall for a minute, and know of none of them at the stop.)
    """

    def __init__(self, material: TlsMaterial, handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S) -> None:
        self._context = server_context(material)
        self._handshake_timeout_s = handshake_timeout_s
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._by_address: Counter[str] = Counter()
        self._inside: Sized = ()

    def take(self, material: TlsMaterial) -> None:
        """Use this certificate for handshakes from now on. Raises ``ValueError``; the old one stays then."""
        self._context = server_context(material)

    def open(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol], inside: Sized) -> None:
        """Accept from now on; ``protocol`` makes the one that speaks inside of each connection.

        ``inside`` are the connections whose handshake is over and that have not ended.
        """
        self._inside = inside
        listening.setblocking(False)
        accepting = self._accept(listening, protocol)
        self._accepting = asyncio.get_running_loop().create_task(accepting, name="https")

    async def close(self) -> None:
        """Accept no more, and cut the handshakes that are under way."""
        tasks = [*self._handshakes, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:  # it is gone already, or there is no descriptor for it
                log.warning("HTTPS could not accept a connection: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            self._begin(accepted, str(peer[0]), protocol)

    def _begin(self, accepted: socket.socket, address: str, protocol: Callable[[], asyncio.Protocol]) -> None:
        full = len(self._handshakes) >= min(HANDSHAKES_MAXIMUM, CONNECTIONS_MAXIMUM - len(self._inside))
        if full or self._by_address[address] >= HANDSHAKES_PER_ADDRESS_MAXIMUM:
            accepted.close()
            return
        self._by_address[address] += 1
        task = asyncio.get_running_loop().create_task(self._secure(accepted, protocol), name="handshake")
        self._handshakes.add(task)
        task.add_done_callback(lambda task: self._over(task, address))

    async def _secure(self, accepted: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_timeout_s,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
        except OSError as error:  # not TLS, no cipher in common, too late, gone meanwhile
            log.debug("a TLS handshake failed: %s", error)

    def _over(self, task: asyncio.Task[None], address: str) -> None:
        self._handshakes.discard(task)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
