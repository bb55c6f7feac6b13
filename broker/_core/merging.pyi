"""Small chunks made one. Native only: see ``merging.pxd``."""
