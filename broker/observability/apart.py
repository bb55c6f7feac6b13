"""Somebody else's observer, in a thread of its own: whatever it does, the broker goes on.

Here belong the thread, its bounded queue and what is done about an observer that raises. Not here: any event.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Mapping

from broker.ports import Observer

log = logging.getLogger(__name__)

EVENTS_MAXIMUM = 10_000
STOP_S = 1.0
STOP_STEP_S = 0.005
COMPLAIN_EVERY_S = 60.0

_Event = tuple[str, Mapping[str, object]]


class ObserverApart:
    """Implements ``ports.Observer``: passes events on in their order; what does not fit into the queue is counted.

    One that is slow or hangs loses events, one that raises is told of in the log once a minute; nobody else notices.
    """

    def __init__(self, observer: Observer, maximum: int = EVENTS_MAXIMUM) -> None:
        self._observer = observer
        self._queue: queue.Queue[_Event | None] = queue.Queue(maximum)
        self._stopping = False
        self._complained_at = -COMPLAIN_EVERY_S
        self.lost = 0
        self._thread = threading.Thread(target=self._work, name="observer", daemon=True)
        self._thread.start()

    def event(self, name: str, **fields: object) -> None:
        """Queue one event; never waits."""
        if not self._put((name, fields)):
            self.lost += 1

    async def close(self) -> None:
        """Let the observer hear what is queued, for a second; one that hangs is left behind with its thread."""
        told = False
        until = time.monotonic() + STOP_S
        while self._thread.is_alive():
            told = told or self._put(None)
            if time.monotonic() > until:
                self._stopping = True
                log.error("the observer did not come to its end; its thread is left behind")
                return
            await asyncio.sleep(STOP_STEP_S)

    def _put(self, event: _Event | None) -> bool:
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        while not self._stopping and (event := self._queue.get()) is not None:
            name, fields = event
            try:
                self._observer.event(name, **fields)
            except Exception:
                level = logging.ERROR if self._is_news() else logging.DEBUG
                log.log(level, "the observer failed on %r; told once a minute", name, exc_info=True)

    def _is_news(self) -> bool:
        now = time.monotonic()
        if now - self._complained_at < COMPLAIN_EVERY_S:
            return False
        self._complained_at = now
        return True
