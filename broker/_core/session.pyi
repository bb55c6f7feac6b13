"""Sessions: their table, queue, outbound inflight and quota. Native only: see ``session.pxd``."""
