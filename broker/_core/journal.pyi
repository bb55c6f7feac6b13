"""The journal's batch and the ring of promises. Native only: see ``journal.pxd``."""
