"""Linear hashing. Native only: see ``table.pxd``."""
