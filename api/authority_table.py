"""The rows about authorities.

Here belong the rows. Not here: what a row is (``routes``) and what it does (``authorities``).
"""

from __future__ import annotations

from api import authorities, authority_models, models
from api.routes import BASE_PATH, ApiRoute
from broker.errors import Conflict, NotFound, PayloadTooLarge, QuotaExceeded, Unavailable

AUTHORITIES = BASE_PATH + "/authorities"
AUTHORITY = AUTHORITIES + "/{authority_id}"

ROUTES = (
    ApiRoute(
        "GET",
        AUTHORITIES,
        authorities.list_authorities,
        "List authorities",
        query=models.Nothing,
        body=None,
        answer=authority_models.AuthoritiesAnswer,
        status=200,
        scope="devices:read",
    ),
    ApiRoute(
        "POST",
        AUTHORITIES,
        authorities.create_authority,
        "Take an authority in",
        query=models.Nothing,
        body=authority_models.AuthorityBody,
        answer=authority_models.AuthorityAnswer,
        status=201,
        errors=(Conflict, QuotaExceeded, PayloadTooLarge, Unavailable),
        scope="devices:write",
    ),
    ApiRoute(
        "GET",
        AUTHORITY,
        authorities.get_authority,
        "Show an authority",
        query=models.Nothing,
        body=None,
        answer=authority_models.AuthorityAnswer,
        status=200,
        errors=(NotFound,),
        scope="devices:read",
    ),
    ApiRoute(
        "POST",
        AUTHORITY + "/verify",
        authorities.verify_authority,
        "Prove that an authority is the account's own",
        query=models.Nothing,
        body=authority_models.ProofBody,
        answer=authority_models.AuthorityAnswer,
        status=200,
        errors=(NotFound, Conflict, PayloadTooLarge, Unavailable),
        scope="devices:write",
    ),
    ApiRoute(
        "DELETE",
        AUTHORITY,
        authorities.revoke_authority,
        "Revoke an authority",
        query=models.Nothing,
        body=None,
        answer=None,
        status=204,
        errors=(NotFound, Unavailable),
        scope="devices:write",
    ),
)
