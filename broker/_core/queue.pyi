"""What waits for a session in memory. Native only: see ``queue.pxd``."""
