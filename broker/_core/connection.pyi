"""Network connections without sockets. Native only: see ``connection.pxd``."""
