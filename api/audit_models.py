"""The queries and answers about the audit log.

Here belong fields and ranges. Not here: what a request does (``audit``).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.models import Answer, PageQuery, WholeNumber

OFFSET_MAXIMUM = 100_000


class AuditQuery(PageQuery):
    """Which part of the log, newest first."""

    offset: Annotated[WholeNumber, Field(ge=0, le=OFFSET_MAXIMUM)] = 0


class ActorAnswer(Answer):
    """Who has done it; all but the type is null where it is not for the reader's eyes, or there is none."""

    type: str
    key_id: int | None
    name: str | None
    address: str | None


class AuditEntryAnswer(Answer):
    """One change; ``fields`` are the names of what was given."""

    at: str
    action: str
    target: str
    fields: list[str]
    actor: ActorAnswer
    request_id: str


class AuditAnswer(Answer):
    """Part of an account's changes, newest first; ``total`` is how many are kept."""

    entries: list[AuditEntryAnswer]
    total: int
    limit: int
    offset: int
