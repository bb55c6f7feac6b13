"""Outbound packet identifiers, and what is kept until they are acknowledged. Native only: see ``inflight.pxd``."""
