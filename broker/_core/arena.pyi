"""Memory that goes back to the system. Native only: see ``arena.pxd``."""
