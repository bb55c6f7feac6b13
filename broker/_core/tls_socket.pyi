"""TLS on a socket that somebody else watches: handshake, receiving, sending and good-bye, in bounded steps."""

from typing import final

from broker._core.tls import TlsContext

@final
class TlsSocket:
    """The server's side of one connection on a non-blocking socket, which has to stay open as long as this is used.

    No step waits, and none takes more than a bounded part of what the peer has sent: the rest is left in the kernel,
    which shows it again. Nothing here knows when the socket is ready.
    """

    def __new__(cls, fd: int, context: TlsContext) -> TlsSocket: ...
    def shake_hands(self) -> bool:
        """Take one step of the handshake, of up to 4 KiB, behind the hello 1 KiB: True when it is done.

        Until then the socket has to become readable, or writable where ``wants_write`` says so. Raises
        ``ConnectionError`` with OpenSSL's reason.
        """
        ...

    @property
    def wants_write(self) -> bool:
        """Whether the last step of the handshake waits for room in the socket."""
        ...

    def receive(self) -> bytes | None:
        """Read up to 16 KiB of the socket; empty: nothing whole has come yet.

        None: the peer has ended it, or it is broken, or more than sixteen messages of TLS's own came in a second.
        """
        ...

    @property
    def has_more(self) -> bool:
        """Whether the last ``receive`` left something that the kernel does not show: it has to be called again."""
        ...

    def send(self, plain: bytes | bytearray | memoryview) -> int:
        """Encrypt and send up to 128 KiB; gives how many bytes were taken.

        What was not taken must be offered again, the same bytes first. Raises ``ConnectionError``.
        """
        ...

    @property
    def own_messages(self) -> int:
        """How many messages of TLS's own came in the second that is counted: a seventeenth is the end."""
        ...

    @property
    def is_out(self) -> bool:
        """Whether the socket has taken all that was encrypted; where it has not, it has to become writable."""
        ...

    def end(self) -> None:
        """Tell the peer that nothing more comes, so that it knows that nothing was cut off."""
        ...
