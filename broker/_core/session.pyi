"""Sessions: their table, and what few of them have. Native only: see ``session.pxd``."""
