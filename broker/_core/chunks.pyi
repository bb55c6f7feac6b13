"""The chunks of messages that are on disk. Native only: see ``chunks.pxd``."""
