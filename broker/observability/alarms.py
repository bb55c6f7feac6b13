"""Alarms: what is wrong with the broker as a whole, now; each change is told once, and readiness tells of it.

Here belongs who is told. Not here: finding out that something is wrong (the store, the core).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from broker.ports import Observer

log = logging.getLogger(__name__)


class Alarms:
    """Alarms by name; belongs to the thread of the broker's loop. ``observer`` hears ``alarm`` and ``alarm_over``."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._reasons: dict[str, str] = {}
        self._ready: set[str] = set()
        self._raised = 0

    def set(self, name: str, reason: str, *, ready: bool = False) -> None:
        """Raise an alarm, for a reason in words, or end it with an empty one; the same again is no news.

        With ``ready`` the broker can do all its work nevertheless: somebody has to know, that is all.
        """
        if reason == self._reasons.get(name, ""):
            return
        if reason:
            self._raised += name not in self._reasons
            self._reasons[name] = reason
            (self._ready.add if ready else self._ready.discard)(name)
            log.warning("alarm", extra={"fields": {"alarm": name, "reason": reason}})
            self._observer.event("alarm", alarm=name, reason=reason)
        else:
            del self._reasons[name]
            log.warning("alarm over", extra={"fields": {"alarm": name}})
            self._observer.event("alarm_over", alarm=name)

    def reasons(self) -> Sequence[str]:
        """Tell what keeps the broker from its work now, as ``name: reason``; empty while nothing does."""
        return [f"{name}: {reason}" for name, reason in self._reasons.items() if name not in self._ready]

    def warnings(self) -> Sequence[str]:
        """Tell what somebody has to know now, though the broker does its work, as ``name: reason``."""
        return [f"{name}: {reason}" for name, reason in self._reasons.items() if name in self._ready]

    def figures(self) -> dict[str, int]:
        """Tell how many there are now, and how many there were since the start."""
        return {"now": len(self._reasons), "raised": self._raised}
