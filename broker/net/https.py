"""TLS before the HTTP server: a handshake in time, with the certificate of the moment, then a connection as usual.

Here belong the context of HTTPS and the way from an accepted socket to an encrypted transport. Not here: HTTP
(``http``), where certificates come from (``certificates``), and TLS for MQTT (the core).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable

from broker._core.tls import TlsContext
from broker._core.tls_socket import TlsSocket
from broker.doors import network_of
from broker.net.certificates import TlsMaterial
from broker.net.crowd import Crowd
from broker.net.handshake_turns import HandshakeTurns
from broker.net.secure_transport import SecureTransport

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
ACCEPT_PAUSE_S = 0.5
ACCEPTS_AT_ONCE = 100
HANDSHAKES_MAXIMUM = 1000
HANDSHAKES_PER_ADDRESS_MAXIMUM = 200


def server_context(material: TlsMaterial, previous: TlsContext | None = None) -> TlsContext:
    """Make a context for HTTPS, which takes the tickets of the ``previous`` one as well. Raises ``ValueError``."""
    chain, key = material.certificate_chain_pem, material.private_key_pem
    return TlsContext(chain, key, protocol="http/1.1", previous=previous)


class SecureDoor:
    """Lets connections in through TLS: those that begin now get the certificate of now, those that are in stay.

    A handshake has ``handshake_timeout_s`` and takes its steps in ``turns``; of unfinished ones there are 1,000 at
    most, and 200 of one address, in IPv6 of one /64; what is behind them is counted by the ``Crowd``. What does not
    speak TLS is closed without a word. (The loop's own server would keep one context for ever, let handshakes stall for
    a minute, know of none of them at the stop, and take a hello in thousands of records in one step.)
    """

    def __init__(
        self,
        material: TlsMaterial,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        turns: HandshakeTurns | None = None,
    ) -> None:
        self._context = server_context(material)
        self._handshake_timeout_s = handshake_timeout_s
        self._turns = turns or HandshakeTurns()
        self._listening: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._handshakes: dict[asyncio.Task[None], socket.socket | None] = {}  # with what none has taken over yet
        self._by_network: Counter[str] = Counter()
        self._crowd = Crowd()

    def take(self, material: TlsMaterial) -> None:
        """Use this certificate for handshakes from now on. Raises ``ValueError``; the old one stays then."""
        self._context = server_context(material, self._context)

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
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(self._handshake_timeout_s):
                tls = await self._shaken(accepted)
            transport = SecureTransport(accepted, tls, protocol())
        except OSError as error:  # not TLS, no cipher in common, too late, gone meanwhile
            log.debug("a TLS handshake failed: %s", error)
            return
        self._handshakes[asyncio.current_task()] = None  # type: ignore[index]  # the transport's now
        transport.begin()

    async def _shaken(self, accepted: socket.socket) -> TlsSocket:
        """Shake hands in steps, of which the loop does others' between; nothing is made for who says nothing."""
        await _ready(accepted)
        tls = TlsSocket(accepted.fileno(), self._context)
        while not await self._turns.step(tls.shake_hands):
            await _ready(accepted, to_write=tls.wants_write)
        return tls

    def _over(self, task: asyncio.Task[None], network: str) -> None:
        accepted = self._handshakes.pop(task)
        if accepted is not None:
            accepted.close()
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]


async def _ready(accepted: socket.socket, *, to_write: bool = False) -> None:
    """Wait until there is something to read, or room to write."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    watch, forget = (loop.add_writer, loop.remove_writer) if to_write else (loop.add_reader, loop.remove_reader)
    watch(accepted, _tell, ready)
    try:
        await ready
    finally:
        forget(accepted)


def _tell(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
