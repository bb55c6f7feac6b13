"""The one route table: it makes the routing, the validation, and in time the description of the API by itself.

Here belongs the order of its parts. Not here: the rows (``*_table``), one module for each subject.
"""

from __future__ import annotations

from api import device_table, figure_table, insight_table, process_table

ROUTES = (*device_table.ROUTES, *figure_table.ROUTES, *insight_table.ROUTES, *process_table.ROUTES)
