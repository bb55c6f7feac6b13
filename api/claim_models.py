"""Bodies and answers about claim tokens.

Here belong fields, ranges and their refusals. Not here: what a token does.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from api.admin_models import Moment, Word
from api.models import Answer, Body
from broker.admin import MOMENT_EXPECTED

Pattern = Annotated[str, Field(min_length=1, max_length=64)]
ClaimStatus = Literal["valid", "revoked", "expired", "used_up"]


class ClaimBody(Body):
    """POST /claim-tokens; without an end or a maximum it has none.

    ``type`` is what its devices are, ``device_id_pattern`` which ids they may have: ``*`` is any number of characters.
    """

    name: Word
    type: str = Field("other", min_length=1, max_length=64)
    device_id_pattern: Pattern = "*"
    uses_maximum: int | None = Field(None, ge=1, le=1_000_000_000)
    expires_at: Moment | None = None

    @field_validator("expires_at", mode="before")
    @classmethod
    def _is_written_as_a_moment(cls, value: object) -> object:
        if value is not None and not isinstance(value, str):
            raise ValueError(MOMENT_EXPECTED)
        return value


class RefusalAnswer(Answer):
    """The last device that was not registered, and why; ``device_id`` is null where what was said is no id."""

    at: str
    code: str
    message: str
    remedy: str | None
    device_id: str | None
    address: str | None


class ClaimAnswer(Answer):
    """A claim token, and how many devices it has registered; a time is null where it never was.

    ``last_refusal`` is known since the broker's start.
    """

    claim_id: str
    name: str
    status: ClaimStatus
    type: str
    device_id_pattern: str
    uses: int
    uses_maximum: int | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    last_refusal: RefusalAnswer | None


class NewClaimAnswer(ClaimAnswer):
    """A claim token that was made just now: ``secret`` is shown this once."""

    secret: str = Field(repr=False)


class ClaimsAnswer(Answer):
    """All claim tokens of an account that are on record, the newest first."""

    claim_tokens: list[ClaimAnswer]
