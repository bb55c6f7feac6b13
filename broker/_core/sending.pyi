"""The way out, from outboxes to sockets. Native only: see ``sending.pxd``."""
