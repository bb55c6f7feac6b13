"""The reactor: sockets for a shard, as one descriptor under any asyncio loop's ``add_reader``."""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import TypedDict, final, type_check_only

from broker._core.shard import Shard
from broker._core.tls import TlsContext

@type_check_only
class Figures(TypedDict):
    """Counts since the start; ``sockets`` are open now, ``holds`` are rounds by how long they held the loop.

    ``handshakes`` of TLS that were completed, ``resumptions`` among them by a session ticket.
    """

    rounds: int
    receives: int
    sends: int
    accepts: int
    lost_accepts: int
    sockets: int
    handshakes: int
    resumptions: int
    failed_handshakes: int
    handshakes_ns: int
    handshake_rests: int
    longest_hold_ns: int
    held_ns: int
    holds: list[int]

HOLD_BOUNDS_NS: tuple[int, ...]
"""Upper bounds of ``figures()["holds"]``, the last of which has none."""

@final
class Reactor:
    """Moves bytes between sockets and a shard, in rounds of about two milliseconds.

    ``on_rare(packets)`` answers rare packets within the round; ``on_batch()`` is told that the journal has a batch to
    seal; ``again(callback)`` calls back in the loop's next turn (``loop.call_soon``); ``on_local(handles)`` is told at
    the end of a round which local connections have got output, may be fed again, or were closed. Raises ``OSError``
    when its descriptors cannot be opened.
    """

    def __new__(
        cls,
        shard: Shard,
        *,
        on_rare: Callable[[list[tuple[int, int, int, int, int, bytes]]], None],
        on_batch: Callable[[], None],
        again: Callable[[Callable[[], None]], object],
        on_local: Callable[[set[int]], None] | None = None,
    ) -> Reactor: ...
    @property
    def shard(self) -> Shard:
        """The shard whose sockets these are."""
        ...

    def fileno(self) -> int:
        """Give the inner epoll's descriptor, to be watched for reading."""
        ...

    def now_ns(self) -> int:
        """Read the clock that the shard's times are on: CLOCK_MONOTONIC, and as much as ``advance`` has added."""
        ...

    def advance(self, ns: int) -> None:
        """Move the shard's clock forward, from deadline to deadline, each with a round of its own: for tests.

        Raises ``ValueError`` for a negative time.
        """
        ...

    def add_listener(
        self, fd: int, *, tls: TlsContext | None = None, websocket: bool = False, proxy: bool = False
    ) -> int:
        """Accept on a non-blocking listening socket (which stays the caller's); returns its number, 0 to 63.

        With ``proxy`` each connection begins with a PROXY header (version 1 or 2), and must come from a trusted network
        or over a Unix socket. Raises ``ValueError`` for a listener too many.
        """
        ...

    def set_tls(self, listener: int, tls: TlsContext) -> None:
        """Shake hands with this context from now on; who is connected stays. Raises ``ValueError`` for no listener."""
        ...

    def trust(self, networks: Iterable[str | IPv4Network | IPv6Network]) -> None:
        """Take the word of peers from these networks, and no others, on who their client is.

        Raises ``ValueError`` for what is not a network.
        """
        ...

    def believe(self, handle: int, address: str) -> None:
        """Take an address as that of a connection's client; nothing happens when the connection is gone.

        It is closed when as many strangers as may be from there are waiting already. Raises ``ValueError`` for what is
        not an address.
        """
        ...

    def peer_certificate(self, handle: int) -> bytes:
        """Give the certificate (DER) that a client has shown and that was verified; empty when there is none."""
        ...

    def stop_accepting(self) -> None:
        """Accept nothing any more."""
        ...

    def soon(self) -> None:
        """Run a round in the loop's next turn: something outside a round has made work. Owner thread only."""
        ...

    def wake(self) -> None:
        """Run a round soon; from any thread."""
        ...

    def on_ready(self) -> None:
        """Run one round: to be called when the descriptor is readable."""
        ...

    def glance(self) -> None:
        """Run a tenth of a round: to be called in the middle of other long work in the loop. Without work, 0.5 us."""
        ...

    @property
    def has_traffic(self) -> bool:
        """Whether a message has come in the last second: handshakes rest for it."""
        ...

    def open_local(self) -> int:
        """Open a connection from inside this process and return its handle; no limit of connections refuses it.

        It waits for a CONNECT as any other does. It stays until ``close_local``, also when the core has closed it.
        """
        ...

    def feed_local(self, handle: int, data: bytes | bytearray | memoryview) -> bool:
        """Take bytes of a local connection; False: feed no more until ``on_local`` names it.

        Raises ``LookupError`` when it is closed or closing.
        """
        ...

    def take_local(self, handle: int, at_most: int) -> bytes:
        """Take up to ``at_most`` bytes that wait for a local connection (-1: all); also when it is closing."""
        ...

    def close_local(self, handle: int) -> None:
        """End a local connection as if its peer had gone away; again is no error."""
        ...

    def close(self) -> None:
        """Close all sockets and descriptors at once."""
        ...

    def peer(self, handle: int) -> str:
        """Give the client's address, the socket's own or what a trusted peer has told; empty when it is gone."""
        ...

    def figures(self) -> Figures:
        """Give counts of rounds, system calls and sockets, and how long rounds held the loop."""
        ...

    def forget_longest_hold(self) -> None:
        """Start measuring the longest hold anew."""
        ...
