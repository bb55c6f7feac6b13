"""The reactor's state. Native only: see ``net.pxd``."""
