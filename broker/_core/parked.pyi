"""Messages that are on disk alone. Native only: see ``parked.pxd``."""
