"""What waits for a session on disk alone. Native only: see ``parking.pxd``."""
