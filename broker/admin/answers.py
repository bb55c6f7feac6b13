"""Requests that may come again: the same Idempotency-Key with the same request gets the same answer, once done.

Here belong claiming a key, and keeping the answer beside what it tells of. Not here: how a request names its key and
how an answer looks (``api``), records and their bounds (``broker.accounts.answers``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgpack

from broker.accounts.answers import KeptAnswers
from broker.accounts.devices import alone
from broker.accounts.ledger import Companion
from broker.accounts.records import Device
from broker.admin.clock import Clock
from broker.errors import Conflict, Unavailable
from broker.policy.sealing import AnswerSeal

ToldT = TypeVar("ToldT")
Keeping = Callable[[ToldT], Companion]
"""Given what a change comes to, before it is on disk: what is committed with it."""

UNDER_WAY = "a request with this Idempotency-Key is under way"
ANOTHER = "another request had this Idempotency-Key"


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What was answered: a status, and the body's bytes, which may hold a secret."""

    status: int
    body: bytes = field(repr=False)


def kept_by(keeping: Keeping[ToldT] | None, told: Callable[[Device, str], ToldT]) -> Callable[[Device, str], Companion]:
    """Give what says, of a device and its new password, what is committed with them."""
    return (lambda device, password: keeping(told(device, password))) if keeping is not None else alone


class Answers:
    """Kept answers of all accounts, and the keys of requests that are under way."""

    def __init__(self, book: KeptAnswers, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._under_way: set[tuple[int, bytes]] = set()

    async def claim(self, account_id: int, api_key: str, idempotency_key: str, request: bytes) -> Claim | GivenAnswer:
        """Begin a request, or give its answer where it has been done. ``request`` is a digest of what it asks for.

        Raises ``Conflict`` while the same key's request is under way, and where it was another request; ``Unavailable``
        where an answer cannot be read now.
        """
        seal = AnswerSeal(api_key, idempotency_key)
        place = account_id, seal.name
        if place in self._under_way:
            raise Conflict(UNDER_WAY)
        if not self._book.is_kept(*place, self._clock.wall_s()):
            self._under_way.add(place)
            return Claim(self, account_id, seal, request)
        sealed = await self._book.read(*place)
        if sealed is None:  # it went meanwhile: a day is over
            raise Conflict(UNDER_WAY)
        try:
            asked, status, body = msgpack.unpackb(seal.open(sealed))
        except ValueError as error:  # somebody has changed the store
            raise Unavailable("the answer to this request cannot be read") from error
        if asked != request:
            raise Conflict(ANOTHER)
        return GivenAnswer(status, body)

    def keep(self, account_id: int, seal: AnswerSeal, request: bytes, answer: GivenAnswer) -> Companion:
        """Give what keeps an answer with the change that it tells of; the key is free again whatever becomes of it."""
        now_s = self._clock.wall_s()
        sealed = seal.seal(msgpack.packb([request, answer.status, answer.body]))
        changes = self._book.keep(account_id, seal.name, sealed, now_s)

        def committed() -> None:
            self._book.kept(account_id, changes, now_s)
            self.release(account_id, seal)

        return Companion(changes, committed, lambda: self.release(account_id, seal))

    def release(self, account_id: int, seal: AnswerSeal) -> None:
        """Let another request have the key."""
        self._under_way.discard((account_id, seal.name))


class Claim:
    """One request's right to its Idempotency-Key: kept with its answer, or given back."""

    def __init__(self, answers: Answers, account_id: int, seal: AnswerSeal, request: bytes) -> None:
        self._answers = answers
        self._account_id = account_id
        self._seal = seal
        self._request = request
        self.answer: GivenAnswer | None = None

    def keep(self, answer: GivenAnswer) -> Companion:
        """Give what has to be committed with the change that the answer tells of."""
        self.answer = answer
        return self._answers.keep(self._account_id, self._seal, self._request, answer)

    def give_back(self) -> None:
        """End a request that has changed nothing; of one that is being committed its commit decides."""
        if self.answer is None:
            self._answers.release(self._account_id, self._seal)
