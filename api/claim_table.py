"""The rows about claim tokens.

Here belong the rows. Not here: what a row is (``routes``) and what it does (``claims``).
"""

from __future__ import annotations

from api import claim_models, claims, models
from api.routes import BASE_PATH, ApiRoute
from broker.errors import NotFound, PayloadTooLarge, QuotaExceeded, Unavailable

CLAIM_TOKENS = BASE_PATH + "/claim-tokens"
CLAIM_TOKEN = CLAIM_TOKENS + "/{claim_id}"

ROUTES = (
    ApiRoute(
        "GET",
        CLAIM_TOKENS,
        claims.list_claim_tokens,
        "List claim tokens",
        query=models.Nothing,
        body=None,
        answer=claim_models.ClaimsAnswer,
        status=200,
        scope="devices:read",
    ),
    ApiRoute(
        "POST",
        CLAIM_TOKENS,
        claims.create_claim_token,
        "Make a claim token",
        query=models.Nothing,
        body=claim_models.ClaimBody,
        answer=claim_models.NewClaimAnswer,
        status=201,
        errors=(QuotaExceeded, PayloadTooLarge, Unavailable),
        scope="devices:write",
    ),
    ApiRoute(
        "GET",
        CLAIM_TOKEN,
        claims.get_claim_token,
        "Show a claim token",
        query=models.Nothing,
        body=None,
        answer=claim_models.ClaimAnswer,
        status=200,
        errors=(NotFound,),
        scope="devices:read",
    ),
    ApiRoute(
        "DELETE",
        CLAIM_TOKEN,
        claims.revoke_claim_token,
        "Revoke a claim token",
        query=models.Nothing,
        body=None,
        answer=None,
        status=204,
        errors=(NotFound, Unavailable),
        scope="devices:write",
    ),
)
