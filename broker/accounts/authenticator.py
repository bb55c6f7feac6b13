"""The answer to every CONNECT whose credential the core's grant table does not hold.

Here belong the judgement of such credentials and the slowing of those who guess. Not here: rights, and the table of
known credentials itself. A user name is never locked, since device ids are public: only the failing address waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from broker.accounts.directory import Directory
from broker.ports import ConnectRequest, Grant, Refusal
from broker.reasons import ReasonCode

FREE_FAILURES = 3
FORGET_AFTER_S = 60.0
FIRST_DELAY_S = 0.125
MAXIMUM_DELAY_S = 1.0
REMEMBERED_MAXIMUM = 10_000

REFUSED = Refusal(ReasonCode.NOT_AUTHORIZED)  # contract, section 3: CONNACK 5 in 3.1.1, 0x87 in 5.0


@dataclass(slots=True)
class _Failures:
    """Failed logins of one (address, user name) without a pause of a minute."""

    count: int
    last_at: float


class FailureTable:
    """How often each (address, user name) failed lately; the least recent is forgotten when the table is full.

    What is remembered of a pair is a digest: a stranger chooses how long a user name is.
    """

    def __init__(self, maximum: int = REMEMBERED_MAXIMUM) -> None:
        self._maximum = maximum
        self._failures: OrderedDict[bytes, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def delay_s(self, address: str, user_name: str, now: float) -> float:
        """Count one failure; returns how long its answer waits: 0 for the first three, then up to a second."""
        key = _digest(address, user_name)
        failures = self._failures.get(key)
        if failures is None or now - failures.last_at > FORGET_AFTER_S:
            failures = self._failures[key] = _Failures(0, now)
        failures.count += 1
        failures.last_at = now
        self._failures.move_to_end(key)
        if len(self._failures) > self._maximum:
            self._failures.popitem(last=False)
        beyond = failures.count - FREE_FAILURES
        return min(FIRST_DELAY_S * 2 ** min(beyond - 1, 10), MAXIMUM_DELAY_S) if beyond > 0 else 0.0

    def forget(self, address: str, user_name: str) -> None:
        """Forget the failures of one that has proven itself."""
        self._failures.pop(_digest(address, user_name), None)


def _digest(address: str, user_name: str) -> bytes:
    return hashlib.blake2b(f"{address} {user_name}".encode(), digest_size=16).digest()  # no address has a blank


class DirectoryAuthenticator:
    """Implements ``ports.Authenticator`` over the directory; ``monotonic`` and ``sleep`` are its only time."""

    def __init__(
        self,
        directory: Directory,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._sleep = sleep
        self._failures = FailureTable()

    async def authenticate(self, request: ConnectRequest) -> Grant | Refusal:
        """Judge one CONNECT; a refusal waits up to a second when the same one failed often."""
        user_name = request.user_name
        if user_name is None or request.password is None:
            return REFUSED
        grant = self._directory.grant_for(user_name, request.password)
        if grant is not None:
            self._failures.forget(request.address, user_name)
            return grant
        now = self._monotonic()
        device = self._directory.devices.with_user_name(user_name)
        if device is not None:
            self._directory.devices.note_refused(device.device_number, now)
        delay_s = self._failures.delay_s(request.address, user_name, now)
        if delay_s > 0:
            await self._sleep(delay_s)
        return REFUSED
