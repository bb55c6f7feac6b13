"""Bodies and answers about authorities.

Here belong fields, ranges and their refusals. Not here: what an authority does.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.admin_models import Word
from api.claim_models import Pattern, RefusalAnswer
from api.models import Answer, Body

Pem = Annotated[str, Field(min_length=1, max_length=16 * 1024)]
Names = Literal["subject", "san"]
AuthorityStatus = Literal["unproven", "active", "expired", "revoked"]


class AuthorityBody(Body):
    """POST /authorities: its certificate as PEM; ``names`` says which name of a certificate is the device."""

    name: Word
    certificate: Pem
    names: Names = "subject"
    type: str = Field("other", min_length=1, max_length=64)
    device_id_pattern: Pattern = "*"


class ProofBody(Body):
    """POST /authorities/{authority_id}/verify: its certificate for its ``verification_code``, as PEM."""

    certificate: Pem


class AuthorityAnswer(Answer):
    """An authority, and how many devices it has registered; a time is null where it never was.

    ``fingerprint`` is the SHA-256 of its certificate, ``last_refusal`` known since the broker's start.
    """

    authority_id: str
    name: str
    status: AuthorityStatus
    fingerprint: str
    verification_code: str
    names: Names
    type: str
    device_id_pattern: str
    uses: int
    created_at: str
    verified_at: str | None
    expires_at: str
    revoked_at: str | None
    last_used_at: str | None
    last_refusal: RefusalAnswer | None


class AuthoritiesAnswer(Answer):
    """All authorities of an account, the newest first."""

    authorities: list[AuthorityAnswer]
