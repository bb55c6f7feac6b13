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
from collections.abc import Callable

from broker._core.tls_settings import python_context
from broker.doors import network_of
from broker.net.certificates import TlsMaterial
from broker.net.crowd import Crowd

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
SHUTDOWN_TIMEOUT_S = 30.0  # an answer that waits for its reader has this long from the close on
ACCEPT_PAUSE_S = 0.5
ACCEPTS_AT_ONCE = 100
HANDSHAKES_MAXIMUM = 1000
HANDSHAKES_PER_ADDRESS_MAXIMUM = 200


def server_context(material: TlsMaterial) -> ssl.SSLContext:
    """Make a context for HTTPS: TLS 1.2 and later, no compression, no renegotiation. Raises ``ValueError``."""
    return python_context(material.certificate_chain_pem, material.private_key_pem, protocol="http/1.1")


class SecureDoor:
    """Lets connections in through TLS: those that begin now get the certificate of now, those that are in stay.

    A handshake has ``handshake_timeout_s``; of unfinished ones there are 1,000 at most, and 200 of one address, in IPv6
    of one /64; what is behind them is counted by the ``Crowd``. What does not speak TLS is closed without a word. (The
    loop's own server would keep one context for ever, let handshakes stall for a minute, and know of none of them at
    the stop.)
    """

    def __init__(self, material: TlsMaterial, handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S) -> None:
        self._context = server_context(material)
        self._handshake_timeout_s = handshake_timeout_s
        self._listening: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._handshakes: dict[asyncio.Task[None], socket.socket | None] = {}  # with what none has taken over yet
        self._by_network: Counter[str] = Counter()
        self._crowd = Crowd()

    def take(self, material: TlsMaterial) -> None:
        """Use this certificate for handshakes from now on. Raises ``ValueError``; the old one stays then."""
        self._context = server_context(material)

    def open(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol], crowd: Crowd) -> None:
        """Accept from now on; ``protocol`` makes the one that speaks inside of each connection.

        ``crowd`` are the connections whose handshake is over and that have not ended: who has no room among them is
        not worth a handshake.
        """
        self._crowd = crowd
        listening.setblocking(False)
        self._listening = listening
        self._listen(listening, protocol)

    async def close(self) -> None:
        """Accept no more, and cut the handshakes that are under way."""
        if self._listening is None:
            return
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listening)
        for task in self._handshakes:
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _listen(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        # Not by a task that waits for the next: cancelled in the wrong moment, it would forget a socket it has got.
        self._pause = None
        asyncio.get_running_loop().add_reader(listening, self._accept, listening, protocol)

    def _accept(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                accepted, peer = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:  # it is gone already, or there is no descriptor for it
                log.warning("HTTPS could not accept a connection: %s", error)
                loop.remove_reader(listening)
                self._pause = loop.call_later(ACCEPT_PAUSE_S, self._listen, listening, protocol)
                return
            accepted.setblocking(False)
            self._begin(accepted, str(peer[0]), protocol)

    def _begin(self, accepted: socket.socket, address: str, protocol: Callable[[], asyncio.Protocol]) -> None:
        network = network_of(address)
        full = len(self._handshakes) >= min(HANDSHAKES_MAXIMUM, self._crowd.room) or not self._crowd.takes(address)
        if full or self._by_network[network] >= HANDSHAKES_PER_ADDRESS_MAXIMUM:
            accepted.close()
            return
        self._by_network[network] += 1
        task = asyncio.get_running_loop().create_task(self._secure(accepted, protocol), name="handshake")
        self._handshakes[task] = accepted
        task.add_done_callback(lambda task: self._over(task, network))

    async def _secure(self, accepted: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._handshakes[asyncio.current_task()] = None  # type: ignore[index]  # the transport's now
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

    def _over(self, task: asyncio.Task[None], network: str) -> None:
        accepted = self._handshakes.pop(task)
        if accepted is not None:  # cancelled before it began
            accepted.close()
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]
