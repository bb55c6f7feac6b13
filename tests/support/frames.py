"""A WebSocket client for the native core, whose frames are made and read by the ``websockets`` package.

Here belongs how MQTT's bytes become frames and back. Not here: what MQTT's bytes are, sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from tests.support.core import Client, Core


class Frames:
    """One client's end of a WebSocket: ``send`` puts bytes on the wire."""

    def __init__(
        self,
        send: Callable[[bytes], None],
        *,
        uri: str = "ws://broker/mqtt",
        subprotocol: str | None = "mqtt",
        origin: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._send = send
        self._protocol = ClientProtocol(
            parse_uri(uri),
            origin=None if origin is None else Origin(origin),
            subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
            max_size=None,
        )
        self.others: list[Frame] = []
        self.opening = True
        request = self._protocol.connect()
        for name, value in headers:
            request.headers[name] = value
        self._protocol.send_request(request)
        self.flush()

    def flush(self) -> None:
        """Put on the wire what the protocol has to say."""
        for data in self._protocol.data_to_send():
            if data:
                self._send(data)

    @property
    def is_open(self) -> bool:
        """Whether the handshake was answered with yes, and nobody has begun to close."""
        return self._protocol.state is State.OPEN

    @property
    def is_answered(self) -> bool:
        """Whether the answer to the handshake has come, whatever it is."""
        return self._protocol.state is not State.CONNECTING or self._protocol.handshake_exc is not None

    @property
    def status(self) -> int:
        """The HTTP status of the answer to the handshake."""
        error = self._protocol.handshake_exc
        if isinstance(error, InvalidStatus):
            return int(error.response.status_code)
        assert error is None, error
        assert self._protocol.state is not State.CONNECTING, "no answer yet"
        return 101

    @property
    def subprotocol(self) -> str | None:
        return self._protocol.subprotocol

    @property
    def close(self) -> Close | None:
        """The Close frame that the broker has sent."""
        return self._protocol.close_rcvd

    def write(self, data: bytes, *, fin: bool = True, opcode: Opcode = Opcode.BINARY) -> None:
        """Send one frame, whatever may be wrong with it."""
        self._send(frame(data, opcode, fin=fin))

    def read(self, data: bytes) -> bytes:
        """Take bytes off the wire; gives MQTT's. Each data frame must be binary."""
        taken = b""
        if data:
            self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                continue
            assert isinstance(event, Frame)
            if event.opcode in {Opcode.BINARY, Opcode.CONT}:
                taken += bytes(event.data)
            else:
                self.others.append(event)
        assert self._protocol.parser_exc is None or isinstance(self._protocol.parser_exc, EOFError), (
            self._protocol.parser_exc
        )
        return taken


MASK = b"\x12\x9a\xf7\x05"


def frame(data: bytes, opcode: int = Opcode.BINARY, *, fin: bool = True, mask: bytes | None = MASK) -> bytes:
    """The bytes of one frame, made by hand."""
    size = len(data)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    head = bytes([opcode | (0x80 if fin else 0), length[0] | (0 if mask is None else 0x80)]) + length[1:]
    if mask is None:
        return head + data
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(data))


class FramedClient(Client):
    """A client of the core whose packets travel in frames."""

    def __init__(self, core: Core, handle: int, version: int = 5, **options: str | None) -> None:
        super().__init__(core, handle, version)
        self.frames = Frames(super().feed if handle else lambda _: None, **options)  # type: ignore[arg-type]
        core.clients.append(self)

    @classmethod
    def opened(cls, core: Core, version: int = 5, listener: int = 0, **options: str | None) -> Self:
        """A client whose handshake was answered."""
        handle = core.shard.open_connection(listener, core.now_ns, websocket=True)
        assert handle, "refused at the door"
        client = cls(core, handle, version, **options)
        core.run()
        return client

    def feed(self, data: bytes) -> None:
        """MQTT's bytes arrive in one frame."""
        if data and self.is_open:
            self.frames.write(data)

    def feed_raw(self, data: bytes) -> None:
        """Bytes arrive as they are."""
        super().feed(data)

    def take(self, at_most: int = -1) -> bool:
        taken = self.core.shard.take_output(self.handle, at_most)
        self.keep(self.frames.read(taken))
        return bool(taken)
