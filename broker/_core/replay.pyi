"""What waits for a session. Native only: see ``replay.pxd``."""
