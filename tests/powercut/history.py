"""What the store is asked to keep: tickets of changes by seed, and what must be there after each of them.

Here belongs the invented work, like that of the core: chunks that come and go, blobs, small records under scattered
keys, deletions. Not here: who submits it (``write_store``), or what is found after a cut (``check``).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from broker.storage.tables import DEVICES, FLOWS, MESSAGES, OPS, RETAINED, SESSIONS, SUBSCRIPTIONS, long_key

OneChange = tuple[str, bytes, bytes | None]

USED_TABLES = (DEVICES, FLOWS, MESSAGES, OPS, RETAINED, SESSIONS, SUBSCRIPTIONS)


def digest(table: str, key: bytes, value: bytes) -> int:
    """One entry's share of a state's digest; a state's is the exclusive or of those of its entries."""
    whole = blake2b(b"\0".join((table.encode(), key.hex().encode(), value)), digest_size=16)
    return int.from_bytes(whole.digest(), "little")


def digest_of(tables: dict[str, Iterable[tuple[bytes, bytes]]]) -> int:
    """Digest of what was found in some tables."""
    whole = 0
    for table, entries in tables.items():
        for key, value in entries:
            whole ^= digest(table, key, value)
    return whole


class History:
    """``tickets[n]`` are the changes of ticket n + 1; ``digests[n]`` is the state after the first n tickets."""

    def __init__(self, seed: int, tickets: int) -> None:
        self._chance = random.Random(seed)
        self._present: dict[tuple[str, bytes], bytes] = {}
        self.tickets: list[Sequence[OneChange]] = []
        self.digests = [0]
        self._where: dict[int, int] = {}
        for number in range(1, tickets + 1):
            self.tickets.append(self._ticket(number))
            self.digests.append(self._after(self.tickets[-1]))
        for number, one in enumerate(self.digests):
            self._where[one] = number

    def find(self, found: int) -> int | None:
        """After how many tickets the state has this digest; None where it never has."""
        return self._where.get(found)

    def _after(self, changes: Sequence[OneChange]) -> int:
        whole = self.digests[-1]
        for table, key, value in changes:
            before = self._present.pop((table, key), None)
            if before is not None:
                whole ^= digest(table, key, before)
            if value is not None:
                self._present[table, key] = value
                whole ^= digest(table, key, value)
        return whole

    def _ticket(self, number: int) -> list[OneChange]:
        chance = self._chance
        changes: list[OneChange] = [(OPS, long_key(number), self._bytes(24, 600))]
        if chance.random() < 0.7:
            changes.append((MESSAGES, long_key(number * 64), self._bytes(60, chance.choice((300, 3000, 20_000)))))
        for _ in range(chance.choice((0, 1, 3, 12))):
            table = chance.choice((DEVICES, FLOWS, RETAINED, SESSIONS, SUBSCRIPTIONS))
            changes.append((table, chance.randbytes(chance.choice((8, 24))), self._bytes(16, 400)))
        present = sorted(self._present)
        rewritten = chance.sample(present, min(len(present), chance.choice((0, 1, 4))))
        removed = chance.sample(present, min(len(present), chance.choice((0, 0, 2, 8, 16))))
        changes += [(table, key, self._bytes(1, 500)) for table, key in rewritten if table != MESSAGES]
        changes += [(table, key, None) for table, key in removed]
        return changes

    def _bytes(self, least: int, most: int) -> bytes:
        return self._chance.randbytes(self._chance.randint(least, most))
