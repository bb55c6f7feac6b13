"""The rows about quotas, usage and statistics.

Here belong the rows. Not here: what a row is (``routes``) and what it does (``figures``).
"""

from __future__ import annotations

from api import figure_models, figures, models
from api.routes import BASE_PATH, ApiRoute
from broker.errors import NotFound, Unavailable

ROUTES = (
    ApiRoute(
        "GET",
        BASE_PATH + "/quota",
        figures.quota,
        "Tell what the plan allows and what is used of it",
        query=models.Nothing,
        body=None,
        answer=figure_models.QuotaAnswer,
        status=200,
        scope="usage:read",
    ),
    ApiRoute(
        "GET",
        BASE_PATH + "/usage",
        figures.usage,
        "Tell what was used on each day of a period",
        query=figure_models.UsageQuery,
        body=None,
        answer=figure_models.UsageAnswer,
        status=200,
        errors=(NotFound, Unavailable),
        scope="usage:read",
    ),
    ApiRoute(
        "GET",
        BASE_PATH + "/stats",
        figures.stats,
        "Tell how the account stands at this moment",
        query=models.Nothing,
        body=None,
        answer=figure_models.StatsAnswer,
        status=200,
        errors=(Unavailable,),
        scope="usage:read",
    ),
)
