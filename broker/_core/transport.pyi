"""How the bytes of one connection travel: plain, or by TLS. Native only: see ``transport.pxd``."""
