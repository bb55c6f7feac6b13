"""The audit log as it is written at the doors and read by those whom it concerns.

Here belong the verbs. Not here: entries and where they stand (``broker.accounts.audit``), and which request is a change
(``api``, ``broker.control``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.accounts.audit import AuditEntry
from broker.accounts.deeds import INSTALLATION, Actor, Deed, doing
from broker.accounts.directory import Directory
from broker.admin.clock import Clock


@dataclass(frozen=True, slots=True)
class AuditView:
    """One change: who has done what to what, when (seconds of UTC) and from where.

    ``account_id`` is 0 for what concerns the installation. ``verb`` is a word such as ``create_device``, ``target`` an
    id, ``fields`` the names of what was given, never a value.
    """

    at: int
    account_id: int
    actor: Actor
    verb: str
    target: str
    fields: Sequence[str]


class AuditTrail:
    """Raises ``NotFound`` for an unknown account and ``Unavailable`` where the disk cannot be read."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    @asynccontextmanager
    async def deed(
        self, actor: Actor, verb: str, account_id: int = INSTALLATION, target: str = "", fields: Iterable[str] = ()
    ) -> AsyncIterator[None]:
        """Note what is changed inside the block as this actor's deed; what is refused or fails is none.

        The entry is on disk when the block ends: with the change itself where it is the directory's, else behind it.
        """
        deed = Deed(actor, verb, self._clock.wall_s(), account_id, target, tuple(sorted(fields)))
        with doing(deed):
            try:
                yield
            except Exception:  # it has failed: nothing that goes on by itself is this deed's any more
                deed.is_noted = True
                raise
        await self._directory.audit.note_late(deed)

    async def page(self, account_id: int | None, limit: int, offset: int) -> tuple[Sequence[AuditView], int]:
        """Show entries of one account, or all, the newest first, and how many there are.

        ``INSTALLATION`` stands for what concerns no single account.
        """
        if account_id:
            self._directory.accounts.get(account_id)
        found, total = await self._directory.audit.page(account_id, limit, offset)
        return [_view(entry) for entry in found], total


def _view(entry: AuditEntry) -> AuditView:
    actor = Actor(
        entry.actor_kind,  # type: ignore[arg-type]  # a later version may know more kinds
        entry.actor_number,
        entry.actor_name,
        entry.address,
        entry.request_id,
    )
    fields = entry.fields.split(",") if entry.fields else ()
    return AuditView(entry.at, entry.account_id, actor, entry.verb, entry.target, fields)
