"""The reactor: sockets for a shard, as one descriptor under any asyncio loop's ``add_reader``."""

from collections.abc import Callable
from typing import final

from broker._core.shard import Shard

@final
class Reactor:
    """Moves bytes between sockets and a shard, in rounds of about two milliseconds.

    ``on_rare(packets)`` answers rare packets within the round; ``on_batch()`` is told that the journal has a batch to
    seal; ``again(callback)`` calls back in the loop's next turn (``loop.call_soon``). Raises ``OSError`` when its
    descriptors cannot be opened.
    """

    def __new__(
        cls,
        shard: Shard,
        *,
        on_rare: Callable[[list[tuple[int, int, int, int, int, bytes]]], None],
        on_batch: Callable[[], None],
        again: Callable[[Callable[[], None]], object],
    ) -> Reactor: ...
    @property
    def shard(self) -> Shard:
        """The shard whose sockets these are."""
        ...

    def fileno(self) -> int:
        """Give the inner epoll's descriptor, to be watched for reading."""
        ...

    def now_ns(self) -> int:
        """Read the clock that the shard's times are on (CLOCK_MONOTONIC)."""
        ...

    def add_listener(self, fd: int) -> int:
        """Accept on a non-blocking listening socket (which stays the caller's); returns its number, 0 to 63."""
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

    def close(self) -> None:
        """Close all sockets and descriptors at once."""
        ...

    def peer(self, handle: int) -> str:
        """Give the peer's address; empty when the connection or its socket is gone."""
        ...

    def figures(self) -> dict[str, int]:
        """Give counts of rounds, system calls and sockets, and the longest time one round held the loop."""
        ...

    def forget_longest_hold(self) -> None:
        """Start measuring the longest hold anew."""
        ...
