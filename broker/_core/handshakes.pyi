"""Handshakes of TLS, in turns. Native only: see ``handshakes.pxd``."""
