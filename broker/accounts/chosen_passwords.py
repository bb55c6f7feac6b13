"""Passwords that people have chosen, hashed and compared off the loop, and no more of them than can be borne.

Here belong the one worker, who waits for it, and what it has found out. Not here: the hash
(``policy.chosen_passwords``), and whose password it is.

Of the processor the comparisons take half of one core at most, whoever asks for them: each is followed by a rest as
long as itself. A caller by whom somebody failed lately has one comparison at a time, any other a few. All of the
former together have half of the places, and one of them at a time waits beside the others, whom they cannot keep out
therefore. Who comes when too many wait, and who has waited for too long, is told to come again.
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
PATIENCE_S = 3.0  # of both queues; CONNECT has to be answered in time
REMEMBERED_MAXIMUM = 100_000


@dataclass(frozen=True, slots=True)
class Proof:
    """A comparison that is asked for: ``credential`` is the digest of user name and password, ``text`` the hash."""

    caller: str
    credential: bytes
    text: str
    password: bytes


class TooMany(Exception):
    """So many wait for a comparison that this one is not made: whoever asks has to come again."""


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
        self._behind = asyncio.Lock()  # for callers by whom somebody failed lately: who has it waits for a turn
        self._waiting: dict[str, int] = {}  # by caller
        self._suspects = 0  # of those who wait
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
        self._enter(proof.caller, failed_lately)
        try:
            found = await self._compared(proof, failed_lately)
        finally:
            self._leave(proof.caller, failed_lately)
        if found:
            self._right[known] = None
            if len(self._right) > REMEMBERED_MAXIMUM:
                self._right.popitem(last=False)
        return found

    def close(self) -> None:
        """End the worker; what it is at is not waited for."""
        if self._worker is not None:
            self._worker.shutdown(wait=False, cancel_futures=True)

    async def _compared(self, proof: Proof, failed_lately: bool) -> bool:
        until = self._monotonic() + PATIENCE_S
        if not failed_lately:
            return await self._in_turn(proof, until)
        async with self._behind:
            self._check_patience(until)
            return await self._in_turn(proof, until)

    async def _in_turn(self, proof: Proof, until: float) -> bool:
        async with self._turn:
            self._check_patience(until)
            rest_s = self._rested_at - self._monotonic()
            if rest_s > 0:
                await self._sleep(rest_s)
            begun = self._monotonic()
            try:
                return await self._work(is_password_of, proof.text, proof.password)
            finally:
                ended = self._monotonic()
                self._rested_at = ended + (ended - begun)

    def _check_patience(self, until: float) -> None:
        """Let who has waited for too long go without a comparison, so that the others have not waited in vain."""
        if self._monotonic() > until:
            raise TooMany

    async def _work(self, work: Callable[..., ResultT], *arguments: object) -> ResultT:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="chosen passwords")
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    def _enter(self, caller: str, failed_lately: bool) -> None:
        waiting, all_waiting = self._waiting.get(caller, 0), sum(self._waiting.values())
        if waiting >= (1 if failed_lately else WAITING_OF_ONE) or all_waiting >= WAITING_MAXIMUM:
            raise TooMany
        if failed_lately and self._suspects >= WAITING_MAXIMUM // 2:
            raise TooMany
        self._waiting[caller] = waiting + 1
        self._suspects += failed_lately

    def _leave(self, caller: str, failed_lately: bool) -> None:
        self._suspects -= failed_lately
        left = self._waiting[caller] - 1
        if left:
            self._waiting[caller] = left
        else:
            del self._waiting[caller]
