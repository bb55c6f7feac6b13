"""One process of the broker, from reading the store to its death: shard, engine and journal, as the runtime wires them.

Here belongs wiring. Not here: anything that decides.
"""

from __future__ import annotations

from typing import Any

from broker._core.shard import Shard
from broker.engine import Engine
from broker.ports import ConnectRequest, Durability, PlainChange, Store
from broker.reasons import DropReason
from broker.storage.journal import JournalWriter
from tests.simulator.facts import Broken
from tests.simulator.moment import Moment
from tests.support.core import SECRET, Silent, credential

ACCOUNT = 1
EXCUSES = (
    DropReason.QUEUE_FULL, DropReason.PACKET_TOO_LARGE, DropReason.DEVICE_BUDGET_FULL, DropReason.ACCOUNT_BUDGET_FULL,
    DropReason.BROKER_BUDGET_FULL,
)  # fmt: skip
CROWDED = 3  # deliveries that wait on disk: few, so that queues are runs nearly always
SMALL_CHUNKS = 3  # on disk, and they are made one where they stay
FOLD_BYTES = 500  # of ops: small, so that flow records are written all the time
GRACE_S = 30
HASH_SEED = 0x1234_5678_9ABC_DEF0


class Sealing:
    """The core as the journal's writer sees it, noting when each batch was closed."""

    def __init__(self, shard: Shard, moment: Moment) -> None:
        self._shard = shard
        self._moment = moment
        self.sealed: tuple[int, int] | None = None  # the batch under way: its ticket, and when it was closed
        self.set_refusing = shard.set_refusing
        self.newest_ticket = shard.newest_ticket
        self.open_batch_bytes = shard.open_batch_bytes
        self.wanted = shard.wanted
        self.unread = shard.unread
        self.settled_ticket = shard.settled_ticket

    def seal(self) -> tuple[int, list[PlainChange]] | None:
        """Close the open batch."""
        found = self._shard.seal()
        if found is None:
            self._moment.committed_t = self._moment.t
        else:
            self.sealed = found[0], self._moment.t
        return found

    def loaded(self, key: bytes, chunk: bytes | None) -> int:
        """Give a chunk that was wanted."""
        lost = self._shard.loaded(key, chunk)
        if lost and self._moment.trusted:
            raise Broken("on disk", f"chunk {key.hex()} is wanted, and {lost} deliveries are not in it")
        return lost

    def settle(self, ticket: int) -> None:
        """The sealed batch is on disk."""
        self._shard.settle(ticket)
        if self.sealed is not None and self.sealed[0] == ticket:
            self._moment.committed_t = self.sealed[1]
            self.sealed = None


class Life:
    """``turn`` is one round of the reactor without its sockets."""

    def __init__(self, store: Store, limits: dict[str, int], moment: Moment) -> None:
        self.store = store
        self.moment = moment
        self.shard = Shard(limits, secret=SECRET, hash_seed=HASH_SEED, now_ns=moment.now_ns)
        self.shard.set_wall(moment.now_ns, moment.wall_ns)
        self.engine = Engine(self.shard, self._ask, lambda _handle: "somewhere", Silent())
        self.answered: set[int] = set()  # connections that had a rare packet answered in the last turn
        moment.refusing = False
        self.journal: JournalWriter

    def restore(self) -> None:
        """Take what the store has, and write from then on."""
        shard, scan = self.shard, self.store.scan
        wrong = shard.restore(
            scan, self.moment.now_ns, self.moment.wall_ns, known=lambda _: True, restart_grace_s=GRACE_S
        )
        shard.set_fold(FOLD_BYTES)
        shard.set_crowded(CROWDED)
        shard.set_merging(SMALL_CHUNKS, 2)
        if wrong and self.moment.trusted:
            raise Broken("on disk", f"records that are none: {wrong}")
        self.journal = JournalWriter(
            Sealing(self.shard, self.moment), self.store, monotonic_ns=lambda: self.moment.now_ns,
            settled=lambda: None, refusing=self._refuse,
        )  # fmt: skip

    def _ask(self, handle: int, request: ConnectRequest) -> None:
        raise AssertionError(f"nobody is unknown here: {request}")

    def _refuse(self, reason: str) -> None:
        self.moment.refusing = bool(reason)
        self.moment.refused_t = self.moment.t

    def grant(self, number: int, user_name: str, level: str) -> None:
        """Let a client in under a user name."""
        self.shard.put_grant(
            credential(user_name, b"pw"), ACCOUNT, number + 1, f"device-{number}", f"device-{number}", ("#",), ("#",),
            durability=Durability(level).level,
        )  # fmt: skip

    def drops(self, number: int) -> int:
        """How many deliveries of QoS 1 or 2 to a client were dropped for a reason."""
        counted = self.shard.drops(ACCOUNT, number + 1)
        return sum(counted[reason] for reason in EXCUSES)

    @property
    def is_written(self) -> bool:
        """Whether everything that was recorded is on disk."""
        return self.shard.newest_ticket() <= self.shard.settled_ticket()

    def turn(self, deliveries: int, *, write: bool) -> bool:
        """Run one slice; tells whether more is due. ``write``: the round ends with the journal's batch being closed."""
        shard = self.shard
        more = shard.run(self.moment.now_ns, deliveries)
        if not more:
            self.moment.ran_ns = self.moment.now_ns
            self.moment.ran_t = self.moment.t
        rare: Any = shard.take_rare()
        self.answered = {one[1] for one in rare}
        if rare:
            self.engine.answer(rare)
        if write:
            self.journal.write()
        self.journal.read_wanted()
        return more or bool(rare)

    def clock(self) -> None:
        """Time has passed, or was set."""
        self.shard.set_wall(self.moment.now_ns, self.moment.wall_ns)
        self.journal.look()
