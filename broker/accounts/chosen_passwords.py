"""Passwords that people have chosen, hashed and compared off the loop, and no more of them than can be borne.

Here belong the one worker, who waits for it, and what it has found out. Not here: the hash
(``policy.chosen_passwords``), and whose password it is.

Of the processor the comparisons take half of one core at most, whoever asks for them: each is followed by a rest as
long as itself. A caller by whom somebody failed lately has one comparison at a time, any other a few; who comes when
too many wait is told to come again.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from broker.policy.chosen_passwords import hash_chosen, is_password_of

ResultT = TypeVar("ResultT")

WAITING_MAXIMUM = 256
WAITING_OF_ONE = 16  # of one caller by whom nobody failed lately
REMEMBERED_MAXIMUM = 100_000


@dataclass(frozen=True, slots=True)
class Proof:
    """A comparison that is asked for: ``credential`` is the digest of user name and password, ``text`` the hash."""

    caller: str
    credential: bytes
    text: str
    password: bytes


class TooMany(Exception):
    """So many wait for a comparison already: whoever asks has to come again."""


class ChosenPasswords:
    """One worker, a thread that is started when it is needed; what was right once is known again by its digest.

    The digest is keyed, and in memory alone.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._rested_at = 0.0
        self._worker: ThreadPoolExecutor | None = None
        self._turn = asyncio.Lock()
        self._waiting: dict[str, int] = {}  # by caller
        self._right: OrderedDict[tuple[bytes, str], None] = OrderedDict()

    async def hashed(self, passwords: Sequence[str]) -> list[str]:
        """Give the hashes of passwords, in their order. Raises ``Unavailable`` where OpenSSL has no argon2id."""
        return [await self._work(hash_chosen, one.encode()) for one in passwords]

    async def is_right(self, proof: Proof, *, failed_lately: bool) -> bool:
        """Tell whether a password has a hash. Raises ``TooMany``, and ``Unavailable``."""
        known = proof.credential, proof.text
        if known in self._right:
            self._right.move_to_end(known)
            return True
        waiting = self._waiting.get(proof.caller, 0)
        if waiting >= (1 if failed_lately else WAITING_OF_ONE) or sum(self._waiting.values()) >= WAITING_MAXIMUM:
            raise TooMany
        self._waiting[proof.caller] = waiting + 1
        try:
            found = await self._compared(proof)
        finally:
            self._leave(proof.caller)
        if found:
            self._right[known] = None
            if len(self._right) > REMEMBERED_MAXIMUM:
                self._right.popitem(last=False)
        return found

    def close(self) -> None:
        """End the worker; what it is at is not waited for."""
        if self._worker is not None:
            self._worker.shutdown(wait=False, cancel_futures=True)

    async def _compared(self, proof: Proof) -> bool:
        async with self._turn:
            rest_s = self._rested_at - self._monotonic()
            if rest_s > 0:
                await self._sleep(rest_s)
            begun = self._monotonic()
            found = await self._work(is_password_of, proof.text, proof.password)
            ended = self._monotonic()
            self._rested_at = ended + (ended - begun)
            return found

    async def _work(self, work: Callable[..., ResultT], *arguments: object) -> ResultT:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="chosen passwords")
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    def _leave(self, caller: str) -> None:
        left = self._waiting[caller] - 1
        if left:
            self._waiting[caller] = left
        else:
            del self._waiting[caller]
