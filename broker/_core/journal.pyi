"""The journal: messages and their deliveries as they are recorded and end. Native only: see ``journal.pxd``."""
