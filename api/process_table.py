"""The rows about the process itself, which need no key.

Here belong the rows. Not here: what a row is (``routes``) and what it does (``handlers``).
"""

from __future__ import annotations

from api import handlers, models
from api.routes import ApiRoute
from broker.errors import NotFound

ROUTES = (
    ApiRoute(
        "GET",
        "/healthz",
        handlers.health,
        "Tell that the process lives",
        query=models.Nothing,
        body=None,
        answer=models.HealthAnswer,
        status=200,
    ),
    ApiRoute(
        "GET",
        "/readyz",
        handlers.readiness,
        "Tell whether requests are taken",
        query=models.Nothing,
        body=None,
        answer=models.HealthAnswer,
        status=200,
        other_answers={503: models.NotReadyAnswer},
    ),
    ApiRoute(
        "GET",
        "/metrics",
        handlers.metrics,
        "Tell the broker's figures in Prometheus' text format",
        query=models.Nothing,
        body=None,
        answer=None,
        status=200,
        errors=(NotFound,),
        content_type="text/plain",
    ),
)
