"""A store whose commits are pending until they are not, and which dies with its process.

A submit is *submitted* (in memory), then *committing* (with everything else that was submitted, one atomic
transaction), then *committed*; its answer follows. A crash keeps what was committed, and the transaction that was
committing may be there or not, whole in either case: that is what LMDB promises over a sync that is honest. A disk that
lies (``lying``) keeps a prefix of what it reported, or any subset, of the transactions since it last told the truth.
Pages torn or reordered inside one transaction are below this level: the power-cut test replays those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from broker.errors import StoreError
from broker.ports import (
    CommitCallback,
    EntriesCallback,
    HealthCallback,
    PlainChange,
    ReadCallback,
    StoreFigures,
    StoreHealth,
    StoreState,
    no_store_figures,
)
from broker.storage.tables import TABLES, check_change
from tests.simulator.chance import Chance

Tables = dict[str, dict[bytes, bytes]]
Changes = Sequence[PlainChange]


class Platter:
    """What outlives the process: the committed tables, and what a lying disk has only said it kept."""

    def __init__(self) -> None:
        self.tables: Tables = {name: {} for name in TABLES}
        self.unsynced: list[list[Changes]] = []
        self.base: Tables | None = None  # the tables before `unsynced`, of a disk that lies
        self.commits = 0

    def commit(self, group: list[Changes]) -> None:
        """Make one transaction of some submits."""
        self.commits += 1
        if self.base is not None:
            self.unsynced.append(group)
        self._apply(self.tables, group)

    @staticmethod
    def _apply(tables: Tables, group: list[Changes]) -> None:
        for changes in group:
            for table, key, value in changes:
                if value is None:
                    tables[table].pop(key, None)
                else:
                    tables[table][key] = value

    def lie(self) -> None:
        """Report commits from now on without keeping them."""
        self.base = {name: dict(entries) for name, entries in self.tables.items()}
        self.unsynced = []

    def sync(self) -> None:
        """Keep everything that was reported."""
        if self.base is not None:
            self.lie()

    def lose(self, chance: Chance, *, subset: bool) -> int:
        """Lose power: a prefix, or any subset, of what was not synced is there. Returns how much is not."""
        if self.base is None:
            return 0
        kept = self.unsynced[: chance.below(len(self.unsynced) + 1)]
        if subset:
            kept = [group for group in self.unsynced if chance.below(2)]
        lost = len(self.unsynced) - len(kept)
        self.tables = self.base
        for group in kept:
            self._apply(self.tables, group)
        self.lie()
        return lost


class Disk:
    """Implements ``ports.Store`` for one process of the broker; the world moves it with ``step``."""

    def __init__(self, platter: Platter) -> None:
        self.platter = platter
        self.submitted: list[tuple[int, Changes, CommitCallback]] = []
        self.committing: list[tuple[int, Changes, CommitCallback]] = []
        self.unanswered: list[tuple[int, CommitCallback, BaseException | None]] = []
        self.reads: list[Callable[[], None]] = []
        self.health = StoreHealth()
        self.watchers: list[HealthCallback] = []

    # ------------------------------------------------------------ the port

    def load(self, table: str) -> list[tuple[bytes, bytes]]:
        """All committed entries of a table in key order."""
        return sorted(self.platter.tables[table].items())

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """The same, one by one."""
        return iter(self.load(table))

    def read(self, table: str, keys: Sequence[bytes], on_read: ReadCallback) -> None:
        """Read some entries, later."""
        wanted = list(keys)
        self.reads.append(lambda: on_read([self.platter.tables[table].get(key) for key in wanted], None))

    def read_range(self, table: str, first: bytes, end: bytes, at_most: int, on_read: EntriesCallback) -> None:
        """Read some neighbours, later."""
        self.reads.append(
            lambda: on_read([entry for entry in self.load(table) if first <= entry[0] < end][:at_most], None)
        )

    def submit(self, ticket: int, changes: Changes, on_committed: CommitCallback) -> None:
        """Take changes for the next commit."""
        for table, key, _ in changes:
            if wrong := check_change(table, key):
                raise StoreError(wrong)
        self.submitted.append((ticket, changes, on_committed))

    def watch(self, callback: HealthCallback) -> None:
        """Call back at every change of health."""
        self.watchers.append(callback)

    def figures(self) -> StoreFigures:
        """Tell what was done."""
        return {**no_store_figures(), "commits": self.platter.commits, "waiting": self.waiting}

    async def close(self) -> None:
        """Commit and answer everything."""
        while self.waiting:
            self.step()

    # ------------------------------------------------------------ what the world does with it

    @property
    def waiting(self) -> int:
        """How many submits are not answered yet."""
        return len(self.submitted) + len(self.committing) + len(self.unanswered)

    def step(self) -> bool:
        """Do the next thing that is due; False when there is none."""
        if self.unanswered:
            self.answer()
        elif self.committing:
            self.end()
        elif self.submitted:
            self.begin()
        elif self.reads:
            self.serve()
        else:
            return False
        return True

    def begin(self) -> None:
        """Start a transaction with all that was submitted."""
        self.committing, self.submitted = self.submitted, []

    def end(self) -> None:
        """The transaction is committed, or has failed."""
        group, self.committing = self.committing, []
        error = StoreError(self.health.state) if self.health.state == "failed" else None
        if error is None:
            self.platter.commit([changes for _, changes, _ in group])
        self.unanswered += [(ticket, on_committed, error) for ticket, _, on_committed in group]

    def become(self, state: StoreState) -> None:
        """Change the disk's health; it can keep what it is given unless it has failed."""
        if state != self.health.state:
            self.health = StoreHealth(state, "" if state == "ok" else "as the run has it")
            for callback in self.watchers:
                callback(self.health)

    def answer(self) -> None:
        """Answer the oldest ticket."""
        ticket, on_committed, error = self.unanswered.pop(0)
        on_committed(ticket, error)

    def serve(self) -> None:
        """Answer the oldest read."""
        self.reads.pop(0)()

    def crash(self, chance: Chance) -> None:
        """Die: what was committing is there or not."""
        if self.committing and self.health.state != "failed" and chance.below(2):
            self.platter.commit([changes for _, changes, _ in self.committing])
