"""Clients that the core does not know: an Authenticator is asked, each time in a task of its own.

Here belong deadlines, failures and cancellation of such questions. Not here: judging (``broker.accounts``, or an
embedder), and what a judgement does (``broker.engine``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from broker.assembly.core import Core
from broker.engine import Engine
from broker.local import LocalClients
from broker.net.shown import ShownCertificates
from broker.ports import (
    LOCAL_PRINCIPALS,
    OWN_PRINCIPALS,
    Authenticator,
    ConnectRequest,
    Grant,
    Observer,
    Refusal,
)
from broker.reasons import ReasonCode

log = logging.getLogger(__name__)

TELL_LATENESS_EVERY_S = 60.0


class Judging:
    """Lets ``authenticator`` judge who may come in; ``own`` says that it is an embedder's.

    ``engine`` takes the judgements, and answers all else that is rare; ``greet`` is called with the handles of those
    who want to be told figures below ``$SYS`` at once. An answer takes ``timeout_s`` at most: nobody
    waits any longer.
    """

    def __init__(
        self,
        core: Core,
        authenticator: Authenticator,
        local: LocalClients,
        shown: ShownCertificates,
        observer: Observer,
        *,
        own: bool,
        timeout_s: float,
    ) -> None:
        reactor = core.reactor
        self._reactor = reactor
        self._authenticator = authenticator
        self._local = local
        self._shown = shown
        self._own = own
        self._timeout_s = timeout_s
        self._lateness_told_at = -TELL_LATENESS_EVERY_S
        self.greet: Callable[[int], None] = _nobody
        self.engine = Engine(
            core.shard,
            self._ask,
            reactor.peer,
            observer,
            reactor.peer_certificate,
            lambda handle: self.greet(handle),
        )
        self.under_way: set[asyncio.Task[None]] = set()

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Let this run as one of the questions under way."""
        task = asyncio.get_running_loop().create_task(work)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def end(self) -> None:
        """Cancel all questions under way."""
        for task in self.under_way:
            task.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)

    def _ask(self, handle: int, request: ConnectRequest) -> None:
        if (grant := self._local.grant_of(handle)) is not None:
            self.engine.judged(handle, grant)
            return
        self.keep(self._decide(handle, request))

    async def _decide(self, handle: int, request: ConnectRequest) -> None:
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline:
                outcome = await self._authenticator.authenticate(request)
            if self._own:
                outcome = _judgement(outcome)
        except Exception:
            if deadline.expired():
                self._tell_lateness()  # an exception says nothing then, and late answers come in crowds
            else:
                log.exception("the authenticator failed")
            outcome = Refusal(ReasonCode.SERVER_UNAVAILABLE)
        try:
            self._enter(handle, request, outcome)
        except Exception:  # the connection was refused; who wrote the Authenticator must hear why
            log.exception("the authenticator gave a grant that cannot be kept")
        self._reactor.soon()

    def _tell_lateness(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._lateness_told_at + TELL_LATENESS_EVERY_S:
            self._lateness_told_at = now
            log.error("the authenticator did not answer within %g s", self._timeout_s)

    def _enter(self, handle: int, request: ConnectRequest, outcome: Grant | Refusal) -> None:
        certificate = request.certificate
        if certificate and self._shown.is_revoked(request.listener, certificate):  # since its handshake
            outcome = Refusal(ReasonCode.NOT_AUTHORIZED)
        self.engine.judged(handle, outcome)
        if certificate:
            self._shown.note(handle, request.listener, certificate)


def _nobody(_handle: int) -> None:
    """Greet nobody: there is nothing to be told yet."""


def _judgement(outcome: object) -> Grant | Refusal:
    """Return what an embedder's Authenticator answered, as the core takes it, or raise what is wrong with it."""
    if not isinstance(outcome, Grant | Refusal):
        raise TypeError(f"authenticate() has to return a Grant or a Refusal, not {outcome!r}")
    if isinstance(outcome, Refusal):
        return outcome
    number = OWN_PRINCIPALS + outcome.principal_id  # the directory gives numbers of its own
    if not OWN_PRINCIPALS <= number < LOCAL_PRINCIPALS:
        expected = f"0 to {LOCAL_PRINCIPALS - OWN_PRINCIPALS - 1}"
        raise ValueError(f"principal_id: expected {expected}, not {outcome.principal_id}")
    return replace(outcome, principal_id=number, credential=b"")  # the table is the directory's
