"""How many requests one caller may make: token buckets, with time as an argument.

Here belong the buckets and their figures. Not here: who the caller is, and the headers that tell the figures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from math import ceil

REQUESTS_PER_MINUTE = 1000
BURST_REQUESTS = 200
CAPACITY = REQUESTS_PER_MINUTE + BURST_REQUESTS
REFILL_PER_S = REQUESTS_PER_MINUTE / 60
CALLERS_MAXIMUM = 10_000


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left to a caller: whole requests now, and in how many seconds the bucket is full again."""

    allowed: bool
    remaining: int
    full_in_s: float
    retry_after_s: int


@dataclass(slots=True)
class _Bucket:
    """Tokens of one caller as they were at a moment."""

    tokens: float
    at: float


class Buckets:
    """One bucket for each caller; the one that asked least lately is forgotten, full again, when there are too many."""

    def __init__(self, maximum: int = CALLERS_MAXIMUM) -> None:
        self._maximum = maximum
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: Hashable, now: float) -> Budget:
        """Take one token, if there is one; ``now`` is monotonic seconds."""
        bucket = self._refilled(caller, now)
        allowed = bucket.tokens >= 1
        if allowed:
            bucket.tokens -= 1
        return self._budget(bucket, allowed)

    def look(self, caller: Hashable, now: float) -> Budget:
        """Tell a caller's budget without taking from it."""
        bucket = self._buckets.get(caller)
        tokens = CAPACITY if bucket is None else min(CAPACITY, bucket.tokens + (now - bucket.at) * REFILL_PER_S)
        return self._budget(_Bucket(tokens, now), allowed=True)

    def _refilled(self, caller: Hashable, now: float) -> _Bucket:
        bucket = self._buckets.get(caller)
        if bucket is None:
            if len(self._buckets) >= self._maximum:
                self._buckets.popitem(last=False)
            bucket = self._buckets[caller] = _Bucket(CAPACITY, now)
        self._buckets.move_to_end(caller)
        bucket.tokens = min(CAPACITY, bucket.tokens + (now - bucket.at) * REFILL_PER_S)
        bucket.at = now
        return bucket

    @staticmethod
    def _budget(bucket: _Bucket, allowed: bool) -> Budget:
        retry_after_s = 0 if allowed else max(1, ceil((1 - bucket.tokens) / REFILL_PER_S))
        return Budget(allowed, int(bucket.tokens), (CAPACITY - bucket.tokens) / REFILL_PER_S, retry_after_s)
