"""A batch as it is handed to the store. Native only: see ``sealing.pxd``."""
