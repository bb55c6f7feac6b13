"""A core that is started on what a store holds, as the runtime starts one, without sockets.

Here belongs that start. Not here: what it is asked (``check_broker``).
"""

from __future__ import annotations

from collections.abc import Mapping

from broker._core.shard import Shard
from broker.assembly.core import hash_seed
from broker.engine import Engine
from broker.errors import StoreDamaged
from broker.ports import Store
from broker.storage.memory import MemoryStore
from broker.storage.tables import TABLES
from broker.wire import Connack
from tests.support.core import Client, Core

OPEN = 0
"""The principal of whoever comes through an open listener."""


class Again(Core):
    """A restarted core with one open listener; what it writes goes into memory. Raises ``StoreDamaged``."""

    def __init__(self, tables: Mapping[str, Mapping[bytes, bytes]], secret: bytes, wall_ns: int) -> None:
        super().__init__()
        self.wall_ns = wall_ns
        self.shard = Shard(self.limits, secret=secret, hash_seed=hash_seed(secret), now_ns=self.now_ns)
        self.shard.set_wall(self.now_ns, wall_ns)
        self.store = MemoryStore(tables)
        self.engine = Engine(self.shard, self._ask, lambda _handle: "somewhere", self.observer)
        self._restore()
        self.open_listener()

    def _restore(self) -> None:
        self.left_out = self.shard.restore(self.store.scan, self.now_ns, self.wall_ns, known=_is_known)
        if self.left_out:
            raise StoreDamaged(f"records are left out: {self.left_out}")

    def answer_to_connect(self, client: Client) -> Connack:
        """Its CONNACK, which lets it in."""
        answer: Connack = client.pick(Connack)
        assert answer.reason_code == 0, answer
        return answer


def _is_known(principal_id: int) -> bool:
    return principal_id == OPEN


def started(store: Store, secret: bytes, wall_ns: int) -> Again:
    """Start a core on all that is in a store."""
    return Again({table: dict(store.load(table)) for table in TABLES}, secret, wall_ns)
