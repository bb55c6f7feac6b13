"""How many messages a second each account sends and receives, over the last seconds.

Here belongs the window. Not here: counting, and who takes the counts (``counting``). Memory is that of the accounts
that did something within it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

WINDOW_S = 5.0


class Rates:
    """Averages over ``WINDOW_S``; times are monotonic seconds."""

    def __init__(self) -> None:
        self._taken: deque[tuple[float, dict[int, tuple[int, int]]]] = deque()  # oldest first

    def note(self, sums: Mapping[int, tuple[int, int, int, int]], now_s: float) -> None:
        """Take what was counted until now, by account: messages and bytes in, the same out."""
        self._forget(now_s)
        if not self._taken or self._taken[-1][0] != now_s:
            self._taken.append((now_s, {}))
        of_account = self._taken[-1][1]
        for account_id, (messages_in, _, messages_out, _) in sums.items():
            before = of_account.get(account_id, (0, 0))
            of_account[account_id] = before[0] + messages_in, before[1] + messages_out

    def of(self, account_id: int, now_s: float) -> tuple[float, float]:
        """Messages a second from and to an account."""
        self._forget(now_s)
        found = [one[account_id] for _, one in self._taken if account_id in one]
        return sum(one for one, _ in found) / WINDOW_S, sum(one for _, one in found) / WINDOW_S

    def _forget(self, now_s: float) -> None:
        while self._taken and self._taken[0][0] <= now_s - WINDOW_S:
            self._taken.popleft()
