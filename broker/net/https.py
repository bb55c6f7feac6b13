"""TLS before the HTTP server: a handshake in time, with the certificate of the moment, then a connection as usual.

Here belong the context of HTTPS and the way from an accepted socket to an encrypted transport. Not here: HTTP
(``http``), where certificates come from (``certificates``), and TLS for MQTT (the core).
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections import Counter
from collections.abc import Callable
from typing import cast

from broker.net.certificates import TlsMaterial

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
SHUTDOWN_TIMEOUT_S = 1.0
HANDSHAKES_MAXIMUM = 1000
HANDSHAKES_PER_ADDRESS_MAXIMUM = 200
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated encryption; 1.3 has no others


def server_context(material: TlsMaterial) -> ssl.SSLContext:
    """Make a context for HTTPS: TLS 1.2 and later, no compression, no renegotiation. Raises ``ValueError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    _load(context, material)
    return context


def _load(context: ssl.SSLContext, material: TlsMaterial) -> None:
    """Give a context what is in memory: OpenSSL reads files alone, and a key goes into none that has a name."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as out:
            out.write(material.private_key_pem + material.certificate_chain_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        raise ValueError(f"OpenSSL does not take the certificate: {error.reason or error}") from error
    finally:
        os.close(descriptor)


class SecureDoor:
    """Lets connections in through TLS: those that begin now get the certificate of now, those that are in stay.

    A handshake has ``handshake_timeout_s``; of unfinished ones there are 1,000 at most, and 200 of one address. What
    does not speak TLS is closed without a word.
    """

    def __init__(self, material: TlsMaterial, handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S) -> None:
        self._context = server_context(material)
        self._handshake_timeout_s = handshake_timeout_s
        self._handshakes: dict[asyncio.Task[None], asyncio.Transport] = {}
        self._by_address: Counter[str] = Counter()

    def take(self, material: TlsMaterial) -> None:
        """Use this certificate for handshakes from now on. Raises ``ValueError``; the old one stays then."""
        self._context = server_context(material)

    def protocol(self, inner: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """Make the protocol of a connection that was accepted; ``inner`` gives the one of what is decrypted."""
        return _Securing(self, inner)

    def begin(self, raw: asyncio.Transport, outer: _Securing) -> None:
        """Begin a handshake, unless there are too many."""
        peer = raw.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        full = len(self._handshakes) >= HANDSHAKES_MAXIMUM
        if full or self._by_address[address] >= HANDSHAKES_PER_ADDRESS_MAXIMUM:
            raw.abort()
            return
        self._by_address[address] += 1
        task = asyncio.get_running_loop().create_task(self._secure(raw, outer), name="handshake")
        self._handshakes[task] = raw
        task.add_done_callback(lambda task: self._over(task, address))

    async def close(self) -> None:
        """Cut the handshakes that are under way."""
        running = list(self._handshakes.items())
        for task, raw in running:
            task.cancel()
            raw.abort()
        await asyncio.gather(*(task for task, _ in running), return_exceptions=True)

    async def _secure(self, raw: asyncio.Transport, outer: _Securing) -> None:
        loop = asyncio.get_running_loop()
        try:
            encrypted = await loop.start_tls(
                raw,
                outer,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._handshake_timeout_s,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
        except (OSError, RuntimeError) as error:  # not TLS, no cipher in common, too late, gone meanwhile
            log.debug("a TLS handshake failed: %s", error)
            raw.abort()
            return
        assert encrypted is not None  # only a transport that was closed has none
        outer.secured(encrypted)

    def _over(self, task: asyncio.Task[None], address: str) -> None:
        del self._handshakes[task]
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class _Securing(asyncio.Protocol):
    """The protocol of one connection until its handshake is over; then the inner one takes its place.

    What is decrypted before ``secured`` is called (loops do so) is kept until then: one read at most.
    """

    def __init__(self, door: SecureDoor, inner: Callable[[], asyncio.Protocol]) -> None:
        self._door = door
        self._inner = inner
        self._early: list[bytes] = []
        self._ended = False
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake: nothing may be read before."""
        raw = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        raw.pause_reading()
        self._door.begin(raw, self)

    def data_received(self, data: bytes) -> None:
        """Keep what comes early."""
        self._early.append(data)

    def eof_received(self) -> None:
        """Keep in mind that no more comes."""
        self._ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep in mind that nobody is there any more."""
        del exc
        self._lost = True

    def secured(self, encrypted: asyncio.Transport) -> None:
        """Hand the connection over to the inner protocol."""
        if self._lost:
            return
        inner = self._inner()
        encrypted.set_protocol(inner)
        inner.connection_made(encrypted)
        for data in self._early:
            inner.data_received(data)
        self._early.clear()
        if self._ended:
            encrypted.close()
