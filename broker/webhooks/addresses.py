"""Which addresses the names of endpoints have: looked up in threads, and judged.

Here belongs the look. Not here: the rule (``accounts.endpoints``), and connecting (``sending``), which uses the very
address that was judged: a name that means something else a moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from broker.accounts.endpoints import Network, may_be_told

Lookup = Callable[[str, int], Sequence[str]]

LOOKUPS_MAXIMUM = 32
ACCOUNT_LOOKUPS_MAXIMUM = 2


class NoAddress(Exception):
    """A name means no address to which anything may be sent; the message is for the account that gave it."""


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


class Resolver:
    """Looks names up in threads of its own, two at a time for each account: who is slow is slow for himself."""

    def __init__(self, allowed: Sequence[Network], lookup: Lookup = _look_up) -> None:
        self._allowed = allowed
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(LOOKUPS_MAXIMUM, thread_name_prefix="webhook-names")
        self._under_way: Counter[int] = Counter()  # by account; also those for which nobody waits any more

    async def find(self, account_id: int, host: str, port: int) -> str:
        """Give an address of a host to which may be sent. Raises ``NoAddress``."""
        try:
            literal = ip_address(host)
        except ValueError:
            return self._judged(await self._addresses(account_id, host, port))
        return self._judged([str(literal)])

    def close(self) -> None:
        """Wait for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, account_id: int, host: str, port: int) -> Sequence[str]:
        if self._under_way[account_id] >= ACCOUNT_LOOKUPS_MAXIMUM:
            raise NoAddress("looking up names of this account's endpoints takes too long")
        self._under_way[account_id] += 1
        looking = asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, host, port)
        looking.add_done_callback(lambda done: self._over(account_id, done))
        try:
            return await asyncio.shield(looking)
        except (OSError, UnicodeError) as error:
            raise NoAddress("its name is not known") from error

    def _over(self, account_id: int, done: asyncio.Future[Sequence[str]]) -> None:
        self._under_way[account_id] -= 1
        if not self._under_way[account_id]:
            del self._under_way[account_id]
        if not done.cancelled():
            done.exception()  # whoever waited has been told

    def _judged(self, found: Sequence[str]) -> str:
        for text in found:
            if may_be_told(ip_address(text), self._allowed):
                return text
        raise NoAddress("its address is not a public one")
