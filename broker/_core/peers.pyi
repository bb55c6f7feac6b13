"""Who is at the other end of each connection. Native only: see ``peers.pxd``."""
