"""The recorded program for the store alone: opens a data directory as a broker does, and submits a history to it.

    python -P -m tests.powercut.write_store FOLDER LOG SEED TICKETS UNTIL MAP_BYTES FAULT

It goes on where the store is, up to ticket UNTIL of a history of TICKETS, and puts into the log what it asks
(``asked N``) and what is promised (``promised N``): by an answer, or by what it finds, since a broker shows that to its
clients. FAULT is a name of ``faults.STORE``, or ``none``.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from broker.ports import Store
from tests.powercut import faults
from tests.powercut.history import USED_TABLES, History, digest_of
from tests.powercut.journal import Marks
from tests.powercut.start import claimed, open_store


class Writer:
    """Submits tickets in bursts, and marks what it asked and what it was promised."""

    def __init__(self, store: Store, history: History, marks: Marks) -> None:
        self._store = store
        self._history = history
        self._marks = marks
        self._chance = random.Random(len(history.tickets))

    async def run(self, until: int) -> None:
        """Submit all up to a ticket that is not there yet."""
        found = self._history.find(digest_of({table: self._store.load(table) for table in USED_TABLES}))
        assert found is not None, "the store holds something that was never asked for"
        self._marks.put(f"promised {found}")
        number = found
        while number < until:
            burst = range(number + 1, min(number + self._chance.choice((1, 1, 2, 5)), until) + 1)
            await asyncio.gather(*(self._submit(one) for one in burst))
            number = burst[-1]

    def _submit(self, number: int) -> asyncio.Future[None]:
        settled = asyncio.get_running_loop().create_future()

        def answered(ticket: int, error: BaseException | None) -> None:
            assert error is None, error
            self._marks.put(f"promised {ticket}")
            settled.set_result(None)

        self._marks.put(f"asked {number}")
        self._store.submit(number, self._history.tickets[number - 1], answered)
        return settled


async def write(folder: Path, marks: Marks, history: History, until: int, map_bytes: int, fault: str) -> None:
    """Be a broker without clients, once."""
    with claimed(folder) as (data_dir, secret):
        marks.put(f"secret {secret.hex()}")
        store = faults.store_of(fault, open_store(data_dir, map_bytes))
        await Writer(store, history, marks).run(until)
        await store.close()


def main() -> None:
    """Read the command line."""
    folder, log, seed, tickets, until, map_bytes, fault = sys.argv[1:]
    history = History(int(seed), int(tickets))
    with faults.planted(fault):
        asyncio.run(write(Path(folder), Marks(Path(log)), history, int(until), int(map_bytes), fault))


if __name__ == "__main__":
    main()
