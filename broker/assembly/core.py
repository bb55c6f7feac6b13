"""The native core on its loop: the shard, the reactor that feeds it, the journal that writes for it.

Here belongs who is called for what the core leaves to Python. Not here: the answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from broker._core.reactor import Reactor
from broker._core.shard import Shard
from broker.admin.clock import Clock
from broker.assembly.chores import every, keep_doing
from broker.config import BrokerConfig
from broker.engine.core import RarePacket
from broker.net.entrances import OPEN_PRINCIPAL_ID
from broker.net.gateway import core_limits
from broker.observability.alarms import Alarms
from broker.ports import Store
from broker.reasons import ReasonCode
from broker.storage.journal import JournalWriter

log = logging.getLogger(__name__)

STORE = "store"
WRITE_S = 0.2
NS_PER_S = 1_000_000_000

Answer = Callable[[RarePacket], None]


class Core:
    """One shard, its reactor and its journal.

    ``on_local`` is called with the handles of local connections that have output. Nothing rare is answered before
    ``answers`` and ``answer`` say by whom.
    """

    def __init__(
        self,
        config: BrokerConfig,
        clock: Clock,
        store: Store,
        secret: bytes,
        alarms: Alarms,
        on_local: Callable[[set[int]], None],
    ) -> None:
        self._clock = clock
        self.shard = Shard(
            core_limits(config.capabilities),
            secret=secret,
            hash_seed=hash_seed(secret),
            now_ns=clock.monotonic_ns(),
        )
        self.reactor = Reactor(
            self.shard,
            on_rare=self._on_rare,
            on_batch=self._on_batch,
            again=asyncio.get_running_loop().call_soon,
            on_local=on_local,
        )
        self.set_wall()
        self.journal = JournalWriter(
            self.shard,
            store,
            monotonic_ns=clock.monotonic_ns,
            settled=self.reactor.soon,
            refusing=lambda reason: alarms.set(STORE, reason),
        )
        self.answer: Answer = _not_yet
        self.answers: dict[int, Answer] = {}

    def leave_to(self, stack: AsyncExitStack) -> None:
        """Let the stack close what is open here."""
        stack.callback(self.reactor.close)
        stack.push_async_callback(self.journal.close)

    def restore(self, store: Store, known: Callable[[int], bool], restart_grace_s: float) -> None:
        """Bring back what is on disk, before anybody comes; what cannot be read is left out, and said."""
        started = self._clock.monotonic_ns()
        wrong = self.shard.restore(
            store.scan,
            started,
            self._clock.wall_ns(),
            known=lambda one: one == OPEN_PRINCIPAL_ID or known(one),
            restart_grace_s=restart_grace_s,
        )
        for table, count in wrong.items():
            log.error("%d records of table %s are damaged and were left out", count, table)
        took_s = (self._clock.monotonic_ns() - started) / NS_PER_S
        log.info("restored", extra={"fields": {**self.shard.journal(), "took_s": round(took_s, 3)}})

    def start(self, stack: AsyncExitStack) -> None:
        """Read from sockets from now on."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.reactor.fileno(), self.reactor.on_ready)
        stack.callback(loop.remove_reader, self.reactor.fileno())

    def give_way(self) -> None:
        """Let the core look at its sockets in the middle of other work; what goes wrong there is not that work's."""
        try:
            self.reactor.glance()
        except Exception:
            log.exception("a round of the core failed")

    def has_traffic(self) -> bool:
        """Tell whether a message has come in the last second."""
        return self.reactor.has_traffic

    def keep_writing(self, stack: AsyncExitStack) -> None:
        """Write what nobody waits for, look at the disk, and bring what is on it to those who wait for it."""
        keep_doing(stack, "journal", every(WRITE_S, self._write, "the journal could not be written"))

    async def _write(self) -> None:
        self.set_wall()
        self.journal.write()
        self.journal.look()

    def set_wall(self) -> None:
        """Tell the core what the wall clock shows."""
        self.shard.set_wall(self._clock.monotonic_ns(), self._clock.wall_ns())

    def _on_batch(self) -> None:
        self.journal.write()
        self.journal.read_wanted()

    def _on_rare(self, rare: list[RarePacket]) -> None:
        for one in rare:
            try:
                self.answers.get(one[0], self.answer)(one)
            except Exception:  # one connection's trouble is not the others'
                log.exception("a rare packet could not be answered")
                self.shard.fail_connection(one[1], ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)


def _not_yet(_one: RarePacket) -> None:
    raise AssertionError("nobody reads from sockets before there is somebody who answers")


def hash_seed(secret: bytes) -> int:
    """Give the seed of hashes, some of which are on disk: the same at each start, and nobody else's."""
    return int.from_bytes(hashlib.blake2b(b"hash seed", key=secret, digest_size=8).digest(), "little")
