"""A connection through TLS as asyncio's protocols see one: their transport, in bounded steps of the core's TLS.

Here belong reading, writing, flow control and the end of a connection whose handshake is over. Not here: handshakes and
who may come in (``https``), records (the core), and what is said (``http_connection``).

asyncio's own takes up to 256 KiB of what a peer has sent in one step, whatever is in it: records of one byte hold the
loop for tens of milliseconds, exchanges of keys for half a second.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from broker._core.tls_socket import TlsSocket

SHUTDOWN_TIMEOUT_S = 30.0  # an answer that waits for its reader has this long from the close on, and then its good-bye
HIGH_WATER_BYTES = 64 * 1024
LOW_WATER_BYTES = 16 * 1024
IGNORED_BYTES = 16 * 1024  # in one step, of what comes after the end


class SecureTransport(asyncio.Transport):
    """Carries a protocol's bytes over a socket whose handshake is over; it owns the socket.

    ``close`` sends what waits, says good-bye and waits for the peer to end as well, ``SHUTDOWN_TIMEOUT_S`` for all of
    it; ``abort`` ends at once.
    """

    def __init__(self, accepted: socket.socket, tls: TlsSocket, protocol: asyncio.Protocol) -> None:
        super().__init__(
            {
                "socket": accepted,
                "sockname": accepted.getsockname(),
                "peername": accepted.getpeername(),
                "sslcontext": tls,  # which is how a protocol asks whether there is one
            }
        )
        self._loop = asyncio.get_running_loop()
        self._socket = accepted
        self._tls = tls
        self._protocol = protocol
        self._unsent = bytearray()
        self._is_writing = False  # the loop tells when there is room
        self._is_reading = False  # the loop tells what comes
        self._is_paused = False  # by the protocol
        self._is_full = False  # which the protocol was told
        self._is_closing = False
        self._has_ended = False  # the peer has
        self._more: asyncio.Handle | None = None
        self._end: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Hand the connection to its protocol, with what came behind the handshake."""
        self._protocol.connection_made(self)
        self.resume_reading()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Give who speaks inside."""
        return self._protocol

    # ---------------------------------------------------------------- reading

    def is_reading(self) -> bool:
        """Tell whether what comes is handed on."""
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        """Leave what comes in the kernel."""
        self._is_paused = True
        self._stop_reading()

    def resume_reading(self) -> None:
        """Hand on what comes, and first what OpenSSL has read already."""
        self._is_paused = False
        if self._is_closing or self._is_reading:
            return
        self._is_reading = True
        self._loop.add_reader(self._socket, self._read)
        self._more = self._loop.call_soon(self._read_on)

    def _stop_reading(self) -> None:
        if self._more is not None:
            self._more.cancel()
            self._more = None
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._socket)

    def _read_on(self) -> None:
        self._more = None
        self._read()

    def _read(self) -> None:
        if self._more is not None:  # it comes at the end of this turn
            return
        data = self._tls.receive()
        if data is None:
            self._has_ended = True
            self._protocol.eof_received()
            self.close()
            return
        if data:
            self._protocol.data_received(data)
        if self._tls.has_more and self._is_reading:
            self._more = self._loop.call_soon(self._read_on)

    # ---------------------------------------------------------------- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send this, now as far as there is room; after ``close`` it is dropped."""
        if self._is_closing or not data:
            return
        if self._is_writing:
            self._unsent += data
        else:
            sent = self._send(data)
            if (sent == len(data) and self._tls.is_out) or self._socket.fileno() < 0:
                return
            self._unsent += memoryview(data)[sent:]
            self._await_room()
        self._tell_whether_full()

    def can_write_eof(self) -> bool:
        """Tell that there is no half of an end."""
        return False

    def get_write_buffer_size(self) -> int:
        """Give how many bytes wait in this process."""
        return len(self._unsent)

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._tls.send(data)
        except ConnectionError:
            self.abort()
            return 0

    def _await_room(self) -> None:
        """Have the loop tell when there is room, while something waits for it."""
        waits = bool(self._unsent) or not self._tls.is_out
        if waits and not self._is_writing:
            self._loop.add_writer(self._socket, self._flush)
        elif self._is_writing and not waits:
            self._loop.remove_writer(self._socket)
        self._is_writing = waits

    def _flush(self) -> None:
        if self._unsent:
            with memoryview(self._unsent) as unsent:
                sent = self._send(unsent)
            if self._socket.fileno() < 0:
                return
            del self._unsent[:sent]
        self._await_room()
        self._tell_whether_full()
        if self._is_closing and not self._is_writing:
            self._say_goodbye()

    def _tell_whether_full(self) -> None:
        if not self._is_full and len(self._unsent) > HIGH_WATER_BYTES:
            self._is_full = True
            self._protocol.pause_writing()
        elif self._is_full and len(self._unsent) <= LOW_WATER_BYTES:
            self._is_full = False
            self._protocol.resume_writing()

    # ---------------------------------------------------------------- the end

    def is_closing(self) -> bool:
        """Tell whether it has ended, or ends with what waits."""
        return self._is_closing

    def close(self) -> None:
        """Send what waits, and end."""
        if self._is_closing:
            return
        self._is_closing = True
        self._stop_reading()
        self._end = self._loop.call_later(SHUTDOWN_TIMEOUT_S, self.abort)
        if not self._is_writing:
            self._say_goodbye()

    def abort(self) -> None:
        """End now, with nobody waited for."""
        if self._socket.fileno() < 0:
            return
        self._is_closing = True
        self._stop_reading()
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._socket)
        if self._end is not None:
            self._end.cancel()
            self._end = None
        self._unsent = bytearray()
        self._socket.close()
        self._loop.call_soon(self._protocol.connection_lost, None)

    def _say_goodbye(self) -> None:
        """Wait for the peer's end: a socket that is closed while bytes come takes back what it has sent."""
        self._tls.end()
        with suppress(OSError):  # it has gone already
            self._socket.shutdown(socket.SHUT_WR)
        if self._has_ended:
            self.abort()
            return
        self._is_reading = True
        self._loop.add_reader(self._socket, self._ignore)

    def _ignore(self) -> None:
        try:
            if self._socket.recv(IGNORED_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:  # reset
            pass
        self.abort()
