"""Records on disk. Native only: see ``records.pxd``."""
