"""The records of sessions on disk. Native only: see ``durable.pxd``."""
