"""How many connections there are over HTTP: in all, and from each address.

Here belongs the count and its limits. Not here: accepting (``http``, ``https``), and requests (``api`` limits those).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from broker.doors import network_of
from broker.net.forwarded import Network, speaks_for_others

CONNECTIONS_MAXIMUM = 5000
CONNECTIONS_PER_ADDRESS_MAXIMUM = 1000


class Crowd:
    """Counts connections of all doors together; of IPv6 a /64 is one address.

    A trusted proxy speaks for many: the limit of one address is not its own.
    """

    def __init__(
        self,
        maximum: int = CONNECTIONS_MAXIMUM,
        per_address_maximum: int = CONNECTIONS_PER_ADDRESS_MAXIMUM,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self._maximum = maximum
        self._per_address_maximum = per_address_maximum
        self._trusted = trusted_proxies
        self._inside = 0
        self._by_network: Counter[str] = Counter()  # none at 0 is kept

    @property
    def inside(self) -> int:
        """How many there are now."""
        return self._inside

    @property
    def room(self) -> int:
        """How many more may come, from wherever."""
        return self._maximum - self._inside

    def takes(self, address: str) -> bool:
        """Tell whether one more from this address has room."""
        if self.room <= 0:
            return False
        if self._by_network.get(network_of(address), 0) < self._per_address_maximum:
            return True
        return speaks_for_others(address, self._trusted)

    def enter(self, address: str) -> bool:
        """Count one more, if it has room; each that is let in has to ``leave``."""
        if not self.takes(address):
            return False
        self._inside += 1
        self._by_network[network_of(address)] += 1
        return True

    def leave(self, address: str) -> None:
        """Forget one that was let in."""
        network = network_of(address)
        self._inside -= 1
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]
