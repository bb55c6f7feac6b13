"""The bodies, queries and answers below ``/v1/admin``.

Here belong fields, ranges and their refusals. Not here: what a request does (``admin``), and which plans, scopes and
patterns there are, which ``broker.admin`` judges.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from api.audit_models import AuditEntryAnswer, AuditQuery
from api.models import Answer, Body, PageQuery, WholeNumber
from broker.admin import parse_moment

NUMBER_MAXIMUM = 2**31 - 1
SCOPES_MAXIMUM = 20
PATTERNS_MAXIMUM = 100  # to be read; fewer are taken


def _moment(value: object) -> object:
    return parse_moment(value) if isinstance(value, str) else value


AccountNumber = Annotated[WholeNumber, Field(ge=1, le=NUMBER_MAXIMUM)]
Word = Annotated[str, Field(min_length=1, max_length=64)]
Moment = Annotated[int, BeforeValidator(_moment)]
KeyStatus = Literal["valid", "expired", "revoked"]


class AccountBody(Body):
    """POST /accounts."""

    name: Word
    plan: Word = "professional"
    durability: Word = "synced"
    queue_full_policy: Word = "default"


class AccountChangeBody(Body):
    """PATCH /accounts/{account_id}: what is named is changed."""

    plan: Word | None = None
    durability: Word | None = None
    queue_full_policy: Word | None = None
    suspended: bool | None = None

    @field_validator("plan", "durability", "queue_full_policy", "suspended", mode="before")
    @classmethod
    def _cannot_be_emptied(cls, value: object) -> object:
        if value is None:
            raise ValueError("a value, or the field left out")
        return value


class AccountAnswer(Answer):
    """An account; messages and bytes are what it has used of this month, in both directions."""

    account_id: int
    name: str
    plan: str
    durability: str
    queue_full_policy: str
    suspended: bool
    devices: int
    messages_this_month: int
    bytes_this_month: int
    created_at: str


class AccountsAnswer(Answer):
    """Part of the accounts, oldest first."""

    accounts: list[AccountAnswer]
    total: int
    limit: int
    offset: int


class PlanAnswer(Answer):
    """What an account on a plan may have."""

    name: str
    max_devices: int
    max_messages_per_month: int
    max_bandwidth_bytes_per_month: int
    max_message_bytes: int
    messages_per_second_per_device: int
    max_connections: int


class PlansAnswer(Answer):
    """All plans."""

    plans: list[PlanAnswer]


class KeysQuery(PageQuery):
    """Which keys, newest first."""

    account_id: AccountNumber | None = None


class KeyBody(Body):
    """POST /keys; ``scopes`` that are left out are all."""

    account_id: int = Field(ge=1, le=NUMBER_MAXIMUM)
    name: Word
    scopes: list[str] | None = Field(None, max_length=SCOPES_MAXIMUM)
    patterns: list[str] = Field([], max_length=PATTERNS_MAXIMUM)
    expires_at: Moment | None = None

    @field_validator("expires_at", mode="before")
    @classmethod
    def _is_written_as_a_moment(cls, value: object) -> object:
        if value is not None and not isinstance(value, str):
            raise ValueError("a moment in UTC such as 2030-01-31T12:00:00Z")
        return value


class KeyAnswer(Answer):
    """A key, never its text; ``last_used_at`` counts requests over HTTP and connects over MQTT."""

    key_id: int
    account_id: int
    account: str
    name: str
    scopes: list[str]
    patterns: list[str]
    status: KeyStatus
    created_at: str
    last_used_at: str | None
    expires_at: str | None
    revoked_at: str | None


class NewKeyAnswer(KeyAnswer):
    """A key that was made just now; its text is in this answer and in no other."""

    api_key: str = Field(repr=False)


class KeysAnswer(Answer):
    """Part of the keys, newest first."""

    keys: list[KeyAnswer]
    total: int
    limit: int
    offset: int


class AdminKeyAnswer(Answer):
    """An admin key, never its text."""

    key_id: int
    name: str
    status: KeyStatus
    created_at: str
    last_used_at: str | None
    expires_at: str | None
    revoked_at: str | None


class AdminKeysAnswer(Answer):
    """All admin keys, oldest first."""

    admin_keys: list[AdminKeyAnswer]


class AdminAuditQuery(AuditQuery):
    """Which part of the log; ``account_id`` 0 is what concerns no single account."""

    account_id: Annotated[WholeNumber, Field(ge=0, le=NUMBER_MAXIMUM)] | None = None


class AdminAuditEntryAnswer(AuditEntryAnswer):
    """One change; ``account_id`` is null where it concerns no single account."""

    account_id: int | None


class AdminAuditAnswer(Answer):
    """Part of all changes, newest first."""

    entries: list[AdminAuditEntryAnswer]
    total: int
    limit: int
    offset: int
