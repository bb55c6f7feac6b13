"""The one route table: it makes the routing, the validation, and the description of the API by itself.

Here belongs the order of its parts. Not here: the rows (``*_table``), one module for each subject.
"""

from __future__ import annotations

from api import (
    admin_table,
    audit_table,
    authority_table,
    bulk_table,
    claim_table,
    command_table,
    connections_table,
    device_table,
    figure_table,
    insight_table,
    process_table,
    webhook_table,
)
from api.description_table import described

ROUTES = described(
    (
        *bulk_table.ROUTES,
        *device_table.ROUTES,
        *command_table.ROUTES,
        *figure_table.ROUTES,
        *insight_table.ROUTES,
        *webhook_table.ROUTES,
        *claim_table.ROUTES,
        *authority_table.ROUTES,
        *audit_table.ROUTES,
        *admin_table.ROUTES,
        *connections_table.ROUTES,
        *process_table.ROUTES,
    )
)
