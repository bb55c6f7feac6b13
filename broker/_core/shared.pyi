"""Choice of a member of a shared group. Native only: see ``shared.pxd``."""
