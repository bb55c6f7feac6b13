"""The rows about what has happened to devices, and about what they may do.

Here belong the rows. Not here: what a row is (``routes``) and what it does (``insight``).
"""

from __future__ import annotations

from api import insight, insight_models, models
from api.device_table import DEVICE
from api.routes import BASE_PATH, ApiRoute
from broker.errors import NotFound, PayloadTooLarge, Unavailable

ROUTES = (
    ApiRoute(
        "GET",
        DEVICE + "/timeline",
        insight.timeline,
        "Tell what has happened to a device, and what to do about it",
        query=insight_models.TimelineQuery,
        body=None,
        answer=insight_models.TimelineAnswer,
        status=200,
        errors=(NotFound, Unavailable),
        scope="devices:read",
    ),
    ApiRoute(
        "POST",
        BASE_PATH + "/policy/check",
        insight.check_policy,
        "Tell whether a publish or a subscription would get through, and which rule decides",
        query=models.Nothing,
        body=insight_models.PolicyCheckBody,
        answer=insight_models.PolicyCheckAnswer,
        status=200,
        errors=(NotFound, PayloadTooLarge),
        scope="devices:read",
        changes=False,
        body_maximum_bytes=256 * 1024,  # a topic of 65,535 bytes, all of it escaped
    ),
)
